"""The exporter to HDF5: one file an episode, in the flat layout, with the spec as an attribute."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mobile_vla.data.episode_writer import SPEC_ATTRIBUTE
from mobile_vla.data.exporters.outgoing import Outgoing, Outgoings, rgb_frames
from mobile_vla.data.reading.process import Request, ask_each
from mobile_vla.data.sources.contract import Source
from mobile_vla.errors import DataError, UserError
from mobile_vla.process.progress_bar import track
from mobile_vla.spec import Signal, Spec
from mobile_vla.storage.disk import not_written

_OWN_ATTRIBUTES = ("episode_name", "num_frames", SPEC_ATTRIBUTE, "language_instruction")

_MAX_ATTRIBUTE_BYTES = 60_000
"""HDF5 holds at most 64 KiB in an attribute of the file format that every version of it reads."""

_left_open: list[h5py.File] = []
"""Files on a full disk. Closing one can crash HDF5, so it stays open until the reading process ends, at once."""


def write_hdf5(outgoings: Outgoings, folder: Path, *, out: Path, num_workers: int) -> dict[str, DataError]:
    """Write one file an episode into ``folder`` and return, by name, the error of each that could not be decoded.

    ``out`` is the folder that errors of the disk name. Files are written by ``num_workers`` reading processes, and
    their memory does not grow with the number of frames.
    """
    names = _file_names([outgoing.name for outgoing in outgoings.episodes])
    requests = [
        Request(
            work=write_file,
            path=outgoing.recording.path,
            arguments=(outgoings.source, outgoing, folder / name, out, outgoings.is_bgr),
        )
        for outgoing, name in zip(outgoings.episodes, names, strict=True)
    ]
    answers = ask_each(requests, num_processes=num_workers)
    problems = {}
    for index, answer in track(answers, description="writing episodes", total=len(requests)):
        if answer is not None:
            problems[index] = answer
            (folder / names[index]).unlink(missing_ok=True)
    return {outgoings.episodes[index].recording.name: problems[index] for index in sorted(problems)}


def _file_names(episodes: Sequence[str]) -> list[str]:
    """Return a file name for each episode; raises ``DataError`` where two would have the same."""
    names: dict[str, str] = {}
    for episode in episodes:
        name = episode.replace(os.sep, "_")
        name = f"_{name[1:]}" if name.startswith(".") else name  # a hidden file would not be found
        if name in names:
            raise DataError(f"episodes '{names[name]}' and '{episode}' would both be {name}.h5. Rename one of them.")
        names[name] = episode
    return [f"{name}.h5" for name in names]


def write_file(
    path: Path, source: Source, outgoing: Outgoing, target: Path, out: Path, is_bgr: bool
) -> Generator[None, None, None]:
    """Write the episode to ``target``; each yield reports progress. It is called in a reading process.

    The same episode gives the same bytes: no time stamps are stored.
    """
    recording, spec = outgoing.recording, outgoing.spec
    with _open_file(target, out) as file:
        # The attributes of the recording come last: a reader may look at the first ones only.
        file.attrs["episode_name"] = outgoing.name
        file.attrs["num_frames"] = recording.num_frames
        file.attrs[SPEC_ATTRIBUTE] = spec_text(spec)
        for name, text in outgoing.fields.items():
            if name not in _OWN_ATTRIBUTES:
                file.attrs[name] = text
        file.create_dataset("actions", data=recording.actions, track_times=False)
        if spec.state:
            file.create_dataset("state", data=recording.state, track_times=False)
        if text := outgoing.instruction.encode():
            written = np.array([text], f"S{max(256, len(text))}")
            file.create_dataset("language_instruction", data=written, track_times=False)
        for camera in spec.cameras:
            key = "images" if len(spec.cameras) == 1 else f"images/{camera.name}"
            shape = (camera.rows, camera.columns, 3)
            images = file.create_dataset(
                key,
                shape=(recording.num_frames, *shape),
                dtype=np.uint8,
                chunks=(1, *shape),  # reading a frame decompresses only that frame
                compression="gzip",  # lzf is not reproducible
                compression_opts=1,
                track_times=False,
            )
            row = 0
            for image in rgb_frames(source, recording, camera.name, is_bgr=is_bgr):
                if image is None:
                    yield
                else:
                    images[row] = image
                    row += 1


@contextmanager
def _open_file(target: Path, out: Path) -> Iterator[h5py.File]:
    file = None
    try:
        file = h5py.File(target, "w")
        yield file
        file.close()
    except (DataError, GeneratorExit):
        raise
    except Exception as error:
        sentence = not_written(error, out, what="the exported data")
        if sentence is None:
            raise
        if file is not None:
            _left_open.append(file)
        raise UserError(sentence) from error


def spec_text(spec: Spec) -> str:
    """Return the spec as the JSON text of the attribute, without defaults where it would be too long."""
    text = json.dumps(spec.to_json())
    return text if len(text.encode()) <= _MAX_ATTRIBUTE_BYTES else json.dumps(_short(spec), separators=(",", ":"))


def _short(spec: Spec) -> Mapping[str, Any]:
    """Return the spec as JSON values, without what a reader takes as the default."""
    defaults = {field.name: field.default for field in fields(Signal)}
    content = asdict(spec)
    for what in ("actions", "state"):
        content[what] = [
            {key: value for key, value in signal.items() if value != defaults[key]} for signal in content[what]
        ]
    return content
