"""Ask what other val episodes would have said: resample them whole, the trained policies as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.compare.runs import Run
from mobile_vla.compare.statistics import CONFIDENCE
from mobile_vla.errors import UserError
from mobile_vla.metrics import ERROR
from mobile_vla.untrusted.files import csv_rows, inside

WINDOWS = "val_windows.csv"

"""The metric that sums over WINDOWS give."""

MIN_EPISODES = 10
"""With fewer episodes there is no interval: so few resampled are a caricature of what others would show."""

NUM_RESAMPLES = 4000

RMSE_TOLERANCE = 1e-3
"""Relative, between val/rmse of ``summary.json`` and that of WINDOWS; more means that they are of two evaluations."""

_REMEDY = "Train the run again or leave it out."


@dataclass(frozen=True, kw_only=True)
class EpisodeErrors:
    """Of one run, by val episode: the sum of its squared errors (physical units squared) and how many it sums."""

    squared_error: Mapping[str, float]
    num_targets: Mapping[str, int]

    @property
    def rmse(self) -> float:
        """RMSE over all episodes."""
        return math.sqrt(sum(self.squared_error.values()) / sum(self.num_targets.values()))


def load_episode_errors(run: Run) -> EpisodeErrors | None:
    """Sum the val windows of ``run`` by episode; None where the run did not record them, or has no val/rmse.

    Raises UserError, naming the file, where it is damaged or does not give the val/rmse of the run's summary.
    """
    path = run.folder / WINDOWS
    if not path.exists() or ERROR not in run.numbers:
        return None
    squared_error: dict[str, float] = {}
    num_targets: dict[str, int] = {}
    for place, line in csv_rows(inside(run.folder, WINDOWS)):
        try:
            episode, error, num = line["episode"], float(line["squared_error"]), int(line["num_targets"])
        except (KeyError, TypeError, ValueError) as problem:
            raise UserError(
                f"{place} lacks an episode, a squared_error or a num_targets that can be read ({problem!r}). {_REMEDY}"
            ) from problem
        squared_error[episode] = squared_error.get(episode, 0.0) + error
        num_targets[episode] = num_targets.get(episode, 0) + num
    errors = EpisodeErrors(squared_error=squared_error, num_targets=num_targets)
    expected, found = run.numbers[ERROR], errors.rmse if any(num_targets.values()) else math.nan
    if not math.isclose(found, expected, rel_tol=RMSE_TOLERANCE):
        raise UserError(
            f"{path}: its windows give {ERROR} {found:.6g}; expected {expected:.6g} as in summary.json. The two are "
            f"of different evaluations. {_REMEDY}"
        )
    return errors


def episode_interval(
    treatment: Mapping[int, Run], baseline: Mapping[int, Run], errors: Mapping[Path, EpisodeErrors | None]
) -> tuple[float, float] | None:
    """Return the 95 % interval over val episodes of the mean difference in RMSE between two samplers' runs, by seed.

    The same resampled episodes are given to all runs of both; ``errors`` are those of each run's folder. It says what
    other episodes of this kind would have shown *of these trained policies*, where the interval over seeds says what
    newly trained ones would show on these episodes. None without a seed for which both runs recorded their errors on
    the same episodes, or with fewer than MIN_EPISODES of them.
    """
    pairs = [
        (one, other)
        for seed in sorted(treatment.keys() & baseline.keys())
        if (one := errors.get(treatment[seed].folder)) and (other := errors.get(baseline[seed].folder))
    ]
    if not pairs or len(pairs[0][0].num_targets) < MIN_EPISODES:
        return None
    reference = pairs[0][0].num_targets
    if any(side.num_targets != reference for pair in pairs for side in pair):
        return None
    names = sorted(reference)
    squared_SPE = np.array([[[side.squared_error[name] for name in names] for side in pair] for pair in pairs])
    return cluster_interval(squared_SPE, np.array([reference[name] for name in names]))


def cluster_interval(squared_SPE: NDArray[np.float64], num_targets_E: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % cluster bootstrap interval of the mean over S seeds of RMSE(first) - RMSE(second), P = 2.

    ``squared_SPE`` holds the summed squared errors of E episodes. Episodes are drawn whole, because the windows of one
    overlap and share what is hard about it. The percentiles are those of Hesterberg, What Teachers Should Know About
    the Bootstrap, 2015: widened as a t interval is, without which the interval is too narrow with few episodes. The
    resamples are the same at every call.
    """
    from scipy.special import ndtr, stdtrit

    num = len(num_targets_E)
    weights_RE = _resamples(num)
    mean_squared_SPR = squared_SPE @ weights_RE.T / (weights_RE @ num_targets_E)
    rmse_SPR = np.sqrt(mean_squared_SPR)
    differences_R = (rmse_SPR[:, 0] - rmse_SPR[:, 1]).mean(axis=0)
    tail = float(ndtr((num / (num - 1)) ** 0.5 * stdtrit(num - 1, (1 - CONFIDENCE) / 2)))
    low, high = np.quantile(differences_R, [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _resamples(num_episodes: int) -> NDArray[np.float64]:
    """Return how often each resample [NUM_RESAMPLES, E] draws each episode."""
    shares = np.full(num_episodes, 1 / num_episodes)
    return np.random.default_rng(0).multinomial(num_episodes, shares, size=NUM_RESAMPLES).astype(np.float64)
