"""Write sound and bad recordings of every format that is read: what the laws of reading are tested with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from hostile_episodes import HOSTILE
from made_episodes import actions, images
from reading_causes import read_hdf5

Write = Callable[..., object]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format: how a sound recording of 4 frames is written, and bad ones, each with what must be said of it."""

    suffix: str
    layout: str  # option of conf/dataset/layout
    camera: str
    episode: str  # what follows the file's name in that of an episode, where there are several files
    write: Write
    write_still: Write  # all actions zero
    points_outside: Mapping[str, tuple[Callable[[Path, Path], object], str]]  # (path, episode outside)
    not_written: Mapping[str, tuple[Write, str]]
    claims_too_much: Mapping[str, tuple[Write, str]]
    read: Callable[[Path], object]  # a function of a module, to be called where a cause lies in its way


def write_hdf5(path: Path, *, num_frames: int = 4, seed: int = 0, without: str = "") -> None:
    with h5py.File(path, "w") as file:
        if without != "images":
            frames = images(num_frames, seed=seed)
            file.create_dataset("images", data=frames, chunks=(1, 6, 8, 3), compression="gzip")
        if without != "actions":
            file["actions"] = actions(num_frames, seed=seed) + 0.01
        if without != "language_instruction":
            file["language_instruction"] = np.array([b"go"], "S256")


def hdf5_with(key: str, create: Callable[[h5py.File], object]) -> Write:
    """Return what writes a sound file but for ``key``, which ``create`` makes."""

    def write(path: Path) -> None:
        write_hdf5(path, without=key)
        with h5py.File(path, "a") as file:
            create(file)

    return write


def hdf5_of(key: str, shape: tuple[int, ...], dtype: str, num_written: int = 0, **options: object) -> Write:
    """Write a data set of which only the first rows are written, with ones."""

    def create(file: h5py.File) -> None:
        dataset = file.create_dataset(key, shape, dtype, **options)
        if num_written:
            dataset[:num_written] = 1

    return hdf5_with(key, create)


def early(key: str, shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...] | None) -> Write:
    """Write a data set whose space was taken, and filled with zeros, before anything was written."""

    def create(file: h5py.File) -> None:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        settings.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
        if chunks:
            settings.set_chunk(chunks)
        kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, key.encode(), kind, space, settings)

    return hdf5_with(key, create)


def killed_after_flush(path: Path) -> None:
    """Write an episode as a recorder does that is killed: two frames saved, and more since."""
    write_hdf5(path, without="images")
    writer = os.fork()
    if writer == 0:
        file = h5py.File(path, "a")
        dataset = file.create_dataset("images", (4, 64, 64, 3), "u1", chunks=(1, 64, 64, 3), maxshape=(None, 64, 64, 3))
        dataset[:] = np.ones((4, 64, 64, 3), np.uint8)
        file.flush()
        dataset.resize(1200, axis=0)  # more than the cache of chunks keeps
        dataset[4:] = np.ones((1196, 64, 64, 3), np.uint8)
        os._exit(0)
    os.waitpid(writer, 0)


_POINTS_OUTSIDE = {
    "external link": "is an external link",
    "soft link outside": "is an external link",
    "external group": "is an external link",
    **{f"virtual of {source}": "is a virtual data set" for source in ("itself", "its own file", "another", "missing")},
    "external storage": "has external storage",
}
_ROWS = "were never written and would read as zeros"

HDF5 = Format(
    suffix=".h5",
    layout="flat",
    camera="camera",
    episode="",
    write=write_hdf5,
    write_still=hdf5_with("actions", lambda file: file.create_dataset("actions", data=np.zeros((4, 3), np.float32))),
    points_outside={
        f"{kind}, {key}": (lambda path, outside, make=HOSTILE[kind], key=key: make(path, key, outside), text)
        for kind, text in _POINTS_OUTSIDE.items()
        for key in ("images", "actions", "language_instruction")
    },
    not_written={
        "contiguous images": (hdf5_of("images", (4, 6, 8, 3), "u1"), rf"'images' .* Rows 0\.\.3 {_ROWS}"),
        "partly written contiguous images": (
            hdf5_of("images", (4, 6, 8, 3), "u1", 2),
            r"'images' is zero in every pixel of the rows 2\.\.3",
        ),
        "images of some chunks": (
            hdf5_of("images", (4, 6, 8, 3), "u1", 3, chunks=(1, 6, 8, 3), compression="gzip"),
            rf"'images' has only 3 of 4 chunks.* Rows 3\.\.3 {_ROWS}",
        ),
        "images of a part of a chunk": (
            hdf5_of("images", (4, 6, 8, 3), "u1", 3, chunks=(2, 6, 8, 3), compression="gzip"),
            r"'images' is zero in every pixel of the rows 3\.\.3",
        ),
        "images of no chunk": (
            hdf5_of("images", (4, 6, 8, 3), "u1", chunks=(2, 3, 8, 3)),
            rf"'images' has only 0 of 4 chunks.* Rows 0\.\.3 {_ROWS}",
        ),
        "images that were only allocated": (early("images", (4, 6, 8, 3), "u1", None), r"'images' .* rows 0\.\.3"),
        "chunks that were only allocated": (
            early("images", (4, 6, 8, 3), "u1", (1, 6, 8, 3)),
            r"'images' .* rows 0\.\.3",
        ),
        "contiguous actions": (hdf5_of("actions", (4, 3), "f4"), rf"'actions' .* Rows 0\.\.3 {_ROWS}"),
        "actions that were only allocated": (early("actions", (4, 3), "f4", None), r"'actions' .* rows, 0\.\.3"),
        "actions of some chunks": (
            hdf5_of("actions", (4, 3), "f4", 1, chunks=(1, 3), maxshape=(None, 3)),
            rf"'actions' has only 1 of 4 chunks.* Rows 1\.\.3 {_ROWS}",
        ),
        "frames after the last flush": (killed_after_flush, r"is \d+ bytes long but was saved with \d+: .* killed"),
        "instruction": (hdf5_of("language_instruction", (1,), "S256"), "'language_instruction' has no bytes"),
        "short chunk": (
            lambda path: HOSTILE["short chunk"](path, "images", path),
            "'images' cannot be decoded .* unpacks to 5 bytes",
        ),
    },
    claims_too_much={
        "images, contiguous": (
            hdf5_of("images", (900_000, 480, 640, 3), "u1"),
            r"'images' claims .* but the file has \d+: it is damaged",
        ),
        "images, in chunks": (
            hdf5_of("images", (900_000, 480, 640, 3), "u1", chunks=(1, 480, 640, 3), compression="gzip"),
            "'images' .* damaged or hostile",
        ),
        "too many frames": (hdf5_of("images", (2**40, 6, 8, 3), "u1", chunks=(1, 6, 8, 3)), "expected at most 1000000"),
        "too many pixels": (hdf5_of("images", (4, 2**20, 2**20, 3), "u1"), "frames of 33554432 pixels"),
        "a chunk too large": (
            hdf5_of("images", (400, 2000, 2000, 3), "u1", chunks=(400, 2000, 2000, 3), compression="gzip"),
            "'images' needs 4578 MiB of memory",
        ),
        "actions": (hdf5_of("actions", (900_000, 3), "f4"), "'actions' claims"),
        "too many actions": (hdf5_of("actions", (2**40, 3), "f4", chunks=(1, 3)), "'actions' .* at most 1000000 rows"),
        "a text of 2 GB": (
            lambda path: HOSTILE["giant text"](path, "language_instruction", path),
            "'language_instruction' is 2147483647 bytes long",
        ),
        **{
            kind: (lambda path, make=HOSTILE[kind]: make(path, "images", path), text)
            for kind, text in {
                "pipe": "is a named pipe",
                "socket": "is a socket",
                "device": "is a device",
                "loop": "is a link to",
                "cycle of hard links": "found a, a/b, actions",
            }.items()
        },
    },
    read=read_hdf5,
)

_MOVED = {
    "nested": {"images": "observations/images"},
    "robomimic": {
        "images": "data/demo_0/obs/front_image",
        "actions": "data/demo_0/actions",
        "language_instruction": "data/demo_0/language_instruction",
        "observations": "data/demo_0/obs",
    },
    "aloha": {"images": "observations/images/front", "actions": "action", "observations": "observations/images"},
}
"""Where a layout has the objects of a flat file; ``observations`` is what a link in place of a group is called."""

_FLAT_ALONE = ("cycle of hard links", "frames after the last flush")
"""What lists all keys of a file, and what would be mended by moving the keys."""


def _moved(write: Callable[..., object], layout: str) -> Callable[..., None]:
    """Return what writes as ``write`` does, and then moves all objects to where ``layout`` has them."""

    def moved(path: Path, *arguments: object, **options: object) -> None:
        write(path, *arguments, **options)
        try:
            file = h5py.File(path, "a") if path.is_file() else None
        except OSError:  # a file that HDF5 cannot open is bad in every layout
            return
        if file is None:
            return
        with file:
            for key, place in _MOVED[layout].items():
                if file.get(key, getlink=True) is not None and key != place.split("/")[0]:
                    file.move(key, place)

    return moved


def _message(text: str, layout: str) -> str:
    """Return ``text`` with the layout's keys in place of those of a flat file."""
    for key, place in _MOVED[layout].items():
        text = text.replace(f"'{key}'", f"'{place}'")
    return text


def _in_layout(layout: str, *, camera: str, episode: str) -> Format:
    """Return the format of the same files in another layout."""

    def all_moved(cases: Mapping[str, tuple[Callable[..., object], str]]) -> dict[str, tuple[Callable[..., None], str]]:
        return {
            name: (_moved(write, layout), _message(text, layout))
            for name, (write, text) in cases.items()
            if name not in _FLAT_ALONE
        }

    return Format(
        suffix=HDF5.suffix,
        layout=layout,
        camera=camera,
        episode=episode,
        write=_moved(HDF5.write, layout),
        write_still=_moved(HDF5.write_still, layout),
        points_outside=all_moved(HDF5.points_outside),
        not_written=all_moved(HDF5.not_written),
        claims_too_much=all_moved(HDF5.claims_too_much),
        read=partial(read_hdf5, layout=layout),
    )


FORMATS = {
    "flat": HDF5,
    "nested": _in_layout("nested", camera="camera", episode=""),
    "robomimic": _in_layout("robomimic", camera="front", episode="_demo_0"),
    "aloha": _in_layout("aloha", camera="front", episode=""),
}
