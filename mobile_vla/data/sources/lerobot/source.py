"""The source of LeRobot folders, versions 2.0, 2.1 and 3.0.

The files are read, never the package ``lerobot``, which needs another version of torch. The statistics beside the
recordings (``stats.json``, ``episodes_stats.jsonl``) are not read: they are over all episodes, and a normaliser that is
made of them knows the episodes that a policy is measured on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import MAX_FRAMES, Found, RecordedTexts, Recording, RecordingFile
from mobile_vla.data.sources.lerobot.cameras import Place, read_pictures, read_video
from mobile_vla.data.sources.lerobot.declared import read_tasks
from mobile_vla.data.sources.lerobot.images import decoded, pictures_in_files, pictures_in_table
from mobile_vla.data.sources.lerobot.info import Info, read_info
from mobile_vla.data.sources.lerobot.rows import Rows, read_rows
from mobile_vla.data.sources.lerobot.search import find_recordings
from mobile_vla.data.sources.lerobot.signals import Roles, roles_of
from mobile_vla.data.sources.lerobot.tables import columns_of, episode_spans, open_table
from mobile_vla.data.sources.lerobot.video import OpenVideos, decode_frames, open_video
from mobile_vla.errors import DataError
from mobile_vla.spec import Camera, Spec
from mobile_vla.text import shortened

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


@dataclass(frozen=True, kw_only=True)
class LeRobotSource:
    """The episodes of the data set in ``folder``; ``order`` lists the places that are searched for an instruction.

    ``Recording.part`` has the ``rows`` of the episode in its table, and for each camera the index in
    ``Recording.files`` of its first file and how its frames are stored: in a video (the ``span`` of the episode in
    seconds, None where it is the whole video; ``step_s``, the time between two frames), in a ``column`` of the table,
    or as a number of ``pictures``, one file each.
    """

    folder: Path
    order: tuple[str, ...] = ("file",)

    states_channel_order: ClassVar[bool] = False

    def find(self) -> Found:
        """See ``Source``."""
        return find_recordings(self.folder)

    def read(self, file: RecordingFile) -> Generator[None, None, list[Recording | DataError]]:
        """See ``Source``."""
        return _read_file(self.folder, file, order=self.order)

    def frames(self, recording: Recording, camera: str) -> Iterator[NDArray[np.uint8]]:
        """See ``Source``."""
        place = recording.part["cameras"][camera]
        first = place["first_file"]
        if "span" in place:
            path = recording.files[first]
            span = None if place["span"] is None else (place["span"][0], place["span"][1])
            with open_video(path, named=f"{recording.path}: {path.name}") as video:
                yield from decode_frames(video, span, step_s=place["step_s"], num_frames=recording.num_frames)
            return
        if "column" in place:
            rows = (recording.part["rows"][0], recording.part["rows"][1])
            pictures = pictures_in_table(recording.path, place["column"], rows)
        else:
            pictures = pictures_in_files(recording.files[first : first + place["pictures"]], recording.path)
        size = next((entry.columns, entry.rows) for entry in recording.spec.cameras if entry.name == camera)
        yield from decoded(pictures, size=size, num_frames=recording.num_frames)


@dataclass(kw_only=True)
class _Opened:
    """What the episodes of one file share while they are read."""

    folder: Path
    path: Path
    order: Sequence[str]
    info: Info
    table: ParquetFile
    columns: Sequence[str]
    roles: Roles
    cameras: Sequence[Mapping[str, str]]
    is_single: bool
    videos: OpenVideos
    tasks: dict[int, str] | None = None


def _read_file(
    folder: Path, file: RecordingFile, *, order: Sequence[str]
) -> Generator[None, None, list[Recording | DataError]]:
    """Return the recordings of ``file``, with an error in place of each that cannot be used.

    ``order`` lists the places that are searched for an instruction. Each yield reports progress. Raises ``DataError``
    where nothing of the file can be used.
    """
    path, arguments = file.path, file.arguments
    info = read_info(folder) or Info()
    found: list[Recording | DataError] = []
    with open_table(path) as table, closing(OpenVideos()) as videos:
        columns = columns_of(table, path)
        opened = _Opened(
            folder=folder,
            path=path,
            order=order,
            info=info,
            table=table,
            columns=[column.name for column in columns],
            roles=roles_of(columns, info, place=str(path)),
            cameras=arguments["cameras"],
            is_single=arguments["is_single"],
            videos=videos,
        )
        spans = None if opened.is_single else (yield from episode_spans(table, path))
        for episode in arguments["episodes"]:
            span = (0, table.metadata.num_rows) if spans is None else spans.get(episode["index"], (0, 0))
            try:
                found.append((yield from _read_episode(opened, episode, span)))
            except DataError as problem:
                text = str(problem).removeprefix(f"{path}: ")
                text = text if opened.is_single else f"episode {episode['index']}: {text}"
                found.append(type(problem)(f"{path}: {text}"))
            yield
    return found


def _read_episode(
    opened: _Opened, episode: Mapping[str, Any], span: tuple[int, int]
) -> Generator[None, None, Recording]:
    path, index, num_rows = opened.path, episode["index"], span[1] - span[0]
    if not 2 <= num_rows <= MAX_FRAMES:
        raise DataError(
            f"{path}: holds {num_rows} row(s); expected 2 to {MAX_FRAMES:,}. Cut the episode, or remove it."
        )
    rows = yield from read_rows(opened.table, path, span, roles=opened.roles, columns=opened.columns, info=opened.info)
    notes = [*rows.notes, *_contradictions(opened, episode, rows), *_unread(opened)]
    text, note = _task_of(opened, episode, rows)
    notes += [note] if note else []
    files, places, cameras = [path], {}, []
    for camera in opened.cameras:
        place = yield from _read_camera(opened, camera, episode, span, rows)
        cameras.append(Camera(name=camera["name"], rows=place.size[0], columns=place.size[1]))
        places[camera["name"]] = {**place.part, "first_file": len(files)}
        files += place.files
        notes += place.notes
    split = opened.info.split_of(index)
    return Recording(
        name=f"episode_{index:06d}",
        path=path,
        files=tuple(files),
        part={"rows": list(span), "cameras": places},
        spec=Spec(actions=rows.action_signals, state=rows.state_signals, cameras=tuple(cameras), rate_hz=rows.rate_hz),
        actions=rows.actions,
        state=rows.state,
        texts=RecordedTexts(key=text, place="task of the episode" if text else ""),
        fields={**({} if split is None else {"split": split}), **episode["fields"]},
        notes=tuple(notes),
    )


def _read_camera(
    opened: _Opened, camera: Mapping[str, str], episode: Mapping[str, Any], span: tuple[int, int], rows: Rows
) -> Generator[None, None, Place]:
    folder, path, key = opened.folder, opened.path, camera["key"]
    if camera["kind"] == "video":
        told = episode["videos"].get(key)
        if told is None:
            raise DataError(f"{path}: has no video of the camera '{camera['name']}'. Copy it, or remove the episode.")
        return (
            yield from read_video(opened.videos, folder, path, camera=camera, told=told, rows=rows, info=opened.info)
        )
    in_table = key in opened.columns
    return (
        yield from read_pictures(
            opened.table, folder, path, key=key, in_table=in_table, episode=episode["index"], span=span, rows=rows
        )
    )


def _unread(opened: _Opened) -> list[str]:
    pictures = set(opened.roles.pictures) - {camera["key"] for camera in opened.cameras}
    names = sorted({*opened.roles.unread, *pictures})
    return [f"columns that are not read: {shortened(names, limit=8)}"] if names else []


def _contradictions(opened: _Opened, episode: Mapping[str, Any], rows: Rows) -> list[str]:
    """Return what the meta files or the file's name say otherwise than the rows.

    Raises ``DataError`` where a table of one episode holds rows of several.
    """
    found = []
    if episode["length"] not in (None, len(rows.actions)):
        found.append("the meta files declare another number of rows than there are")
    if opened.is_single and rows.episode_index is not None:
        if (rows.episode_index != rows.episode_index[0]).any():
            raise DataError(f"{opened.path}: holds rows of several episodes; expected those of one. Split the file.")
        if rows.episode_index[0] != episode["index"]:
            found.append(
                "the number in the file's name is not the episode_index of its rows; that of the name is taken"
            )
    return found


def _task_of(opened: _Opened, episode: Mapping[str, Any], rows: Rows) -> tuple[str | None, str | None]:
    """Return the text of the episode's task, or None, and a note where the meta files contradict each other.

    The column ``task_index`` decides, as in lerobot; the episode's own list of tasks where it leads to no text.
    """
    if "file" not in opened.order:
        return None, None
    own = list(dict.fromkeys(text for text in episode["tasks"] if text))
    texts, note = own, None
    if rows.task_index is not None:
        if opened.tasks is None:
            opened.tasks = read_tasks(opened.folder)
        used = rows.task_index[np.isfinite(rows.task_index)].tolist()
        texts = list(dict.fromkeys(text for number in dict.fromkeys(used) if (text := opened.tasks.get(int(number)))))
        if texts and own and set(texts) != set(own):
            note = "the task of the rows is not that of the episode's own list; that of the rows is taken"
        texts = texts or own
    if not texts:
        note = "no task is recorded: meta/tasks.* is empty or absent, or has no text for the episode"
    if len(texts) > 1:
        shown = " and ".join(repr(text[:40]) for text in texts[:2])
        raise DataError(
            f"{opened.path}: has {len(texts)} tasks, such as {shown}; expected one. Split the episode, or leave 'file' "
            "out of dataset.instruction.order."
        )
    return (texts[0] if texts else None), note
