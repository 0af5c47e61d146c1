"""The episodes and tasks that the meta files of a LeRobot folder declare; they are read in a reading process."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobile_vla.data.sources.lerobot.errors import report_damage
from mobile_vla.data.sources.lerobot.tables import open_table
from mobile_vla.errors import DataError, MissingEpisodesError, UserError
from mobile_vla.text import first_few
from mobile_vla.untrusted.files import lines_of, parse_json

EPISODES_V2, EPISODES_V3 = "meta/episodes.jsonl", "meta/episodes"
TASKS_V2, TASKS_V3 = "meta/tasks.jsonl", "meta/tasks.parquet"

MAX_EPISODES = 1_000_000
_MAX_TEXT = 10_000

FIELD_PREFIX = "mobile_vla/"
"""What the columns of ``meta/episodes`` begin with that hold texts about an episode: lerobot passes over them."""

_REMEDY = "Copy the file again or remove it."


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One episode as the meta files declare it.

    ``data`` has the numbers of its parquet file (v3): chunk and file. ``videos`` has, by the key of a camera, the
    numbers of its video and the seconds from which and to which the episode is in it. ``fields`` are texts about it
    that ``export-data`` writes and lerobot does not.
    """

    index: int
    tasks: tuple[str, ...] = ()
    length: int | None = None
    data: tuple[int, int] | None = None
    videos: Mapping[str, tuple[int, int, float, float]] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)


def episodes_in_tables(folder: Path) -> Generator[None, None, list[Declared]]:
    """Return the episodes that v3 declares, in order; none where the files are empty or not there.

    It is called in a reading process; each yield reports progress. Raises ``DataError`` where a file cannot be used.
    """
    episodes: dict[int, Declared] = {}
    for path in sorted(path for path in (folder / EPISODES_V3).rglob("*.parquet") if path.stat().st_size):
        # The statistics of each episode are most of such a file; they are not read (see ``source``).
        for row in _rows(path, lambda name: not name.startswith(("stats/", "meta/"))):
            _add(episodes, _from_v3(row, path), path)
            if len(episodes) % 1000 == 0:
                yield
    return [episodes[index] for index in sorted(episodes)]


def episodes_in_lines(folder: Path) -> list[Declared]:
    """Return the episodes that v2 declares, in order; none where the file is empty or not there.

    Raises ``DataError`` where it cannot be used.
    """
    episodes: dict[int, Declared] = {}
    for place, entry in _lines(folder / EPISODES_V2):
        _add(episodes, _from_v2(entry, place), place)
    return [episodes[index] for index in sorted(episodes)]


def read_tasks(folder: Path) -> dict[int, str]:
    """Return the text of each task by its number; none where the meta files are empty or not there."""
    tasks = {}
    if (folder / TASKS_V3).is_file() and (folder / TASKS_V3).stat().st_size:
        path = folder / TASKS_V3
        for row in _rows(path, lambda name: True):
            # pandas names the text's column so where the index that held it had no name.
            text = row.get("task", row.get("__index_level_0__"))
            tasks[_number(row.get("task_index"), f"{path}: task_index")] = _text(text, f"{path}: task")
        return tasks
    for place, entry in _lines(folder / TASKS_V2):
        tasks[_number(entry.get("task_index"), f"{place}: task_index")] = _text(entry.get("task"), f"{place}: task")
    return tasks


def not_there(folder: Path, missing: Sequence[int], num_declared: int) -> MissingEpisodesError:
    """Return one error for all declared episodes whose table is missing, with their numbers as ranges."""
    ranges: list[list[int]] = []
    for index in missing:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    texts = [str(first) if first == last else f"{first}..{last}" for first, last in ranges]
    return MissingEpisodesError(
        f"{folder}: {len(missing)} of the {num_declared} episodes that its meta files declare are not there: "
        f"{first_few(texts, limit=20)}. Copy their files.",
        num_episodes=len(missing),
    )


def _add(episodes: dict[int, Declared], episode: Declared, place: object) -> None:
    if episode.index in episodes:
        raise DataError(f"{place}: declares episode {episode.index} a second time. Remove one of the entries.")
    if len(episodes) >= MAX_EPISODES:
        raise DataError(f"{place}: declares more than {MAX_EPISODES:,} episodes. {_REMEDY}")
    episodes[episode.index] = episode


def _from_v2(entry: Mapping[str, Any], place: str) -> Declared:
    length = entry.get("length")
    return Declared(
        index=_number(entry.get("episode_index"), f"{place}: episode_index"),
        tasks=_texts(entry.get("tasks"), f"{place}: tasks"),
        length=None if length is None else _number(length, f"{place}: length"),
    )


def _from_v3(row: Mapping[str, Any], path: Path) -> Declared:
    index = _number(row.get("episode_index"), f"{path}: episode_index")
    place = f"{path}: episode {index}"
    videos = {}
    for name in row:
        if not (name.startswith("videos/") and name.endswith("/file_index")):
            continue
        start = name.removesuffix("file_index")
        if row[name] is None:
            continue
        numbers = [_number(row.get(start + part), f"{place}: {start}{part}") for part in ("chunk_index", "file_index")]
        seconds = [
            _seconds(row.get(start + part), f"{place}: {start}{part}") for part in ("from_timestamp", "to_timestamp")
        ]
        videos[start.removeprefix("videos/").removesuffix("/")] = (numbers[0], numbers[1], seconds[0], seconds[1])
    return Declared(
        index=index,
        tasks=_texts(row.get("tasks"), f"{place}: tasks"),
        length=None if row.get("length") is None else _number(row["length"], f"{place}: length"),
        data=(
            _number(row.get("data/chunk_index"), f"{place}: data/chunk_index"),
            _number(row.get("data/file_index"), f"{place}: data/file_index"),
        ),
        videos=videos,
        fields={
            name.removeprefix(FIELD_PREFIX): _text(text, f"{place}: {name}")
            for name, text in row.items()
            if name.startswith(FIELD_PREFIX) and text is not None
        },
    )


def _rows(path: Path, is_read: Any) -> Generator[dict[str, Any], None, None]:
    """Yield the rows of a parquet file as dictionaries, with the columns that ``is_read`` names."""
    with open_table(path) as table, report_damage(path, "is truncated, corrupt or not parquet"):
        names = [name for name in table.schema_arrow.names if is_read(name)]
        for batch in table.iter_batches(1000, columns=names, use_threads=False):
            yield from batch.select([name for name in names if name in batch.schema.names]).to_pylist()


def _lines(path: Path) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Yield the place and the object of each line that is not empty; nothing where there is no file."""
    try:
        with report_damage(path, "cannot be read"):
            for place, line in lines_of(path):
                if not line.strip():
                    continue
                entry = parse_json(line, place=place)
                if not isinstance(entry, dict):
                    raise DataError(f"{place}: is no object; expected one as lerobot writes it. {_REMEDY}")
                yield place, entry
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return
        raise
    except UserError as error:
        raise DataError(f"{error}. {_REMEDY}") from error


def _number(value: Any, place: str) -> int:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if type(value) is not int or not 0 <= value < 2**40:
        raise DataError(f"{place} is {str(value)[:40]!r}; expected a whole number. {_REMEDY}")
    return value


def _seconds(value: Any, place: str) -> float:
    if not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise DataError(f"{place} is {str(value)[:40]!r}; expected seconds. {_REMEDY}")
    return float(value)


def _texts(value: Any, place: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    return tuple(_text(text, place) for text in value) if isinstance(value, list) else ()


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise DataError(
            f"{place} is {str(value)[:40]!r}; expected a text of at most {_MAX_TEXT:,} characters. {_REMEDY}"
        )
    return value.strip()
