"""Figures of the drawn windows: the shares of scenarios, with target and data, and the shares of phases."""

from __future__ import annotations

from collections.abc import Sequence

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.page.blocks import Choice, Figure, Value, tidy
from mobile_vla.metrics import PHASE, SHARE, TARGET, parts_of

UNIFORM = "shuffled"
"""This sampler draws every window equally often, so its targets are the scenarios' shares of the train windows."""


def scenario_shares(comparison: Comparison) -> Figure:
    """Return the figure of each scenario's share of all draws, of the sampler's target, and of the train windows."""
    natural = _natural(comparison)
    rows: list[Sequence[Value]] = []
    for row in comparison.rows:
        shares, aims = parts_of(row.metrics, SHARE), parts_of(row.metrics, TARGET)
        for name in sorted(shares):
            targets = row.metrics[aims[name]].values if name in aims else {}
            for seed, share in row.metrics[shares[name]].values.items():
                rows.append([row.label, seed, name, share, targets.get(seed), natural.get(name)])
    unknown = f"The shares among the train windows are known only from runs with {UNIFORM}; there is none."
    lacking = () if natural or not rows else (unknown,)
    return Figure(
        id="shares",
        title="Share of each scenario",
        caption="Dots: drawn, mean over seeds. Rings: the sampler's target. Vertical lines: the share among the train "
        "windows.",
        kind="shares",
        table=tidy(["sampler", "seed", "scenario", "drawn", "target", "natural"], rows),
        options={},
        switches={},
        notes=lacking,
        absent="No finished run logged what it drew (sampler/share/...).",
    )


def phase_histogram(comparison: Comparison) -> Figure:
    """Return the figure of the share of draws by phase of the current frame."""
    rows: list[Sequence[Value]] = []
    for row in comparison.rows:
        phases = {int(phase): name for phase, name in parts_of(row.metrics, PHASE).items()}
        for phase, name in sorted(phases.items()):
            for seed, share in row.metrics[name].values.items():
                rows.append([row.label, seed, phase, share])
    return Figure(
        id="phases",
        title="Share of each phase",
        caption="Tenths of an episode, by the current frame of the drawn windows; mean over seeds ± one standard "
        "deviation.",
        kind="curves",
        table=tidy(["sampler", "seed", "phase", "share"], rows),
        options={"group": "phase", "scale": 100, "units": {"share": "%"}, "shape": "hvh", "from_zero": True},
        switches={
            "metric": [Choice(value="share", label="share of draws")],
            "axis": [Choice(value="phase", label="phase")],
        },
        notes=(),
        absent="No finished run logged what it drew by phase (sampler/phase_...).",
    )


def _natural(comparison: Comparison) -> dict[str, float]:
    for row in comparison.rows:
        if any(run.sampler == UNIFORM for run in row.finished.values()):
            return {
                scenario: mean
                for scenario, name in parts_of(row.metrics, TARGET).items()
                if (mean := row.metrics[name].mean) is not None
            }
    return {}
