"""Make hostile and damaged episode files, the same ones for the same seed, and count what reading them does.

``torture_episodes`` is what an experiment calls with a large count; the suite calls it with a small one.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.episodes import read_episode
from mobile_vla.data.frames import ImageOptions, decode_into
from mobile_vla.data.instruction import Instruction
from mobile_vla.data.reading.process import ask
from mobile_vla.errors import DataError

F, Y, X = 6, 8, 10
SECRET = 77
"""Every pixel and action of what lies outside of the folder: no episode may hold it."""

_OPTIONS = ImageOptions(size=(Y, X), resize="direct", channel_order="rgb")
_INSTRUCTION = Instruction(order=["file", "constant"], template="", constant="go")
Rng = np.random.Generator


def _frames(rng: Rng) -> np.ndarray:
    return rng.integers(1, 256, (F, Y, X, 3), dtype=np.uint8)


def _actions(rng: Rng) -> np.ndarray:
    return rng.uniform(0.5, 1.5, (F, 3)).astype(np.float32)


def _collector(path: Path, rng: Rng) -> None:
    write_episode(path, images_FYXC=_frames(rng), actions_FA=_actions(rng), instruction="go left")


def _contiguous(path: Path, rng: Rng) -> None:
    with h5py.File(path, "w") as file:
        file["images"], file["actions"] = _frames(rng), _actions(rng)
        file["language_instruction"] = np.array([b"go left"], "S256")


def _nested(path: Path, rng: Rng) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("observations/images", data=_frames(rng), chunks=(2, Y, X, 3), maxshape=(None, Y, X, 3))
        file.create_dataset("actions", data=_actions(rng).astype(np.float64), chunks=(4, 3), maxshape=(None, 3))
        file["language_instruction"] = "go left"


def _filtered(path: Path, rng: Rng) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("images", data=_frames(rng), chunks=(3, 4, X, 3), compression="lzf", shuffle=True)
        file.create_dataset("actions", data=_actions(rng), chunks=(F, 3), compression="gzip", fletcher32=True)
        file.attrs["language_instruction"] = "go left"


SOUND: dict[str, Callable[[Path, Rng], None]] = {
    "collector": _collector,
    "contiguous": _contiguous,
    "nested": _nested,
    "filtered": _filtered,
}


# Bytes of a sound file, spoilt.


def _flip(content: bytearray, rng: Rng) -> None:
    """Flip bits of up to 8 bytes, most of them among the first 2,000, where the structure is."""
    for _ in range(rng.integers(1, 9)):
        end = len(content) if rng.random() < 0.3 else min(len(content), 2000)
        content[rng.integers(end)] ^= int(rng.integers(1, 256))


def _truncate(content: bytearray, rng: Rng) -> None:
    del content[int(rng.integers(len(content))) :]


def _splice(content: bytearray, rng: Rng) -> None:
    """Copy, move or remove a piece that is shorter than a frame."""
    size = int(rng.integers(1, 65))
    here, there = rng.integers(len(content) - size, size=2).tolist()
    piece = content[here : here + size]
    if rng.random() < 0.5:
        content[there : there + size] = piece
    elif rng.random() < 0.5:
        content[there:there] = piece
    else:
        del content[here : here + size]


def _patch_number(content: bytearray, rng: Rng) -> None:
    """Replace a number that could be a size, an address or a count with an extreme one."""
    width = int(rng.choice([2, 4, 8]))
    small = [
        i for i in range(min(len(content), 4000) - width) if content[i] > 0 and not any(content[i + 2 : i + width])
    ]
    at = int(rng.choice(small))
    extreme = [0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1, len(content), len(content) - 1]
    content[at : at + width] = (int(extreme[rng.integers(len(extreme))]) % 2 ** (8 * width)).to_bytes(width, "little")


SPOILT: dict[str, Callable[[bytearray, Rng], None]] = {
    "flipped": _flip,
    "truncated": _truncate,
    "spliced": _splice,
    "numbers": _patch_number,
}


# Files that HDF5 itself wrote, and that are hostile all the same.


def _spoil_key(path: Path, key: str, replace: Callable[[h5py.File], object]) -> None:
    """Write a sound contiguous episode whose ``key`` is made by ``replace``."""
    _contiguous(path, np.random.default_rng(5))
    with h5py.File(path, "a") as file:
        del file[key]
        replace(file)


_KEYS = ("images", "actions", "language_instruction")
_SHAPES = {"images": (F, Y, X, 3), "actions": (F, 3), "language_instruction": (1,)}
_DTYPES = {"images": "u1", "actions": "f4", "language_instruction": "S256"}


def _external_link(path: Path, key: str, outside: Path) -> None:
    _spoil_key(path, key, lambda file: file.__setitem__(key, h5py.ExternalLink(str(outside), key)))


def _soft_link_outside(path: Path, key: str, outside: Path) -> None:
    def replace(file: h5py.File) -> None:
        file["way"] = h5py.ExternalLink(str(outside), "/")
        file[key] = h5py.SoftLink(f"/way/{key}")

    _spoil_key(path, key, replace)


def _soft_link_loop(path: Path, key: str, outside: Path) -> None:
    def replace(file: h5py.File) -> None:
        file[key], file["back"] = h5py.SoftLink("/back"), h5py.SoftLink(f"/{key}")

    _spoil_key(path, key, replace)


def _external_group(path: Path, key: str, outside: Path) -> None:
    _spoil_key(path, "images", lambda file: file.__setitem__("observations", h5py.ExternalLink(str(outside), "/")))


def _virtual(source: str) -> Callable[[Path, str, Path], None]:
    def make(path: Path, key: str, outside: Path) -> None:
        places = {"itself": ".", "its own file": str(path), "another": str(outside), "missing": "gone.h5"}

        def replace(file: h5py.File) -> None:
            layout = h5py.VirtualLayout(_SHAPES[key], _DTYPES[key])
            layout[...] = h5py.VirtualSource(places[source], key, shape=_SHAPES[key])
            file.create_virtual_dataset(key, layout)

        _spoil_key(path, key, replace)

    return make


def _external_storage(path: Path, key: str, outside: Path) -> None:
    size = int(np.prod(_SHAPES[key])) * np.dtype(_DTYPES[key]).itemsize

    def replace(file: h5py.File) -> None:
        raw = str(outside.with_suffix(".raw"))
        file.create_dataset(key, _SHAPES[key], _DTYPES[key], external=[(raw, 0, size)])

    _spoil_key(path, key, replace)


def _never_written(path: Path, key: str, outside: Path) -> None:
    _spoil_key(path, key, lambda file: file.create_dataset(key, _SHAPES[key], _DTYPES[key]))


def _partly_written(path: Path, key: str, outside: Path) -> None:
    chunks = (1, *_SHAPES[key][1:])
    shape = (max(_SHAPES[key][0], 2), *_SHAPES[key][1:])

    def replace(file: h5py.File) -> None:
        file.create_dataset(key, shape, _DTYPES[key], chunks=chunks)[:1] = np.ones(chunks).astype(_DTYPES[key])

    _spoil_key(path, key, replace)


def _huge(chunks: bool) -> Callable[[Path, str, Path], None]:
    def make(path: Path, key: str, outside: Path) -> None:
        shape = (2**40, *_SHAPES[key][1:])
        options = {"chunks": (1, *shape[1:]), "compression": "gzip"} if chunks else {}
        _spoil_key(path, key, lambda file: file.create_dataset(key, shape, _DTYPES[key], **options))

    return make


def _wrong_type(path: Path, key: str, outside: Path) -> None:
    dtypes = [
        np.complex64,
        h5py.string_dtype(),
        h5py.ref_dtype,
        h5py.vlen_dtype("u1"),
        [("a", "u1"), ("b", "f8")],
        "V7",
    ]
    dtypes.append(h5py.enum_dtype({"a": 1}, "u1") if key != "images" else np.int64)
    dtype = dtypes[zlib.crc32(path.stem.encode()) % len(dtypes)]
    _spoil_key(path, key, lambda file: file.create_dataset(key, _SHAPES[key], dtype))


def _giant_text_type(path: Path, key: str, outside: Path) -> None:
    """Claim one text of 2 GB."""
    name = "language_instruction"

    def replace(file: h5py.File) -> None:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(2**31 - 1)
        h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((1,)))

    _spoil_key(path, name, replace)


def _nested_deep(path: Path, key: str, outside: Path) -> None:
    def replace(file: h5py.File) -> None:
        group: h5py.Group = file
        for _ in range(1500):
            group = group.create_group("g")

    _spoil_key(path, key, replace)


def _cycle_of_hard_links(path: Path, key: str, outside: Path) -> None:
    def replace(file: h5py.File) -> None:
        file.create_group("a/b")
        file["a/b/root"] = file["/"]

    _spoil_key(path, key, replace)


def _committed_type(path: Path, key: str, outside: Path) -> None:
    def replace(file: h5py.File) -> None:
        file[key] = np.dtype("f4")
        file["type"] = np.dtype("u1")

    _spoil_key(path, key, replace)


def _giant_attributes(path: Path, key: str, outside: Path) -> None:
    _nested(path, np.random.default_rng(5))
    with h5py.File(path, "a", libver="latest") as file:
        file.attrs["language_instruction"] = np.ones(2**22)
        for index in range(300):
            file["actions"].attrs[f"a{index}"] = "x" * 1000


def _bomb(path: Path, key: str, outside: Path) -> None:
    """Store one chunk of a thousandth of its size: actions for a day, or images of 288 MB or 544 MB, all ones."""
    rows = 400_000
    side = 4000 if path.stem.endswith("0") else 5500

    def replace(file: h5py.File) -> None:
        shape = (F, side, side, 3) if key == "images" else (rows, 3)
        name = key if key == "images" else "actions"
        dataset = file.create_dataset(name, shape, _DTYPES[name], chunks=shape, compression="gzip")
        size = int(np.prod(shape)) * dataset.dtype.itemsize
        press, stored = zlib.compressobj(1), b""
        for start in range(0, size, 2**20):
            stored += press.compress(b"\1" * min(2**20, size - start))
        dataset.id.write_direct_chunk((0,) * len(shape), stored + press.flush())

    _spoil_key(path, "images" if key == "images" else "actions", replace)


def _short_chunk(path: Path, key: str, outside: Path) -> None:
    """Store a compressed chunk that unpacks to 5 bytes."""
    name = "images" if key == "images" else "actions"

    def replace(file: h5py.File) -> None:
        shape = _SHAPES[name]
        dataset = file.create_dataset(name, shape, _DTYPES[name], chunks=shape, compression="gzip")
        dataset.id.write_direct_chunk((0,) * len(shape), zlib.compress(b"short"))

    _spoil_key(path, name, replace)


def _unknown_filter(path: Path, key: str, outside: Path) -> None:
    name = "images" if key == "images" else "actions"

    def replace(file: h5py.File) -> None:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk(_SHAPES[name])
        settings.set_filter(310, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        kind = h5py.h5t.py_create(np.dtype(_DTYPES[name]))
        dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(_SHAPES[name]), settings)
        dataset.write_direct_chunk((0,) * len(_SHAPES[name]), b"whatever")

    _spoil_key(path, name, replace)


def _no_file(kind: str) -> Callable[[Path, str, Path], None]:
    def make(path: Path, key: str, outside: Path) -> None:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            here = os.open(path.parent, os.O_RDONLY)  # by a short name: a socket's may have 107 letters
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(f"/proc/self/fd/{here}/{path.name}")
            os.close(here)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.symlink_to(path.name if kind == "loop" else "gone.h5")

    return make


HOSTILE: dict[str, Callable[[Path, str, Path], None]] = {
    "external link": _external_link,
    "soft link outside": _soft_link_outside,
    "soft link loop": _soft_link_loop,
    "external group": _external_group,
    **{f"virtual of {source}": _virtual(source) for source in ("itself", "its own file", "another", "missing")},
    "external storage": _external_storage,
    "never written": _never_written,
    "partly written": _partly_written,
    "huge": _huge(False),
    "huge in chunks": _huge(True),
    "wrong type": _wrong_type,
    "giant text": _giant_text_type,
    "nested deep": _nested_deep,
    "cycle of hard links": _cycle_of_hard_links,
    "committed type": _committed_type,
    "giant attributes": _giant_attributes,
    "bomb": _bomb,
    "short chunk": _short_chunk,
    "unknown filter": _unknown_filter,
    **{kind: _no_file(kind) for kind in ("pipe", "socket", "device", "loop", "gone")},
}


def write_outside(folder: Path) -> Path:
    """Write the episode that lies outside of the folder under test; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "outside.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.full((F, Y, X, 3), SECRET, np.uint8)
        file["actions"] = np.full((F, 3), SECRET, np.float32)
        file["language_instruction"] = np.array([b"secret"], "S256")
        file["observations/images"] = file["images"]
    path.with_suffix(".raw").write_bytes(bytes([SECRET]) * 4096)
    return path


def mutate(path: Path, *, seed: int, index: int, outside: Path) -> str:
    """Write mutated episode ``index`` of ``seed`` to ``path``; return what was done to it."""
    rng = np.random.default_rng([seed, index])
    if index % 4 == 0:  # each of them comes once in so many files, with each key
        number = index // 4
        kind = list(HOSTILE)[number % len(HOSTILE)]
        key = _KEYS[number // len(HOSTILE) % len(_KEYS)]
        HOSTILE[kind](path, key, outside)
        return f"{kind}, {key}"
    sound = list(SOUND)[int(rng.integers(len(SOUND)))]
    kind = list(SPOILT)[int(rng.integers(len(SPOILT)))]
    SOUND[sound](path, rng)
    content = bytearray(path.read_bytes())
    SPOILT[kind](content, rng)
    path.write_bytes(content)
    return f"{kind}, {sound}"


@dataclass(kw_only=True)
class Figures:
    """What reading mutated files did. All but ``trials``, ``refused``, ``longest_s`` and ``peak_mib`` must be 0."""

    trials: int = 0
    refused: int = 0
    unnamed: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    read_outside: list[str] = field(default_factory=list)
    silent_zeros: list[str] = field(default_factory=list)
    good_lost: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    peak_mib: float = 0.0
    findings: Counter[str] = field(default_factory=Counter)

    def faults(self) -> list[str]:
        """Return what must not be, one line each."""
        named = ("unnamed", "hangs", "read_outside", "silent_zeros", "good_lost")
        return [f"{name}: {text}" for name in named for text in getattr(self, name)]


def torture_episodes(folder: Path, *, count: int, seed: int, first: int = 0) -> Figures:
    """Read the mutated episodes ``first`` .. ``first + count`` - 1 of ``seed``, one by one, pixels included.

    A crash is one of this process: it does not return. After each ten files a good one is read, which must be whole.
    ``peak_mib`` is that of the reading processes that have ended by now.
    """
    figures = Figures()
    outside = write_outside(folder / "outside")
    inside = folder / "inside"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True)
    good = inside / "good.h5"
    _collector(good, np.random.default_rng(1))
    expected = _frames(np.random.default_rng(1))
    for index in range(first, first + count):
        path = inside / f"episode_{index}.h5"
        what = f"{seed}/{index} {mutate(path, seed=seed, index=index, outside=outside)}"
        started = time.monotonic()
        answer = _read(path, inside / "frames.u8")
        took = time.monotonic() - started
        figures.trials += 1
        figures.longest_s = max(figures.longest_s, took)
        if took > 5 * _crowding():
            figures.hangs.append(f"{what}: {took:.1f} s")
        _judge(figures, what, path, answer)
        path.unlink()
        if index % 10 == 0:
            answer = _read(good, inside / "frames.u8")
            if isinstance(answer, Exception) or not np.array_equal(answer[1], expected):
                figures.good_lost.append(f"{what}: then {answer}")
    # KiB on Linux; of the processes that were waited for, and those that they waited for
    figures.peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return figures


def _crowding() -> float:
    """Return how much longer than alone a process takes now: a reader may compute for seconds, not be on a clock."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _read(path: Path, frames: Path) -> tuple[np.ndarray, np.ndarray] | Exception:
    """Return actions and frames of the episode as a run would have them, or what was raised."""
    try:
        episode = read_episode(path, grammars={}, instruction=_INSTRUCTION)
        size = episode.num_frames * Y * X * 3
        with frames.open("wb") as file:
            file.truncate(size)
        ask(decode_into, path, episode.num_frames, frames, 0, _OPTIONS)
        return episode.actions, np.fromfile(frames, np.uint8).reshape(-1, Y, X, 3)
    except Exception as error:
        return error


def _judge(figures: Figures, what: str, path: Path, answer: tuple[np.ndarray, np.ndarray] | Exception) -> None:
    if isinstance(answer, Exception):
        figures.refused += 1
        figures.findings[str(answer).removeprefix(f"{path}: ")[:60]] += 1
        if not isinstance(answer, DataError) or not str(answer).startswith(f"{path}: "):
            figures.unnamed.append(f"{what}: {type(answer).__name__}: {answer}")
        return
    actions, images = answer
    if (images == SECRET).all(axis=(1, 2, 3)).any() or (actions == SECRET).all(axis=1).any():
        figures.read_outside.append(what)
    # A splice may zero a row of actions, and then the file says so; it is shorter than a frame and than two rows.
    if (~images.any(axis=(1, 2, 3))).any() or (~actions.any(axis=1)).sum() > 2:
        figures.silent_zeros.append(what)
