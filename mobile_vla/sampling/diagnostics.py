"""Compute statistics of what a sampler really drew, from window indices alone, and log them as ``sampler/...``."""

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
"""Largest number of windows in a rank correlation, as sorting is slow; a larger table is thinned evenly."""


class DrawStatistics:
    """Running sums over all draws since step 0, saved in checkpoints so that a resumed run reports on the whole run."""

    def __init__(self, windows: WindowTable) -> None:
        self._windows = windows
        self._num_episodes = int(np.count_nonzero(np.bincount(windows.episode)))  # some episodes have no window
        self._visits = np.zeros(len(windows), np.int32)
        self._sums: dict[str, float] = dict.fromkeys(_SUMS, 0.0)
        self._largest_weight = 0.0

    @property
    def visits(self) -> NDArray[np.int32]:
        """Number of draws of each window [N]; read-only."""
        return self._visits

    def add(self, step: int, draw: Draw, scores: Scores) -> None:
        """Count one draw. Call it before ``scores.update`` of the same step, which overwrites the last visits."""
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
        """Return how many of the draws ``ids`` repeat a window that was already drawn in the same pass.

        A pass is N successive draws; a step belongs to the pass in which its first draw lies.
        """
        num_windows, batch_size = len(self._windows), len(ids)
        # The first step of this pass: the first draw of the pass, divided by the batch size and rounded up.
        first_step = -(-(step * batch_size // num_windows * num_windows) // batch_size)
        return batch_size - len(np.unique(ids[last_step < first_step]))

    def metrics(self, targets: NDArray[np.float64]) -> dict[str, float]:
        """Return the statistics so far (empty before the first draw); ``targets`` [N] are the sampler's probabilities.

        - ``coverage``: share of the windows that were drawn at least once. ``never_drawn``: the rest.
        - ``duplicates``: mean share of a batch that repeats a window of the same batch.
        - ``repeats_in_pass``: share of the draws whose window was already drawn in the same pass of N draws.
        - ``episodes_per_batch``, ``scenarios_per_batch``: mean number of different ones in a batch.
        - ``episode_entropy``: entropy of the episodes' shares of all draws, as a share of the largest possible entropy.
          ``episode_entropy_batch``: the same within a batch, averaged over the batches.
        - ``effective_sample_size``: (sum v)^2 / sum v^2 of the visits v, as a share of N.
        - ``padded``: share of the draws with missing frames or targets.
        - ``score_age``: mean number of steps since a drawn window was last drawn (absent before the first repeat).
        - ``repeats_max``: largest number of visits of one window.
        - ``weight_max``: largest loss weight. ``weight_effective``: (sum w)^2 / sum w^2 of the loss weights w, as a
          share of the draws (absent while all weights are 0).
        - ``share/x``, ``target/x``: drawn share and target share of scenario x.
        - ``scenario_divergence/target``, ``/natural``: total variation distance of the drawn shares from the target
          shares, and from the scenarios' shares of the windows: the share of the draws that is in the wrong scenario.
        - ``phase_i``: share of the draws by progress of the current frame. ``chi_squared/phase``: chi-squared of these
          counts against uniform draws, per degree of freedom: 1 on average for independent draws, less for passes
          (absent where all windows are in one phase).
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
        """Return ``score_rank_correlation``: Spearman's correlation of a window's visits with its loss in ``scores``.

        It covers the windows seen so far (of a large table, those among evenly spaced windows). The result is empty
        while fewer than two were seen, and where all have the same number of visits or the same loss.
        """
        num_windows = len(self._visits)
        ids = np.linspace(0, num_windows - 1, min(num_windows, _NUM_RANKED)).astype(np.int64)
        ids = ids[scores.visits[ids] > 0]
        visits, losses = self._visits[ids], scores.loss[ids]
        if len(ids) < 2 or np.ptp(visits) == 0 or np.ptp(losses) == 0:
            return {}
        return {"sampler/score_rank_correlation": float(np.corrcoef(rankdata(visits), rankdata(losses))[0, 1])}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of the arrays that a checkpoint stores."""
        return {
            "visits": self._visits.copy(),
            "sums": np.array([self._sums[name] for name in _SUMS]),
            "largest_weight": np.array([self._largest_weight]),
        }

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what ``state`` returned for a table of the same length."""
        assert self._visits.shape == state["visits"].shape
        self._visits[:] = state["visits"]
        self._sums = dict(zip(_SUMS, state["sums"].tolist(), strict=True))
        self._largest_weight = float(state["largest_weight"][0])


def _evenness(counts: NDArray[np.integer] | NDArray[np.floating], *, num_groups: int) -> float:
    """Return the entropy of ``counts`` divided by that of ``num_groups`` equal counts; 1 if there is only one group."""
    if num_groups == 1:
        return 1.0
    shares = counts[counts > 0] / counts.sum()
    # Clamped: the sum can come out as -0.0, or below 0 by rounding.
    return max(0.0, float(-(shares * np.log(shares)).sum() / np.log(num_groups)))
