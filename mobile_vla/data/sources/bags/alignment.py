"""The alignment of messages to frames by time: pure functions of time stamps in nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_DELAY_S = 1.0
"""Maximum time between a header stamp and the recording of its message. Larger ones come of two clocks."""

MAX_LEFT_OUT = 2
"""Maximum number of frames in a row that may be left out within an episode.

A window is read as if its frames were equally far apart, and its actions too: across a hole the policy would learn a
jump that no robot makes. One or two lost frames are as the jitter of a camera; to cut there as well would make an
episode of every few frames where a command is late now and then.
"""

_WIDE = 2.5
"""A step that is longer by this factor is more than jitter: at least two frames are lacking."""

_MAX_AHEAD_S = 0.01
"""How far a header stamp may be after the recording of its message: two processes read the clock."""


def implausible_stamps(stamps_N: NDArray[np.int64], logged_N: NDArray[np.int64]) -> str | None:
    """Return why header stamps are not used as the time of messages, which were ``logged_N``; None where they are.

    The stamp is when the camera saw the image, the log time when the recorder got it: 10 to 200 ms later, with jitter.
    Commands often have no stamp and count by their log time, so both must be of one clock.
    """
    if len(stamps_N) == 0 or not stamps_N.any():
        return "are 0"
    delays_s = (logged_N - stamps_N) / 1e9
    if (np.diff(stamps_N) < 0).any():
        return "go back"
    if delays_s.min() < -_MAX_AHEAD_S or delays_s.max() > MAX_DELAY_S:
        return f"are {delays_s.min():.3g} to {delays_s.max():.3g} s before their recording: another clock"
    return None


def newest_before(times_N: NDArray[np.int64], frames_F: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each frame the index of the newest message at or before its time; -1 where there is none.

    ``times_N`` may be in any order; of messages with the same time the last is the newest.
    """
    order = np.argsort(times_N, kind="stable")
    places_F = np.searchsorted(times_N[order], frames_F, side="right") - 1
    return np.where(places_F >= 0, order[np.maximum(places_F, 0)], -1) if len(times_N) else places_F


def split_at_gaps(
    frames_F: NDArray[np.int64], numbers_F: NDArray[np.int64], max_gap_s: float | None
) -> list[NDArray[np.int64]]:
    """Return the frames' indexes as runs, each of which is an episode.

    A new run begins where two neighbours are more than ``max_gap_s`` apart, or where more than ``MAX_LEFT_OUT`` frames
    of the camera were left out between them, which is seen by their ``numbers_F``. None: all are one run.
    """
    if max_gap_s is None or len(frames_F) == 0:
        return [np.arange(len(frames_F))] if len(frames_F) else []
    is_break = (np.diff(frames_F) > max_gap_s * 1e9) | (np.diff(numbers_F) > MAX_LEFT_OUT + 1)
    return np.split(np.arange(len(frames_F)), np.flatnonzero(is_break) + 1)


def wide_steps(frames_F: NDArray[np.int64]) -> tuple[int, float, float]:
    """Return how many steps between neighbours are over 2.5 times the median, the longest, and the median, in s."""
    steps_s = np.diff(frames_F) / 1e9
    median_s = float(np.median(steps_s))
    return int((steps_s > _WIDE * median_s).sum()), float(steps_s.max()), median_s


def to_runs(numbers: Sequence[int]) -> list[list[int]]:
    """Return ``numbers`` as runs [first, length] of consecutive ones: ``5 6 7 7 9`` is ``[5, 3], [7, 1], [9, 1]``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return runs


def from_runs(runs: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers that ``to_runs`` was given."""
    return [number for first, length in runs for number in range(first, first + length)]
