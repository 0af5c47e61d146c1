"""The search for the episodes of a LeRobot folder: those that its meta files declare, at the places where they are."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.contract import Found, RecordingFile
from mobile_vla.data.sources.lerobot.declared import EPISODES_V2, EPISODES_V3, Declared, declared_episodes
from mobile_vla.data.sources.lerobot.info import INFO, Info, read_info
from mobile_vla.data.sources.lerobot.places import Files, find_file, list_files, short_key
from mobile_vla.data.sources.lerobot.signals import roles_of
from mobile_vla.data.sources.lerobot.tables import Column, describe_columns, episode_spans, open_table
from mobile_vla.errors import DataError
from mobile_vla.spec import clean_names
from mobile_vla.text import first_few

_EPISODE_FILE = re.compile(r"episode_(\d{1,12})")

_MAX_TOGETHER, _MAX_ROWS_TOGETHER = 64, 100_000
"""Maximum number of episodes, and of their declared rows, that one request reads, so that the answer stays small."""

_MAX_TRIED = 8
"""Maximum number of tables that are opened to see the columns; the first is enough unless it is damaged."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One episode at its place: paths in the folder. ``is_single`` is whether the table holds nothing else.

    ``videos`` has, by the key of a camera, the ``file`` and the ``span`` in seconds; None: the whole video.
    """

    index: int
    table: str
    is_single: bool
    tasks: tuple[str, ...]
    length: int | None
    videos: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class CameraPlace:
    """A camera: the key of its feature, its name, and how its frames are stored."""

    key: str
    name: str
    kind: Literal["video", "column", "files"]


def find_recordings(folder: Path) -> Found:
    """Return the tables of the folder's episodes; see ``Source.find``.

    Of the tables, only the columns are read. Declared episodes that are not there are one error with their numbers.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give dataset.path the folder that holds meta and data.")
    info = read_info(folder)
    files = list_files(folder)
    problems, warnings = list(files.problems), []
    declared = ask(_declared_in, folder)
    if info is None or not declared:
        lacking = INFO if info is None else f"{EPISODES_V2} or {EPISODES_V3}"
        warnings.append(f"{folder}: {lacking} is empty or not there; what the files themselves show is taken")
    info = info or Info()
    if not files.data_paths:
        raise DataError(
            f"{folder}: holds no parquet file{_after(problems)}. Give the folder "
            "that holds meta and data of a LeRobot data set."
        )
    columns = _columns(folder, files)
    keys = _camera_keys(info, columns)
    if declared:
        placed, missing = _place(declared, info, files, keys)
        if missing:
            problems.append(_missing(folder, missing, len(declared)))
        warnings += _left_out(files, placed)
    else:
        placed = _place_found(folder, files, keys, problems)
    if not placed:
        raise DataError(f"{folder}: none of its episodes is there{_after(problems)}.")
    cameras, more = _cameras(folder, info, keys, columns, placed)
    warnings += [*more, *_elsewhere(info, placed)]
    warnings += _unread(columns, info)
    requests = [
        RecordingFile(
            path=folder / group[0].table,
            files=(folder / group[0].table,),
            arguments={
                "is_single": group[0].is_single,
                "cameras": [asdict(camera) for camera in cameras],
                "episodes": [
                    {"index": e.index, "tasks": list(e.tasks), "length": e.length, "videos": dict(e.videos)}
                    for e in group
                ],
            },
        )
        for group in _groups(placed)
    ]
    return Found(files=requests, problems=problems, warnings=warnings)


def _unread(columns: Sequence[Column], info: Info) -> list[str]:
    try:
        unread = roles_of(columns, info, place="").unread
    except DataError:  # no actions: the error when the tables are read will say so, with the columns of each
        return []
    return [f"columns that are not read: {first_few(unread, limit=8)}"] if unread else []


def _after(problems: Sequence[DataError]) -> str:
    return "".join(f"; {problem}" for problem in problems[:3])


def _declared_in(folder: Path) -> Generator[None, None, list[Declared]]:  # called in a reading process
    return (yield from declared_episodes(folder))


def _columns(folder: Path, files: Files) -> list[Column]:
    """Return the columns of the first table that can be read; none where none can, which reading them reports."""
    for path in files.data_paths[:_MAX_TRIED]:
        try:
            return ask(describe_columns, folder / path)
        except DataError:
            continue
    return []


def _camera_keys(info: Info, columns: Sequence[Column]) -> list[str]:
    declared = [key for key, feature in info.features.items() if feature.dtype in ("video", "image")]
    return [*declared, *(c.name for c in columns if c.kind == "picture" and c.name not in declared)]


def _place(
    declared: Sequence[Declared], info: Info, files: Files, keys: Sequence[str]
) -> tuple[list[Placed], list[int]]:
    """Return the declared episodes whose table is there, and the numbers of the others."""
    placed, missing = [], []
    for episode in declared:
        if episode.data is not None:
            numbers = {"chunk_index": episode.data[0], "file_index": episode.data[1]}
        else:
            numbers = {"episode_index": episode.index, "episode_chunk": episode.index // info.chunks_size}
        table = find_file(files, info.data_path, fields=numbers)
        if table is None:
            missing.append(episode.index)
            continue
        videos = {}
        for key in keys:
            if episode.data is None:
                file, span = find_file(files, info.video_path, fields=numbers, key=key), None
            elif key in episode.videos:
                chunk, number, start_s, end_s = episode.videos[key]
                fields = {"chunk_index": chunk, "file_index": number}
                file, span = find_file(files, info.video_path, fields=fields, key=key), [start_s, end_s]
            else:
                continue
            if file is not None:
                videos[key] = {"file": file, "span": span}
        placed.append(
            Placed(
                index=episode.index,
                table=table,
                is_single=episode.data is None,
                tasks=episode.tasks,
                length=episode.length,
                videos=videos,
            )
        )
    return placed, missing


def _place_found(folder: Path, files: Files, keys: Sequence[str], problems: list[DataError]) -> list[Placed]:
    """Return the episodes that the tables hold, where no meta file declares any.

    A table named ``episode_N`` is that episode; the rows of others say their episode. A video named so belongs to it.
    """
    placed = []
    for table in files.data_paths:
        named = _EPISODE_FILE.fullmatch(PurePosixPath(table).stem)
        try:
            indices = [int(named[1])] if named else ask(_episodes_in, folder / table)
        except DataError as problem:
            problems.append(problem)
            continue
        for index in indices:
            found = {key: find_file(files, None, fields={"episode_index": index}, key=key) for key in keys}
            videos = {key: {"file": file, "span": None} for key, file in found.items() if file is not None}
            placed.append(Placed(index=index, table=table, is_single=bool(named), tasks=(), length=None, videos=videos))
    return placed


def _episodes_in(path: Path) -> Generator[None, None, list[int]]:  # called in a reading process
    with open_table(path) as table:
        return list((yield from episode_spans(table, path)))


def _cameras(
    folder: Path, info: Info, keys: Sequence[str], columns: Sequence[Column], placed: Sequence[Placed]
) -> tuple[list[CameraPlace], list[str]]:
    """Return the cameras with frames, and warnings about the others; raises ``DataError`` where none has any."""
    pictures = {column.name for column in columns if column.kind == "picture"}
    found, warnings = [], []
    for key in keys:
        feature = info.features.get(key)
        if feature is not None and feature.is_depth:
            warnings.append(f"the camera '{short_key(key)}' is left out: it holds depth, not colour")
        elif key in pictures:
            found.append((key, "column"))
        elif any(key in episode.videos for episode in placed):
            found.append((key, "video"))
        elif (folder / "images" / key).is_dir():
            found.append((key, "files"))
        else:
            warnings.append(
                f"the camera '{short_key(key)}' is left out: {INFO} declares it, and no file of it is there"
            )
    if not found:
        raise DataError(
            f"{folder}: has no frames of a camera{''.join(f'; {warning}' for warning in warnings)}. "
            "Copy its videos or images."
        )
    names = clean_names(short_key(key) for key, _ in found)
    return [
        CameraPlace(key=key, name=name, kind=kind) for name, (key, kind) in zip(names, found, strict=True)
    ], warnings


def _groups(placed: Sequence[Placed]) -> Iterable[list[Placed]]:
    """Yield the episodes that are read together: neighbours in one table, as many as one answer should hold."""
    for _, together in groupby(sorted(placed, key=lambda e: (e.table, e.index)), key=lambda e: e.table):
        group: list[Placed] = []
        for episode in together:
            rows = sum(e.length or 0 for e in group) + (episode.length or 0)
            if group and (len(group) >= _MAX_TOGETHER or rows > _MAX_ROWS_TOGETHER):
                yield group
                group = []
            group.append(episode)
        yield group


def _missing(folder: Path, missing: Sequence[int], num_declared: int) -> DataError:
    ranges: list[list[int]] = []
    for index in missing:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    texts = [str(first) if first == last else f"{first}..{last}" for first, last in ranges]
    return DataError(
        f"{folder}: {len(missing)} of the {num_declared} episodes that its meta files declare are not there: "
        f"{first_few(texts, limit=20)}. Copy their files."
    )


def _left_out(files: Files, placed: Sequence[Placed]) -> list[str]:
    extra = sorted(set(files.data_paths) - {episode.table for episode in placed})
    return (
        [f"{len(extra)} parquet file(s) hold no declared episode and are left out: {first_few(extra)}"] if extra else []
    )


def _elsewhere(info: Info, placed: Sequence[Placed]) -> list[str]:
    """Return a warning where videos are in another folder than ``info.json`` says."""
    if info.video_path is None:
        return []
    said = PurePosixPath(info.video_path).parts[0]
    files = [video["file"] for episode in placed for video in episode.videos.values()]
    found = sorted({PurePosixPath(file).parts[0] for file in files} - {said})
    return [f"info.json says that videos are in {said}/, and they are in {found[0]}/"] if found else []
