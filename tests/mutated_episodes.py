"""Make hostile and damaged episode files, the same ones for the same seed, and count what reading them does.

``torture_episodes`` is what an experiment calls with a large count; the suite calls it with a small one.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hostile_episodes import HOSTILE, KEYS, SECRET, SOUND, Rng, X, Y, frames_of, write_collector, write_outside

from mobile_vla.data.episodes import read_file
from mobile_vla.data.frames import ImageOptions, decode_into
from mobile_vla.data.reading.process import ask, close_readers
from mobile_vla.data.sources.contract import RecordingFile
from mobile_vla.data.sources.hdf5.layout import shipped_layout
from mobile_vla.data.sources.hdf5.source import Hdf5Source
from mobile_vla.errors import DataError

_OPTIONS = ImageOptions(size=(Y, X), resize="direct", channel_order="rgb")
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


def mutate(path: Path, *, seed: int, index: int, outside: Path) -> str:
    """Write mutated episode ``index`` of ``seed`` to ``path``; return what was done to it."""
    rng = np.random.default_rng([seed, index])
    if index % 4 == 0:  # each of them comes once in so many files, with each key
        number = index // 4
        kind = list(HOSTILE)[number % len(HOSTILE)]
        key = KEYS[number // len(HOSTILE) % len(KEYS)]
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
    ``peak_mib`` is the largest resident memory of any process that this one has started so far.
    """
    figures = Figures()
    outside = write_outside(folder / "outside")
    inside = folder / "inside"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True)
    good = inside / "good.h5"
    write_collector(good, np.random.default_rng(1))
    expected = frames_of(np.random.default_rng(1))
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
    close_readers()  # they are measured when they have ended, with the workers that they waited for
    figures.peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return figures


def _crowding() -> float:
    """Return how much longer than alone a process takes now: a reader may compute for seconds, not be on a clock."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _read(path: Path, frames: Path) -> tuple[np.ndarray, np.ndarray] | Exception:
    """Return actions and frames of the episode as a run would have them, or what was raised."""
    try:
        source = Hdf5Source(folder=path, layout=shipped_layout("flat"), order=("file",))
        [recording] = ask(read_file, path, source, RecordingFile(path=path, files=(path,)))
        size = recording.num_frames * Y * X * 3
        with frames.open("wb") as file:
            file.truncate(size)
        ask(decode_into, path, source, recording, "camera", frames, 0, _OPTIONS)
        return recording.actions, np.fromfile(frames, np.uint8).reshape(-1, Y, X, 3)
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
    # A splice may zero rows of actions, and then the file says so: it is shorter than a frame and than six rows. Where
    # all are zero there is a warning: an address that damage moved to empty bytes of the file.
    if (~images.any(axis=(1, 2, 3))).any() or 5 < (~actions.any(axis=1)).sum() < len(actions):
        figures.silent_zeros.append(what)
