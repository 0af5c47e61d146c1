"""Sum up what was measured: one row a sampler, held against the bounds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BOUND_MS, BOUND_BYTES = 2.0, 32.0
"""The project's bounds: of a draw and of a score update, and of the memory a window."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of the steps, in ms: median, 95th percentile and largest by the clock; largest time of the processor."""

    median: float
    p95: float
    largest: float
    largest_cpu: float

    @classmethod
    def of(cls, ms: NDArray[np.float64]) -> Times:
        """Sum up ``ms`` [2, steps], by the clock and of the processor."""
        clock, processor = ms
        return cls(
            median=float(np.median(clock)),
            p95=float(np.percentile(clock, 95)),
            largest=float(clock.max()),
            largest_cpu=float(processor.max()),
        )

    def holds(self, bound: float) -> str:
        """Say whether ``bound`` holds in every step, by the clock or at least of the processor; or in 95 % of them."""
        if self.largest <= bound:
            return "yes"
        if self.largest_cpu <= bound:
            return "yes but for waits"
        return "in 95 %" if self.p95 <= bound else "no"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one sampler takes; ``update`` and ``first_draw_ms`` are None where there is none.

    ``first_draw_ms`` is a resumed run's first draw, which is not among the others. ``held_bytes`` is a window's share
    of what is held beside the window table, ``peak_bytes`` of the most that is until the last step (None: unknown).
    ``draw_to_ours`` and ``update_to_ours`` are to the sampler of ours that other libraries' are held against.
    """

    sampler: str
    draw: Times
    update: Times | None
    construction_s: float
    first_draw_ms: float | None
    held_bytes: float
    peak_bytes: float | None = None
    draw_to_ours: float | None = None
    update_to_ours: float | None = None

    def columns(self) -> dict[str, str]:
        """Return the row as text, by the names of its columns."""
        update = asdict(self.update) if self.update else dict.fromkeys(asdict(self.draw))
        numbers = {
            **{f"draw_ms_{name}": value for name, value in asdict(self.draw).items()},
            **{f"update_ms_{name}": value for name, value in update.items()},
            "construction_s": self.construction_s,
            "first_draw_ms": self.first_draw_ms,
            "held_bytes": self.held_bytes,
            "peak_bytes": self.peak_bytes,
            "draw_to_ours": self.draw_to_ours,
            "update_to_ours": self.update_to_ours,
        }
        verdicts = {
            "draw_holds": self.draw.holds(BOUND_MS),
            "update_holds": self.update.holds(BOUND_MS) if self.update else "",
            "memory_holds": "yes" if self.held_bytes <= BOUND_BYTES else "no",
        }
        return {"sampler": self.sampler} | {name: _text(value) for name, value in numbers.items()} | verdicts


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write all ``rows`` to ``path``, one line each."""
    lines = [row.columns() for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Return the table of ``rows`` as Markdown; columns that no row fills are left out."""
    lines = [row.columns() for row in rows]
    names = [name for name in lines[0] if any(line[name] for line in lines)]
    headings = [name.replace("_", " ") for name in names]
    cells = [headings, ["---"] * len(names), *([line[name] for name in names] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def verdict(rows: Sequence[Row]) -> list[str]:
    """Say of each bound how many of ``rows`` keep it, and name those that do not."""
    lines = [row.columns() for row in rows]
    sentences = []
    for column, bound in (
        ("draw_holds", f"a draw takes at most {BOUND_MS:g} ms"),
        ("update_holds", f"a score update takes at most {BOUND_MS:g} ms"),
        ("memory_holds", f"memory is at most {BOUND_BYTES:g} bytes a window"),
    ):
        others = [f"{line['sampler']} ({line[column]})" for line in lines if not line[column].startswith("yes")]
        kept = f"{len(lines) - len(others)} of {len(lines)} samplers"
        sentences.append(f"{bound}: {kept}" + (f"; not {', '.join(others)}" if others else ""))
    return sentences
