"""The primary metric of a run's study, and the check at the first evaluation that the run will measure it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from mobile_vla.errors import ConfigError
from mobile_vla.evaluation.action_scale import ActionScale
from mobile_vla.metrics import AUTO, deciding_in, entry_of, error_of
from mobile_vla.run.build import Run

_NUM_NAMED = 3


def primary_of(run: Run) -> str:
    """Return the metric that decides the study of ``run``: ``study.primary``, or the error that fits its data."""
    primary = run.config["study"]["primary"]
    return error_of(run.data.spec) if primary == AUTO else primary


def best_by(run: Run) -> str:
    """Return the error on val whose lowest value marks the best checkpoint of ``run``."""
    return error_of(run.data.spec, primary=run.config["study"]["primary"])


def scale_of(run: Run) -> ActionScale:
    """Return the scale by which the errors of ``run`` are measured, with the error that decides for its data."""
    train = [run.data.episodes[name].actions for name in run.data.split.train]
    return ActionScale.of(run.data.spec, train, primary=run.config["study"]["primary"])


def check_primary(run: Run, evaluation: Mapping[str, float]) -> None:
    """Raise ``ConfigError`` if ``run`` will not measure its ``study.primary``, or if that metric ranks nothing.

    The primary metric can be an error or a loss in ``evaluation``, at the last step, or a rate over all drives in a
    planned suite. Training losses of different runs cannot be compared, because each sampler draws other windows.
    """
    primary = primary_of(run)
    suites = run.closed_loop.suites if run.closed_loop is not None else ()
    known = [
        *(name for name in evaluation if entry_of(name).may_decide),
        *(name for suite in suites for name in deciding_in(suite)),
    ]
    if primary not in known:
        usual = [name for name in known if name == error_of(run.data.spec) or name.endswith("/success_rate")]
        named = list(dict.fromkeys([*get_close_matches(primary, known, n=_NUM_NAMED), *usual]))[:_NUM_NAMED]
        raise ConfigError(
            f"study.primary={primary}: nothing could be ranked by it. Give an error, a loss or a success rate that "
            f"runs of this config measure, such as {', '.join(named)}; closed_loop says what is driven, "
            "dataset.inner_fraction and dataset.unseen which episodes are measured besides val."
        )
