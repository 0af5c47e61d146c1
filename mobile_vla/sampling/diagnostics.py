"""Count what a sampler really drew: figures from indices alone, logged as ``sampler/...``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import NUM_PHASES, Draw, WindowTable

_SUMS = ("draws", "duplicates", "episodes", "scenarios", "weight", "weight_squared", "age", "aged_windows")


class DrawStatistics:
    """Sums over all draws since step 0; its state is part of a checkpoint, so a resumed run reports the whole run."""

    def __init__(self, windows: WindowTable) -> None:
        self._windows = windows
        self._visits = np.zeros(len(windows), np.int64)
        self._sums: dict[str, float] = dict.fromkeys(_SUMS, 0.0)
        self._largest_weight = 0.0

    def add(self, step: int, draw: Draw, scores: Scores) -> None:
        """Count one draw; call it before the scores of ``step`` are entered."""
        last_step = scores.last_step[draw.ids]
        is_known = last_step >= 0
        for name, value in (
            ("draws", 1),
            ("duplicates", 1 - len(np.unique(draw.ids)) / len(draw.ids)),
            ("episodes", len(np.unique(self._windows.episode[draw.ids]))),
            ("scenarios", len(np.unique(self._windows.scenario[draw.ids]))),
            ("weight", draw.weights.sum(dtype=float)),
            ("weight_squared", np.square(draw.weights, dtype=float).sum()),
            ("age", (step - last_step[is_known]).sum()),
            ("aged_windows", is_known.sum()),
        ):
            self._sums[name] += float(value)
        np.add.at(self._visits, draw.ids, 1)
        self._largest_weight = max(self._largest_weight, float(draw.weights.max()))

    def metrics(self, targets: NDArray[np.float64]) -> dict[str, float]:
        """Return the figures so far, none before the first draw; ``targets`` [N] is the sampler's ``probabilities``.

        ``coverage`` share of windows drawn at least once; ``duplicates`` mean share of a batch that repeats one of its
        windows; ``episodes_per_batch`` and ``scenarios_per_batch`` means; ``effective_sample_size`` (sum v)^2 / sum v^2
        of the visits v as a share of N; ``padded`` share of draws with missing frames or targets; ``score_age``
        mean number of steps since a drawn window was last seen (absent while none was); ``repeats_max`` most visits of
        one window; ``weight_max`` largest loss weight; ``weight_effective`` (sum w)^2 / sum w^2 of the loss weights w
        as a share of the draws; ``share/x`` and ``target/x`` of each scenario; ``phase_i`` share of draws by progress
        of the current frame.
        """
        sums, visits, windows = self._sums, self._visits, self._windows
        total = int(visits.sum())
        if total == 0:
            return {}
        is_padded = (windows.pad_start > 0) | (windows.pad_end > 0)
        result = {
            "coverage": float((visits > 0).mean()),
            "duplicates": sums["duplicates"] / sums["draws"],
            "episodes_per_batch": sums["episodes"] / sums["draws"],
            "scenarios_per_batch": sums["scenarios"] / sums["draws"],
            "effective_sample_size": total**2 / float(np.square(visits).sum()) / len(visits),
            "padded": float(visits[is_padded].sum() / total),
            "repeats_max": float(visits.max()),
            "weight_max": self._largest_weight,
            "weight_effective": sums["weight"] ** 2 / (sums["weight_squared"] * total),
        }
        if sums["aged_windows"]:
            result["score_age"] = sums["age"] / sums["aged_windows"]
        num_scenarios = len(windows.scenario_names)
        shares = np.bincount(windows.scenario, weights=visits, minlength=num_scenarios) / total
        wanted = np.bincount(windows.scenario, weights=targets, minlength=num_scenarios)
        for name, share, target in zip(windows.scenario_names, shares, wanted, strict=True):
            result[f"share/{name}"] = float(share)
            result[f"target/{name}"] = float(target)
        for phase, share in enumerate(np.bincount(windows.phase, weights=visits, minlength=NUM_PHASES) / total):
            result[f"phase_{phase}"] = float(share)
        return {f"sampler/{name}": value for name, value in result.items()}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of the arrays a checkpoint needs."""
        return {
            "visits": self._visits.copy(),
            "sums": np.array([self._sums[name] for name in _SUMS]),
            "largest_weight": np.array([self._largest_weight]),
        }

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned, of a table of the same length."""
        assert self._visits.shape == state["visits"].shape
        self._visits[:] = state["visits"]
        self._sums = dict(zip(_SUMS, state["sums"].tolist(), strict=True))
        self._largest_weight = float(state["largest_weight"][0])
