"""Count what a sampler really drew: figures from indices alone, logged as ``sampler/...``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import NUM_PHASES, Draw, WindowTable

_SUMS = (
    *("draws", "duplicates", "repeats_in_pass", "episodes", "episode_entropy", "scenarios"),
    *("weight", "weight_squared", "age", "aged_windows"),
)

_NUM_RANKED = 16_384
"""Windows that a rank correlation is taken over: of a larger table so many, evenly spaced, as sorting is slow."""


class DrawStatistics:
    """Sums over all draws since step 0; its state is part of a checkpoint, so a resumed run reports the whole run."""

    def __init__(self, windows: WindowTable) -> None:
        self._windows = windows
        self._num_episodes = int(np.count_nonzero(np.bincount(windows.episode)))  # some have no window
        self._visits = np.zeros(len(windows), np.int32)
        self._sums: dict[str, float] = dict.fromkeys(_SUMS, 0.0)
        self._largest_weight = 0.0

    @property
    def visits(self) -> NDArray[np.int32]:
        """How often each window was drawn [N]; read only."""
        return self._visits

    def add(self, step: int, draw: Draw, scores: Scores) -> None:
        """Count one draw; call it before the scores of ``step`` are entered."""
        windows, batch_size = self._windows, len(draw.ids)
        last_step = scores.last_step[draw.ids]
        is_known = last_step >= 0
        num_different = len(np.unique(draw.ids))
        per_episode = np.unique(windows.episode[draw.ids], return_counts=True)[1]
        for name, value in (
            ("draws", 1),
            ("duplicates", 1 - num_different / batch_size),
            ("repeats_in_pass", self._repeats_in_pass(step, draw.ids, last_step) / batch_size),
            ("episodes", len(per_episode)),
            ("episode_entropy", _evenness(per_episode, num_groups=min(batch_size, self._num_episodes))),
            ("scenarios", len(np.unique(windows.scenario[draw.ids]))),
            ("weight", draw.weights.sum(dtype=float)),
            ("weight_squared", np.square(draw.weights, dtype=float).sum()),
            ("age", (step - last_step[is_known]).sum()),
            ("aged_windows", is_known.sum()),
        ):
            self._sums[name] += float(value)
        np.add.at(self._visits, draw.ids, 1)
        self._largest_weight = max(self._largest_weight, float(draw.weights.max()))

    def _repeats_in_pass(self, step: int, ids: NDArray[np.int64], last_step: NDArray[np.int32]) -> int:
        """Return how many of the draws ``ids`` repeat one of the same pass: of the steps that begin in its N draws."""
        num_windows, batch_size = len(self._windows), len(ids)
        first_step = -(-(step * batch_size // num_windows * num_windows) // batch_size)
        return batch_size - len(np.unique(ids[last_step < first_step]))

    def metrics(self, targets: NDArray[np.float64]) -> dict[str, float]:
        """Return the figures so far, none before the first draw; ``targets`` [N] is the sampler's ``probabilities``.

        ``coverage`` share of windows drawn at least once, ``never_drawn`` the others; ``duplicates`` mean share of a
        batch that repeats one of its windows; ``repeats_in_pass`` share of the draws whose window was drawn before in
        the same N draws; ``episodes_per_batch`` and ``scenarios_per_batch`` means; ``episode_entropy`` of the episodes'
        shares of all draws, and ``episode_entropy_batch`` its mean over the batches, each as a share of the largest
        possible; ``effective_sample_size`` (sum v)^2 / sum v^2 of the visits v as a share of N; ``padded`` share of
        draws with missing frames or targets; ``score_age`` mean number of steps since a drawn window was last seen
        (absent while none was); ``repeats_max`` most visits of one window; ``weight_max`` largest loss weight;
        ``weight_effective`` (sum w)^2 / sum w^2 of the loss weights w as a share of the draws (absent while all are 0);
        ``share/x`` and ``target/x`` of each scenario; ``scenario_divergence/target`` and ``/natural`` total variation
        distance of these shares from the target and from the windows' own: the share of the draws that would have to go
        to other scenarios; ``phase_i`` share of draws by progress of the current frame; ``chi_squared/phase`` of these
        counts against uniform draws, per degree of freedom: 1 on average for independent ones, less for passes (absent
        where all windows are in one phase).
        """
        sums, visits, windows = self._sums, self._visits, self._windows
        total = int(visits.sum())
        if total == 0:
            return {}
        is_padded = (windows.pad_start > 0) | (windows.pad_end > 0)
        coverage = float((visits > 0).mean())
        result = {
            "coverage": coverage,
            "never_drawn": 1 - coverage,
            "duplicates": sums["duplicates"] / sums["draws"],
            "repeats_in_pass": sums["repeats_in_pass"] / sums["draws"],
            "episodes_per_batch": sums["episodes"] / sums["draws"],
            "episode_entropy": _evenness(np.bincount(windows.episode, weights=visits), num_groups=self._num_episodes),
            "episode_entropy_batch": sums["episode_entropy"] / sums["draws"],
            "scenarios_per_batch": sums["scenarios"] / sums["draws"],
            "effective_sample_size": total**2 / float(np.square(visits, dtype=float).sum()) / len(visits),
            "padded": float(visits[is_padded].sum() / total),
            "repeats_max": float(visits.max()),
            "weight_max": self._largest_weight,
        }
        if sums["weight_squared"]:
            result["weight_effective"] = sums["weight"] ** 2 / (sums["weight_squared"] * total)
        if sums["aged_windows"]:
            result["score_age"] = sums["age"] / sums["aged_windows"]
        result |= self._by_scenario(targets) | self._by_phase()
        return {f"sampler/{name}": value for name, value in result.items()}

    def _by_scenario(self, targets: NDArray[np.float64]) -> dict[str, float]:
        windows, visits = self._windows, self._visits
        names = windows.scenario_names
        shares = np.bincount(windows.scenario, weights=visits, minlength=len(names)) / visits.sum()
        wanted = np.bincount(windows.scenario, weights=targets, minlength=len(names))
        natural = np.bincount(windows.scenario, minlength=len(names)) / len(visits)
        result = {
            "scenario_divergence/target": float(np.abs(shares - wanted).sum() / 2),
            "scenario_divergence/natural": float(np.abs(shares - natural).sum() / 2),
        }
        for name, share, target in zip(names, shares, wanted, strict=True):
            result[f"share/{name}"] = float(share)
            result[f"target/{name}"] = float(target)
        return result

    def _by_phase(self) -> dict[str, float]:
        phase, visits = self._windows.phase, self._visits
        counts = np.bincount(phase, weights=visits, minlength=NUM_PHASES)
        result = {f"phase_{i}": float(share) for i, share in enumerate(counts / counts.sum())}
        expected = np.bincount(phase, minlength=NUM_PHASES) / len(visits) * counts.sum()
        has_windows = expected > 0
        if has_windows.sum() > 1:
            terms = np.square(counts - expected)[has_windows] / expected[has_windows]
            result["chi_squared/phase"] = float(terms.sum() / (has_windows.sum() - 1))
        return result

    def score_metrics(self, scores: Scores) -> dict[str, float]:
        """Return ``score_rank_correlation``: Spearman's, of how often a window was drawn and its loss in ``scores``.

        Over the windows seen, or evenly spaced ones of a large table; absent while fewer than two were seen, and where
        all were drawn equally often or have one loss.
        """
        num_windows = len(self._visits)
        ids = np.linspace(0, num_windows - 1, min(num_windows, _NUM_RANKED)).astype(np.int64)
        ids = ids[scores.visits[ids] > 0]
        visits, losses = self._visits[ids], scores.loss[ids]
        if len(ids) < 2 or np.ptp(visits) == 0 or np.ptp(losses) == 0:
            return {}
        return {"sampler/score_rank_correlation": float(np.corrcoef(rankdata(visits), rankdata(losses))[0, 1])}

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


def _evenness(counts: NDArray[np.integer] | NDArray[np.floating], *, num_groups: int) -> float:
    """Return the entropy of ``counts`` as a share of that of ``num_groups`` equal ones; 1 where there is one group."""
    if num_groups == 1:
        return 1.0
    shares = counts[counts > 0] / counts.sum()
    # Not below 0 where rounding would take it there.
    return max(0.0, float(-(shares * np.log(shares)).sum() / np.log(num_groups)))
