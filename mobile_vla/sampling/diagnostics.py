"""Count what a sampler really drew: figures from indices alone, logged as ``sampler/...``."""

from __future__ import annotations

import numpy as np

from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import NUM_PHASES, Draw, WindowTable


class DrawStatistics:
    """Sums over all draws since step 0; its state is part of a checkpoint, so that a resumed run reports the whole run."""

    def __init__(self, windows: WindowTable) -> None:
        self._windows = windows
        self._visits = np.zeros(len(windows), np.int64)
        self._sums = dict.fromkeys(("draws", "duplicates", "episodes", "scenarios", "weight", "weight_squared"), 0.0)
        self._age = {"sum": 0.0, "count": 0.0}
        self._largest_weight = 0.0

    def add(self, step: int, draw: Draw, scores: Scores) -> None:
        """Count one draw; call it before the scores of ``step`` are entered."""
        unique = np.unique(draw.ids)
        self._visits += np.bincount(draw.ids, minlength=len(self._visits))
        for name, value in (
            ("draws", 1),
            ("duplicates", 1 - len(unique) / len(draw.ids)),
            ("episodes", len(np.unique(self._windows.episode[draw.ids]))),
            ("scenarios", len(np.unique(self._windows.scenario[draw.ids]))),
            ("weight", draw.weights.sum()),
            ("weight_squared", np.square(draw.weights).sum()),
        ):
            self._sums[name] += float(value)
        known = scores.last_step[draw.ids]
        self._age["sum"] += float((step - known[known >= 0]).sum())
        self._age["count"] += float((known >= 0).sum())
        self._largest_weight = max(self._largest_weight, float(draw.weights.max()))

    def metrics(self, targets: np.ndarray) -> dict[str, float]:
        """Return the figures so far; ``targets`` [N] is the sampler's own ``probabilities``.

        ``coverage`` share of windows drawn at least once; ``duplicates`` mean share of a batch that repeats one of its
        windows; ``episodes_per_batch`` and ``scenarios_per_batch`` means; ``effective_sample_size`` (sum v)^2 / sum v^2
        of the visits v as a share of N; ``padded`` share of drawn windows with missing frames or targets; ``score_age``
        mean number of steps since a drawn window was last seen; ``repeats_max`` most visits of one window; ``weight_*``
        of the loss weights; ``share/x`` and ``target/x`` of each scenario; ``phase_i`` share of draws by progress of
        the current frame.
        """
        visits, windows = self._visits, self._windows
        total = max(int(visits.sum()), 1)
        batches = max(self._sums["draws"], 1.0)
        is_padded = (windows.pad_start > 0) | (windows.pad_end > 0)
        result = {
            "coverage": float((visits > 0).mean()),
            "duplicates": self._sums["duplicates"] / batches,
            "episodes_per_batch": self._sums["episodes"] / batches,
            "scenarios_per_batch": self._sums["scenarios"] / batches,
            "effective_sample_size": total**2 / max(float(np.square(visits).sum()), 1.0) / len(visits),
            "padded": float(visits[is_padded].sum() / total),
            "repeats_max": float(visits.max(initial=0)),
            "weight_max": self._largest_weight,
            "weight_effective": self._sums["weight"] ** 2 / max(self._sums["weight_squared"] * total, 1e-12),
        }
        if self._age["count"]:
            result["score_age"] = self._age["sum"] / self._age["count"]
        num_scenarios = len(windows.scenario_names)
        shares = np.bincount(windows.scenario, weights=visits, minlength=num_scenarios) / total
        wanted = np.bincount(windows.scenario, weights=targets, minlength=num_scenarios)
        for name, share, target in zip(windows.scenario_names, shares, wanted, strict=True):
            result[f"share/{name}"] = float(share)
            result[f"target/{name}"] = float(target)
        for phase, share in enumerate(np.bincount(windows.phase, weights=visits, minlength=NUM_PHASES) / total):
            result[f"phase_{phase}"] = float(share)
        return {f"sampler/{name}": value for name, value in result.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays a checkpoint needs."""
        rest = [*self._sums.values(), *self._age.values(), self._largest_weight]
        return {"visits": self._visits, "sums": np.array(rest)}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take over what ``state`` returned."""
        self._visits[:] = state["visits"]
        values = state["sums"].tolist()
        self._sums = dict(zip(self._sums, values, strict=False))
        self._age = dict(zip(self._age, values[len(self._sums) :], strict=False))
        self._largest_weight = values[-1]
