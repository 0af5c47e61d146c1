"""The report of an import: what was read, dropped and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """The counts of one import. Each record was deleted, driven by an autopilot, dropped with a short run or with a
    tail, or written.

    A run is a sequence of frames without a break. ``breaks`` counts the breaks by reason. Short runs, and tails (the
    frames of a run after its last cut), were dropped. ``left_aside`` counts the other files in the tub by kind.
    ``linear_x`` and ``angular_z`` are the lowest and the highest command written, in ``units``. ``frame_rate_hz`` is
    None where no plausible rate is known; then the episodes have no such attribute.
    """

    source: Path
    out: Path
    num_records: int
    num_deleted: int
    num_autopilot: int
    breaks: Mapping[str, int]
    num_runs: int
    num_cut_runs: int
    num_short_runs: int
    num_short_run_frames: int
    num_tails: int
    num_tail_frames: int
    left_aside: Mapping[str, int]
    lengths: tuple[int, ...]
    frame_rate_hz: float | None
    linear_x: tuple[float, float]
    angular_z: tuple[float, float]
    units: tuple[str, str]
    warnings: tuple[str, ...]

    @property
    def num_episodes(self) -> int:
        """The number of files written."""
        return len(self.lengths)

    @property
    def num_frames(self) -> int:
        """The number of frames written."""
        return sum(self.lengths)

    def __str__(self) -> str:
        breaks = ", ".join(f"{count} at {reason}" for reason, count in self.breaks.items()) or "none"
        left_aside = ", ".join(f"{kind}: {count:,}" for kind, count in self.left_aside.items()) or "nothing"
        rate = "unknown" if self.frame_rate_hz is None else f"{self.frame_rate_hz:.4g} Hz"
        autopilot = f" and {self.num_autopilot:,} driven by an autopilot" if self.num_autopilot else ""
        mean = self.num_frames / self.num_episodes
        rows = {
            "records": f"{self.num_records:,}, of which {self.num_deleted:,} marked deleted{autopilot}",
            "runs": f"{self.num_runs:,} (breaks: {breaks}), of which {self.num_cut_runs:,} were cut",
            "dropped": f"{self.num_short_runs:,} short runs ({self.num_short_run_frames:,} frames), "
            f"{self.num_tails:,} short tails of cut runs ({self.num_tail_frames:,} frames)",
            "left aside": left_aside,
            "episodes": f"{self.num_episodes:,} with {self.num_frames:,} frames",
            "length": f"{min(self.lengths)} to {max(self.lengths)} frames, mean {mean:.1f}",
            "frame rate": rate,
            "linear_x": f"{self.linear_x[0]:.3f} to {self.linear_x[1]:.3f} {self.units[0]}",
            "angular_z": f"{self.angular_z[0]:.3f} to {self.angular_z[1]:.3f} {self.units[1]}",
        }
        lines = [f"imported {self.source} -> {self.out}"]
        lines += [f"  {name:<11}{text}" for name, text in rows.items()]
        lines += [f"warning: {text}" for text in self.warnings]
        return "\n".join(lines)
