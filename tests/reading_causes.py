"""Read recordings in a reading process with a cause laid in the way; imported there, so nothing heavy is here."""

from __future__ import annotations

import fcntl
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from mobile_vla.data.sources.contract import Recording, RecordingFile
from mobile_vla.data.sources.hdf5.episode_files import find_episode_files
from mobile_vla.data.sources.hdf5.layout import shipped_layouts
from mobile_vla.data.sources.hdf5.source import Hdf5Source

LAYOUTS = {layout.name: layout for layout in shipped_layouts()}
"""Read when this module is imported, before a cause is laid in the way."""

Read = Callable[[Path], object]


def source_of(path: Path, layout: str) -> Hdf5Source:
    return Hdf5Source(folder=path, layout=LAYOUTS[layout], order=("file",))


def read_hdf5(path: Path, layout: str = "flat") -> list[Recording]:
    """Return the recordings of the file; raises the first error of any."""
    reading = source_of(path, layout).read(RecordingFile(path=path, files=(path,)))
    while True:
        try:
            next(reading)
        except StopIteration as end:
            for entry in end.value:
                if isinstance(entry, Exception):
                    raise entry from None
            return end.value


def memory_of(path: Path, layout: str = "flat") -> tuple[int, int]:
    """Return the bytes of all frames, and by how much reading them made this process larger."""
    [recording] = read_hdf5(path, layout)
    [camera] = recording.spec.camera_names
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    num_bytes = sum(block.nbytes for block in source_of(path, layout).frames(recording, camera))
    return num_bytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def as_nobody(path: Path, work: Read) -> object:
    """Call ``work`` as a user who owns nothing: root may read everything."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        return work(path)
    finally:
        os.seteuid(me)


def find_in(path: Path) -> list[str]:
    return [str(problem) for problem in find_episode_files(path).problems]


def no_permission(path: Path, read: Read) -> object:
    path.chmod(0)
    return as_nobody(path, read)


def no_descriptor_left(path: Path, read: Read) -> object:
    """Take all descriptors that a process may have."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return read(path)
    finally:
        for descriptor in taken:
            os.close(descriptor)


def locked(path: Path, read: Read) -> object:
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        return read(path)


def killed_writer(path: Path, read: Read) -> object:
    writer = os.fork()
    if writer == 0:
        file = h5py.File(path, "w", libver="latest")
        file.flush()
        os._exit(0)
    os.waitpid(writer, 0)
    return read(path)


def gone(path: Path, read: Read) -> object:
    path.unlink()
    return read(path)


def without_plugin(path: Path, read: Read) -> object:
    sys.modules["hdf5plugin"] = None  # pyright: ignore[reportArgumentType]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((4, 3))
    settings.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    with h5py.File(path, "a") as file:
        key = next(key for key in ("actions", "action", "data/demo_0/actions") if key in file)
        del file[key]
        kind = h5py.h5t.py_create(np.dtype("f4"))
        dataset = h5py.h5d.create(file.id, key.encode(), kind, h5py.h5s.create_simple((4, 3)), settings)
        dataset.write_direct_chunk((0, 0), bytes(48))
    return read(path)
