"""Draw what each sampler drew: its shares by scenario beside target and data, and by phase."""

from __future__ import annotations

from collections.abc import Sequence

from mobile_vla.compare.comparison import Comparison
from mobile_vla.compare.page.blocks import Choice, Figure, Value, tidy

SHARE, TARGET, PHASE = "sampler/share/", "sampler/target/", "sampler/phase_"

UNIFORM = "shuffled"
"""Draws every window equally often, so its target is the share that each scenario has of the train windows."""


def scenario_shares(comparison: Comparison) -> Figure:
    """Draw the share of each scenario in all draws, the sampler's target, and the data's own share."""
    natural = _natural(comparison)
    rows: list[Sequence[Value]] = []
    for row in comparison.rows:
        for name in sorted(name.removeprefix(SHARE) for name in row.metrics if name.startswith(SHARE)):
            targets = row.metrics[TARGET + name].values if TARGET + name in row.metrics else {}
            for seed, share in row.metrics[SHARE + name].values.items():
                rows.append([row.label, seed, name, share, targets.get(seed), natural.get(name)])
    lacking = () if natural or not rows else (f"The data's own shares are known from {UNIFORM} alone; no run has it.",)
    return Figure(
        id="shares",
        title="Share of each scenario",
        caption="Dots: drawn, mean over seeds. Rings: what the sampler aims at. Vertical lines: the share among the "
        "train windows.",
        kind="shares",
        table=tidy(["sampler", "seed", "scenario", "drawn", "target", "natural"], rows),
        options={},
        switches={},
        notes=lacking,
        absent=f"No finished run logged what it drew ({SHARE}...).",
    )


def phase_histogram(comparison: Comparison) -> Figure:
    """Draw the share of draws by phase of the current frame."""
    rows: list[Sequence[Value]] = []
    for row in comparison.rows:
        phases = sorted(int(name.removeprefix(PHASE)) for name in row.metrics if name.startswith(PHASE))
        for phase in phases:
            for seed, share in row.metrics[f"{PHASE}{phase}"].values.items():
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
        absent=f"No finished run logged what it drew by phase ({PHASE}...).",
    )


def _natural(comparison: Comparison) -> dict[str, float]:
    for row in comparison.rows:
        if any(run.sampler == UNIFORM for run in row.finished.values()):
            return {
                name.removeprefix(TARGET): metric.mean
                for name, metric in row.metrics.items()
                if name.startswith(TARGET) and metric.mean is not None
            }
    return {}
