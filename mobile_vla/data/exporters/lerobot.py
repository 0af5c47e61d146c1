"""The exporter to LeRobot v3.0: many episodes a table, their images inside as PNG or beside it as videos.

The files are those that lerobot 0.6.1 writes, without the package, which needs another version of torch. What the
format has no place for is in keys and columns of our own, which lerobot passes over: units, kinds, rest and flips of
signals in info.json, texts about an episode in meta/episodes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mobile_vla.data.exporters.lerobot_files import Tables, Videos, episode_tables
from mobile_vla.data.exporters.lerobot_frames import EncodedCamera, clock_of, encode_episode, video_info
from mobile_vla.data.exporters.lerobot_info import (
    ACTION,
    DATA_MB,
    DATA_PATH,
    EPISODES_PATH,
    STATE,
    VIDEO_MB,
    VIDEO_PATH,
    camera_key,
    data_schema,
    episodes_schema,
    features_of,
    info_of,
    statistics_row,
    write_json,
    write_tasks,
)
from mobile_vla.data.exporters.outgoing import Outgoing, Outgoings, work_folder
from mobile_vla.data.exporters.statistics import Statistics, joined, of_values
from mobile_vla.data.reading.process import Request, ask_each
from mobile_vla.data.sources.lerobot.declared import FIELD_PREFIX
from mobile_vla.errors import DataError
from mobile_vla.extras import require
from mobile_vla.process.progress_bar import track

_SAME_RATE = 0.05
"""Episodes whose rates differ by a smaller share have one rate: clocks that measure it jitter."""

_NOT_FIELDS = ("num_frames",)
"""Texts about an episode that LeRobot has a column of its own for."""


def check_exportable(outgoings: Outgoings, *, is_video: bool) -> None:
    """Raise ``DataError`` where a LeRobot data set cannot hold the episodes: it has one rate, one size a camera."""
    rate_of(outgoings)
    by_camera: dict[str, Outgoing] = {}
    for outgoing in outgoings.episodes:
        for camera in outgoing.spec.cameras:
            first = by_camera.setdefault(camera.name, outgoing)
            known = next(each for each in first.spec.cameras if each.name == camera.name)
            if known != camera:
                raise DataError(
                    f"{outgoing.recording.path}: the camera '{camera.name}' has {camera.columns}x{camera.rows} px, and "
                    f"{known.columns}x{known.rows} in {first.recording.path}; a LeRobot data set has one size. Export "
                    "to --format hdf5, or give the folders apart."
                )
            if is_video and (camera.rows % 2 or camera.columns % 2):
                raise DataError(
                    f"{outgoing.recording.path}: the camera '{camera.name}' has {camera.columns}x{camera.rows} px; a "
                    "video needs even numbers. Leave out --video: PNG images have any size."
                )
    if is_video:
        require("av", asked_by="--video")


def rate_of(outgoings: Outgoings) -> float:
    """Return the frames a second of the data set; raises ``DataError`` where it is not known or not one."""
    unknown = [outgoing for outgoing in outgoings.episodes if outgoing.spec.rate_hz is None]
    if unknown:
        raise DataError(
            f"{unknown[0].recording.path}: does not say how many frames a second it has, which a LeRobot data set "
            "must. Give it: --fps 10."
        )
    rates = [float(outgoing.spec.rate_hz or 0) for outgoing in outgoings.episodes]
    if max(rates) > (1 + _SAME_RATE) * min(rates):
        raise DataError(
            f"the episodes were recorded at {min(rates):g} to {max(rates):g} frames a second, and a LeRobot data set "
            "has one rate. Give the folders apart, or say which to write: --fps 10."
        )
    return rates[0] if len(set(rates)) == 1 else round(float(np.median(rates)), 3)


def write_lerobot(
    outgoings: Outgoings, folder: Path, *, out: Path, is_video: bool, num_workers: int
) -> dict[str, DataError]:
    """Write the data set into ``folder`` and return, by name, the error of each episode that could not be decoded.

    ``out`` is the folder that errors of the disk name. Frames are decoded and encoded by ``num_workers`` reading
    processes into files that are joined in the order of the episodes; no memory grows with the number of frames.
    """
    fps = rate_of(outgoings)
    work = work_folder(folder)
    requests = [
        Request(
            work=encode_episode,
            path=outgoing.recording.path,
            arguments=(
                outgoings.source,
                outgoing,
                work / f"{index}",
                out,
                fps if is_video else None,
                outgoings.is_bgr,
            ),
        )
        for index, outgoing in enumerate(outgoings.episodes)
    ]
    waiting: dict[int, Any] = {}
    problems: dict[str, DataError] = {}
    with ExitStack() as stack:
        writer = _Writer(outgoings.episodes, folder, fps=fps, is_video=is_video)
        stack.callback(writer.close)
        answers = ask_each(requests, num_processes=num_workers)
        for place, answer in track(answers, description="writing episodes", total=len(requests)):
            waiting[place] = answer
            while (index := writer.num_seen) in waiting:  # answers come in any order
                outgoing, encoded = outgoings.episodes[index], waiting.pop(index)
                writer.num_seen += 1
                if isinstance(encoded, DataError):
                    problems[outgoing.recording.name] = encoded
                else:
                    writer.add(outgoing, encoded)
                    for camera in encoded.values():
                        camera.path.unlink()
        writer.write_meta()
    shutil.rmtree(work)
    return problems


class _Writer:
    """The data set that is being written: its open files, and what its meta files will say.

    ``num_seen`` counts the episodes that were written or left out.
    """

    def __init__(self, episodes: Sequence[Outgoing], folder: Path, *, fps: float, is_video: bool) -> None:
        spec = episodes[0].spec
        self._folder, self._fps, self._is_video = folder, fps, is_video
        self._features = features_of(spec, video=video_info(fps) if is_video else None)
        self._fields = [n for n in dict.fromkeys(n for e in episodes for n in e.fields) if n not in _NOT_FIELDS]
        self._schema = data_schema(self._features)
        self._data = Tables(folder, DATA_PATH, schema=self._schema, limit=DATA_MB * 2**20)
        self._episodes_schema = episodes_schema(self._features, is_video=is_video, fields=self._fields)
        self._episodes = Tables(folder, EPISODES_PATH, schema=self._episodes_schema, limit=DATA_MB * 2**20)
        keys = [camera_key(camera.name) for camera in spec.cameras]
        self._videos = {
            key: Videos(folder, VIDEO_PATH, key, limit=VIDEO_MB * 2**20, rate=clock_of(fps))
            for key in (keys if is_video else ())
        }
        self._rows: list[dict[str, Any]] = []
        self._tasks: dict[str, int] = {}
        self._statistics: dict[str, Statistics] | None = None
        self._num_episodes = self._num_frames = 0
        self.num_seen = 0

    def add(self, outgoing: Outgoing, encoded: Mapping[str, EncodedCamera]) -> None:
        """Append an episode, whose frames are ``encoded`` by the name of their camera."""
        num_frames = outgoing.recording.num_frames
        task = self._tasks.setdefault(outgoing.instruction, len(self._tasks))
        values = self._values(outgoing, task)
        cameras = {camera_key(name): camera for name, camera in encoded.items()}
        statistics = {
            key: cameras[key].statistics if key in cameras else of_values(values[key]) for key in self._features
        }
        self._statistics = joined(self._statistics, statistics)
        pictures = {key: camera for key, camera in cameras.items() if camera.sizes is not None}
        num_bytes = sum(camera.path.stat().st_size for camera in pictures.values())
        self._data.start(num_bytes + sum(value.nbytes for value in values.values()))
        for table in episode_tables(self._schema, values, pictures, num_frames):
            self._data.write(table)
        row = {
            "episode_index": self._num_episodes,
            "tasks": [outgoing.instruction],
            "length": num_frames,
            "data/chunk_index": self._data.numbering.chunk,
            "data/file_index": self._data.numbering.file,
            "dataset_from_index": self._num_frames,
            "dataset_to_index": self._num_frames + num_frames,
            **statistics_row(statistics),
            **{f"{FIELD_PREFIX}{name}": outgoing.fields.get(name) for name in self._fields},
        }
        for key, videos in self._videos.items():
            start_s, end_s = videos.append(cameras[key].path, num_frames=num_frames)
            row |= {
                f"videos/{key}/chunk_index": videos.numbering.chunk,
                f"videos/{key}/file_index": videos.numbering.file,
                f"videos/{key}/from_timestamp": start_s,
                f"videos/{key}/to_timestamp": end_s,
            }
        self._rows.append(row)
        self._num_episodes += 1
        self._num_frames += num_frames
        if len(self._rows) == 100:
            self._write_rows()

    def _values(self, outgoing: Outgoing, task: int) -> dict[str, np.ndarray]:
        """Return the columns of the episode but for its images, [F, width] each."""
        recording = outgoing.recording
        frames = np.arange(recording.num_frames)
        single = {
            "timestamp": (frames / self._fps).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(len(frames), self._num_episodes),
            "index": self._num_frames + frames,
            "task_index": np.full(len(frames), task),
        }
        vectors = {ACTION: recording.actions, **({STATE: recording.state} if outgoing.spec.state else {})}
        return vectors | {name: values[:, None] for name, values in single.items()}

    def _write_rows(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._episodes.start(sum(len(str(row)) for row in self._rows) // 2)  # about what compression leaves
            place = self._episodes.numbering
            more = {"meta/episodes/chunk_index": place.chunk, "meta/episodes/file_index": place.file}
            rows = [{**row, **more} for row in self._rows]
            self._episodes.write(pa.Table.from_pylist(rows, schema=self._episodes_schema))
            self._rows = []

    def write_meta(self) -> None:
        """Complete meta/episodes and write the other meta files; nothing where no episode was added."""
        if self._statistics is None:
            return
        self._write_rows()
        write_tasks(self._folder / "meta/tasks.parquet", list(self._tasks))
        write_json(
            self._folder / "meta/stats.json",
            {k: {n: v.tolist() for n, v in found.items()} for k, found in self._statistics.items()},
        )
        info = info_of(
            self._features,
            fps=self._fps,
            num_episodes=self._num_episodes,
            num_frames=self._num_frames,
            num_tasks=len(self._tasks),
            is_video=self._is_video,
        )
        write_json(self._folder / "meta/info.json", info)

    def close(self) -> None:
        """Complete all open files; each of them is closed, also where one cannot be completed."""
        with ExitStack() as stack:
            for files in (self._data, self._episodes, *self._videos.values()):
                stack.callback(files.close)
