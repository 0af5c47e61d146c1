"""The search for the episodes of a LeRobot folder: those that its meta files declare, at the places where they are."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.contract import Found, RecordingFile
from mobile_vla.data.sources.lerobot.cameras import CameraPlace, camera_folders, cameras_of, pictures_in
from mobile_vla.data.sources.lerobot.declared import (
    EPISODES_V2,
    EPISODES_V3,
    TASKS_V2,
    TASKS_V3,
    Declared,
    episodes_in_lines,
    episodes_in_tables,
    not_there,
)
from mobile_vla.data.sources.lerobot.info import INFO, Info, read_info
from mobile_vla.data.sources.lerobot.places import (
    Files,
    elsewhere,
    find_file,
    has_shared_videos,
    list_files,
    short_key,
    status_of,
)
from mobile_vla.data.sources.lerobot.tables import episode_spans, open_table
from mobile_vla.errors import DataError
from mobile_vla.text import first_few

_EPISODE_FILE = re.compile(r"episode_(\d{1,12})")

_MAX_TOGETHER, _MAX_ROWS_TOGETHER = 64, 100_000
"""Maximum number of episodes, and of their declared rows, that one request reads, so that the answer stays small."""


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
    fields: Mapping[str, str] = field(default_factory=dict)


def find_recordings(folder: Path) -> Found:
    """Return the tables of the folder's episodes; see ``Source.find``.

    Of the tables, only the columns are read. Declared episodes that are not there are one error with their numbers.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give dataset.path the folder that holds meta and data.")
    info = read_info(folder)
    files = list_files(folder)
    problems, warnings = list(files.problems), []
    declared = ask(_declared_in_tables, folder) if (folder / EPISODES_V3).is_dir() else episodes_in_lines(folder)
    if info is None or not declared:
        lacking = INFO if info is None else EPISODES_V3 if info.is_v3 else EPISODES_V2
        warnings.append(f"{folder}: {lacking} is empty or not there; what the files themselves show is taken")
    info = info or Info()
    if not files.tables:
        raise DataError(
            f"{folder}: holds no parquet file{_after(problems)}. Give the folder that holds meta and data of a LeRobot "
            "data set."
        )
    keys = [key for key, feature in info.features.items() if feature.dtype in ("video", "image")]
    if not keys:
        keys = list(dict.fromkeys([*pictures_in(folder, files), *camera_folders(folder, files)]))
        if keys:
            found = ", ".join(map(short_key, keys))
            warnings.append(f"{folder}: {INFO} declares no camera; those of the files are read: {found}")
    if declared:
        placed, missing = _place(declared, info, files, keys)
        if missing:
            problems.append(not_there(folder, missing, len(declared)))
        warnings += _left_out(files, placed)
    else:
        placed = _place_found(folder, files, keys, problems)
    if not placed:
        raise DataError(f"{folder}: none of its episodes is there{_after(problems)}.")
    declares_video = any(info.features[key].dtype == "video" for key in keys if key in info.features)
    if not declared and ((info.is_v3 and declares_video) or has_shared_videos(files, keys)):
        raise DataError(
            f"{folder}: {EPISODES_V3} is empty or not there, and in LeRobot {info.version or 'v3'} only it says which "
            "part of which video belongs to an episode. Copy it."
        )
    with_video = {key for episode in placed for key in episode.videos}
    cameras, more = cameras_of(folder, info, keys, files, with_video)
    videos = [video["file"] for episode in placed for video in episode.videos.values()]
    warnings += [*more, *elsewhere(videos, template=info.video_path)]
    return Found(files=_requests(folder, placed, cameras), problems=problems, warnings=warnings)


def _requests(folder: Path, placed: Sequence[Placed], cameras: Sequence[CameraPlace]) -> list[RecordingFile]:
    paths: dict[str, Path] = {}  # a path is made once: making it takes longer than all else here

    def path_of(name: str) -> Path:
        if name not in paths:
            paths[name] = Path(f"{folder}/{name}")
        return paths[name]

    meta = status_of([folder / name for name in (INFO, TASKS_V2, TASKS_V3)])
    listed = [asdict(camera) for camera in cameras]
    requests = []
    for group in _groups(placed):
        names = dict.fromkeys(video["file"] for episode in group for video in episode.videos.values())
        if any(camera.kind == "pictures" for camera in cameras):  # a folder's times change with the files in it
            names |= dict.fromkeys(
                f"images/{camera.key}/episode{separator}{episode.index:06d}"
                for camera in cameras
                for separator in ("_", "-")
                for episode in group
                if os.path.isdir(f"{folder}/images/{camera.key}/episode{separator}{episode.index:06d}")
            )
        episodes = [
            {
                "index": e.index,
                "tasks": list(e.tasks),
                "length": e.length,
                "videos": dict(e.videos),
                "fields": dict(e.fields),
            }
            for e in group
        ]
        requests.append(
            RecordingFile(
                path=path_of(group[0].table),
                files=(path_of(group[0].table), *map(path_of, names)),
                arguments={
                    "is_single": group[0].is_single,
                    "cameras": listed,
                    "episodes": episodes,
                    "meta": meta,
                },
            )
        )
    return requests


def _after(problems: Sequence[DataError]) -> str:
    return "".join(f"; {problem}" for problem in problems[:3])


def _declared_in_tables(folder: Path) -> Generator[None, None, list[Declared]]:  # called in a reading process
    return (yield from episodes_in_tables(folder))


def _place(
    declared: Sequence[Declared], info: Info, files: Files, keys: Sequence[str]
) -> tuple[list[Placed], list[int]]:
    """Return the declared episodes whose table is there, and the numbers of the others."""

    @cache  # of v3, many episodes have the same files
    def found(template: str | None, key: str | None, *numbers: tuple[str, int]) -> str | None:
        return find_file(files, template, fields=dict(numbers), key=key)

    placed, missing = [], []
    for episode in declared:
        if episode.data is not None:
            numbers = (("chunk_index", episode.data[0]), ("file_index", episode.data[1]))
        else:
            numbers = (("episode_index", episode.index), ("episode_chunk", episode.index // info.chunks_size))
        table = found(info.data_path, None, *numbers)
        if table is None:
            missing.append(episode.index)
            continue
        videos = {}
        for key in keys:
            span = None
            if episode.data is not None:
                if key not in episode.videos:
                    continue
                chunk, number, start_s, end_s = episode.videos[key]
                numbers, span = (("chunk_index", chunk), ("file_index", number)), [start_s, end_s]
            file = found(info.video_path, key, *numbers)
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
                fields=episode.fields,
            )
        )
    return placed, missing


def _place_found(folder: Path, files: Files, keys: Sequence[str], problems: list[DataError]) -> list[Placed]:
    """Return the episodes that the tables hold, where no meta file declares any.

    A table named ``episode_N`` is that episode; the rows of others say their episode. A video named so belongs to it.
    """
    placed = []
    for table in files.tables:
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


def _left_out(files: Files, placed: Sequence[Placed]) -> list[str]:
    extra = sorted(set(files.tables) - {episode.table for episode in placed})
    return (
        [f"{len(extra)} parquet file(s) hold no declared episode and are left out: {first_few(extra)}"] if extra else []
    )
