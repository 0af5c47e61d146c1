"""The plan of where the episodes of a DonkeyCar tub begin and end."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mobile_vla.data.sources.tubs.tub import Record
from mobile_vla.errors import ConfigError


def option(default: Any, meaning: str) -> Any:
    """Return a dataclass field with its default and its meaning, which ``--help`` of a command shows."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class TubOptions:
    """The options of reading a tub: where it is split and what its commands mean.

    A command without a scale stays normalised: 1 is full throttle, or full angle. Raises ``ConfigError`` for values
    that cannot work.

    The default of ``max_frames`` is 200 (10 s at DonkeyCar's 20 Hz) so that a tub with a single drive still gives
    several episodes for train and val: 1,000 frames (one catalog) give five. Shorter pieces would give more episodes,
    but no window extends beyond a piece, and the frames on the two sides of a cut look alike and may be in train and in
    val: both costs grow with the number of cuts.
    """

    split_at_deleted: bool = option(True, "begin a new episode after a frame that is marked deleted")
    split_at_session: bool = option(True, "begin a new episode where the session changes")
    split_at_index_jump: bool = option(True, "begin a new episode where indexes are missing or go back")
    max_clock_gap_s: float | None = option(
        1.0, "begin a new episode where neighbours are further apart, or the clock goes back, in seconds; none: never"
    )
    min_frames: int = option(20, "drop (and count) episodes of fewer frames")
    max_frames: int | None = option(
        200, "cut longer runs into consecutive episodes of so many frames; none: never, up to 2 GiB of images each"
    )
    throttle_scale: float | None = option(None, "linear_x at full throttle, in m/s; none: it stays normalised")
    angle_scale: float | None = option(None, "size of angular_z at full angle, in rad/s; none: it stays normalised")
    frame_rate_hz: float | None = option(None, "frames per second; none: from the time stamps")

    def __post_init__(self) -> None:
        for name in ("max_clock_gap_s", "frame_rate_hz"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise ConfigError(f"{name} is {value}, expected a number above 0, or none.")
        for name in ("throttle_scale", "angle_scale"):
            value = getattr(self, name)
            if value is not None and (not math.isfinite(value) or value == 0):
                raise ConfigError(f"{name} is {value}, expected a finite number other than 0, or none.")
        if self.min_frames < 1:
            raise ConfigError(f"min_frames is {self.min_frames}, expected 1 or more.")
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise ConfigError(
                f"max_frames is {self.max_frames}, expected at least min_frames ({self.min_frames}), or none."
            )


@dataclass(frozen=True, kw_only=True)
class EpisodePlan:
    """The frames of each episode, and the frames that were dropped because there were fewer than ``min_frames``.

    ``short_runs`` are whole runs; ``tails`` are the frames of a run after its last cut. Every record is in exactly one
    of ``episodes``, ``short_runs`` and ``tails``. ``breaks`` counts the breaks between runs by reason; ``longest_run``
    is in frames.
    """

    episodes: list[list[Record]]
    short_runs: list[list[Record]]
    tails: list[list[Record]]
    breaks: Mapping[str, int]
    num_runs: int
    num_cut_runs: int
    longest_run: int


def plan_episodes(
    records: Sequence[Record],
    deleted: Collection[int],
    options: TubOptions,
    *,
    autopilot: Collection[int] = frozenset(),
) -> EpisodePlan:
    """Return the plan: ``records`` split at every break, and long runs cut to ``max_frames``. A pure function.

    ``records`` are the kept ones in recorded order. ``deleted`` and ``autopilot`` are the indexes of the records that
    were not kept, which distinguish them from an index that never existed.
    """
    runs, breaks = _split_runs(records, sorted(deleted), sorted(autopilot), options)
    long_runs = [run for run in runs if len(run) >= options.min_frames]
    cuts = [_cut_run(run, options.max_frames) for run in long_runs]
    pieces = [piece for cut in cuts for piece in cut]
    return EpisodePlan(
        episodes=[piece for piece in pieces if len(piece) >= options.min_frames],
        short_runs=[run for run in runs if len(run) < options.min_frames],
        tails=[piece for piece in pieces if len(piece) < options.min_frames],
        breaks=breaks,
        num_runs=len(runs),
        num_cut_runs=sum(len(cut) > 1 for cut in cuts),
        longest_run=max(map(len, runs), default=0),
    )


def _split_runs(
    records: Sequence[Record], deleted: Sequence[int], autopilot: Sequence[int], options: TubOptions
) -> tuple[list[list[Record]], Counter[str]]:
    """Return the runs, ``records`` split at every break, and the number of breaks by reason.

    The runs contain every record once, in order.
    """
    runs: list[list[Record]] = []
    breaks: Counter[str] = Counter()
    for i, record in enumerate(records):
        reason = _break_between(records[i - 1], record, deleted, autopilot, options) if i > 0 else None
        if reason:
            breaks[reason] += 1
        if reason or i == 0:
            runs.append([])
        runs[-1].append(record)
    return runs, breaks


def _break_between(
    before: Record, after: Record, deleted: Sequence[int], autopilot: Sequence[int], options: TubOptions
) -> str | None:
    """Return the reason of the first rule that separates two neighbours, or None."""
    num_autopilot = _num_between(before, after, autopilot)
    if num_autopilot > 0:  # no option: a window over what a pilot drove would have targets that nobody gave
        return "autopilot frames"
    num_deleted = _num_between(before, after, deleted)
    if options.split_at_deleted and num_deleted > 0:
        return "deleted frames"
    if options.split_at_session and before.session_id != after.session_id:
        return "session changes"
    if options.split_at_index_jump and after.index - before.index != 1 + num_deleted:
        return "index jumps"
    gap_s = (after.timestamp_ms - before.timestamp_ms) / 1000
    if options.max_clock_gap_s is not None and not 0 <= gap_s <= options.max_clock_gap_s:
        return "clock gaps"
    return None


def _num_between(before: Record, after: Record, indexes: Sequence[int]) -> int:
    """Return how many of the sorted ``indexes`` are between two records."""
    # Binary search: counting in a list for every pair of neighbours would take quadratic time.
    return max(0, bisect_left(indexes, after.index) - bisect_right(indexes, before.index))


def _cut_run(run: Sequence[Record], max_frames: int | None) -> list[list[Record]]:
    """Return a run cut into consecutive pieces of ``max_frames`` frames; the last piece may be shorter."""
    size = max_frames or len(run)
    return [list(run[start : start + size]) for start in range(0, len(run), size)]
