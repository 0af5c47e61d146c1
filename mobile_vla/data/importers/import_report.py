"""Tell what an import read, dropped and wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Counts of one import. Each record was deleted, dropped with a short run, dropped with a tail, or written.

    ``breaks`` counts where runs end, by reason. Short runs and tails (what remained of a run after its last cut) were
    dropped. ``left_aside`` counts what else lies in the tub, by kind. ``linear_x`` (m/s) and ``angular_z`` (rad/s) are
    the lowest and highest command written; ``frame_rate_hz`` is None where no believable rate is known, and then the
    episodes have no such attribute.
    """

    source: Path
    out: Path
    num_records: int
    num_deleted: int
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
    warnings: tuple[str, ...]

    @property
    def num_episodes(self) -> int:
        """Return how many files were written."""
        return len(self.lengths)

    @property
    def num_frames(self) -> int:
        """Return how many frames were written."""
        return sum(self.lengths)

    def __str__(self) -> str:
        breaks = ", ".join(f"{count} at {reason}" for reason, count in self.breaks.items()) or "none"
        left_aside = ", ".join(f"{kind}: {count:,}" for kind, count in self.left_aside.items()) or "nothing"
        rate = "unknown" if self.frame_rate_hz is None else f"{self.frame_rate_hz:.4g} Hz"
        mean = self.num_frames / self.num_episodes
        rows = {
            "records": f"{self.num_records:,}, of which {self.num_deleted:,} marked deleted",
            "runs": f"{self.num_runs:,} (breaks: {breaks}), of which {self.num_cut_runs:,} were cut",
            "dropped": f"{self.num_short_runs:,} short runs ({self.num_short_run_frames:,} frames), "
            f"{self.num_tails:,} short tails of cut runs ({self.num_tail_frames:,} frames)",
            "left aside": left_aside,
            "episodes": f"{self.num_episodes:,} with {self.num_frames:,} frames",
            "length": f"{min(self.lengths)} to {max(self.lengths)} frames, mean {mean:.1f}",
            "frame rate": rate,
            "linear_x": f"{self.linear_x[0]:.3f} to {self.linear_x[1]:.3f} m/s",
            "angular_z": f"{self.angular_z[0]:.3f} to {self.angular_z[1]:.3f} rad/s",
        }
        lines = [f"imported {self.source} -> {self.out}"]
        lines += [f"  {name:<11}{text}" for name, text in rows.items()]
        lines += [f"warning: {text}" for text in self.warnings]
        return "\n".join(lines)
