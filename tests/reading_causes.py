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

from mobile_vla.data.sources.hdf5.episode_files import find_episode_files
from mobile_vla.data.sources.hdf5.recording import read_blocks, read_recording

Read = Callable[[Path], object]


def read_hdf5(path: Path) -> object:
    return read_recording(path, ("file",))


def memory_of(path: Path) -> tuple[int, int]:
    """Return the bytes of all frames, and by how much reading them made this process larger."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    num_bytes = sum(block.nbytes for block in read_blocks(path))
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
        del file["actions"]
        kind = h5py.h5t.py_create(np.dtype("f4"))
        dataset = h5py.h5d.create(file.id, b"actions", kind, h5py.h5s.create_simple((4, 3)), settings)
        dataset.write_direct_chunk((0, 0), bytes(48))
    return read(path)
