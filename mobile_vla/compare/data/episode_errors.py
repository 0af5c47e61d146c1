"""Estimate the uncertainty from the choice of val episodes: resample whole episodes and keep the trained policies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.compare.data.runs import RunRecord
from mobile_vla.compare.statistics.estimates import CONFIDENCE
from mobile_vla.errors import UserError
from mobile_vla.metrics import ERROR
from mobile_vla.untrusted.files import csv_rows, inside

WINDOWS = "val_windows.csv"
"""A file in the run folder with one row per val window: its summed squared error and its number of targets."""

MIN_EPISODES = 10
"""With fewer episodes there is no interval, because resampling so few does not represent new episodes well."""

NUM_RESAMPLES = 4000

RMSE_TOLERANCE = 1e-3
"""The largest allowed relative difference between the error in ``summary.json`` and the value that WINDOWS gives.

A larger difference means that the two files were written by different evaluations.
"""

_REMEDY = "Train the run again or leave it out."


@dataclass(frozen=True, kw_only=True)
class EpisodeErrors:
    """The errors of one run by val episode: the sum of squared errors, in the units of its error, and their number."""

    squared_error: Mapping[str, float]
    num_targets: Mapping[str, int]

    @property
    def rmse(self) -> float:
        """The error over all episodes."""
        return math.sqrt(sum(self.squared_error.values()) / sum(self.num_targets.values()))


def load_episode_errors(run: RunRecord, *, error: str = ERROR) -> EpisodeErrors | None:
    """Return the errors of ``run`` summed by val episode; None if the run did not record those of ``error``.

    ``error`` is ``val/rmse`` or ``val/nrmse``; a run records the one that decides for its data. Raises UserError, with
    the name of the file, if it is damaged or does not give the ``error`` in the run's summary.
    """
    path = run.folder / WINDOWS
    if not path.exists() or error not in run.numbers or run.summary.get("best_by", ERROR) != error:
        return None
    squared_error: dict[str, float] = {}
    num_targets: dict[str, int] = {}
    for place, line in csv_rows(inside(run.folder, WINDOWS)):
        try:
            episode, squared, num = line["episode"], float(line["squared_error"]), int(line["num_targets"])
        except (KeyError, TypeError, ValueError) as problem:
            raise UserError(
                f"{place} lacks an episode, a squared_error or a num_targets that can be read ({problem!r}). {_REMEDY}"
            ) from problem
        squared_error[episode] = squared_error.get(episode, 0.0) + squared
        num_targets[episode] = num_targets.get(episode, 0) + num
    errors = EpisodeErrors(squared_error=squared_error, num_targets=num_targets)
    expected, found = run.numbers[error], errors.rmse if any(num_targets.values()) else math.nan
    if not math.isclose(found, expected, rel_tol=RMSE_TOLERANCE):
        raise UserError(
            f"{path}: its windows give {error} {found:.6g}; expected {expected:.6g} as in summary.json. The two are "
            f"of different evaluations. {_REMEDY}"
        )
    return errors


def episode_interval(
    treatment: Mapping[int, RunRecord], baseline: Mapping[int, RunRecord], errors: Mapping[Path, EpisodeErrors | None]
) -> tuple[float, float] | None:
    """Return the 95 % interval over val episodes of the mean difference in RMSE between two treatments' runs, by seed.

    All runs of both treatments get the same resampled episodes; ``errors`` are by run folder. This interval is about
    *these trained policies* on other episodes of this kind. The interval over seeds is about newly trained policies on
    these episodes. Returns None if there is no seed for which both runs recorded their errors, if any two runs have
    different episodes, or with fewer than MIN_EPISODES episodes.
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

    ``squared_SPE`` contains the summed squared errors of E episodes. Whole episodes are resampled, because the windows
    of one episode overlap and are equally difficult. The percentiles are those of Hesterberg, What Teachers Should Know
    About the Bootstrap, 2015: they are widened like a t interval, because the plain percentile interval is too narrow
    with few episodes. The resamples are the same in every call.
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
    """Return the counts [NUM_RESAMPLES, E]: how often each resample draws each episode.

    A multinomial count is the same as drawing E episodes with replacement, and lets one matrix product sum the errors.
    """
    shares = np.full(num_episodes, 1 / num_episodes)
    return np.random.default_rng(0).multinomial(num_episodes, shares, size=NUM_RESAMPLES).astype(np.float64)
