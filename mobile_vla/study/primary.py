"""Find out as soon as a run is measured whether it will ever have the metric that its study is decided by."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from mobile_vla.build import Run
from mobile_vla.errors import ConfigError
from mobile_vla.metrics import ERROR, deciding_in, entry_of

_NUM_NAMED = 3


def check_primary(run: Run, evaluation: Mapping[str, float]) -> None:
    """Raise ``ConfigError`` where ``run`` will not measure its ``study.primary``, or it says neither better nor worse.

    A study can be decided by an error or a loss of ``evaluation``, at the last step, and by what all drives in a
    planned suite come to. Losses of training cannot be held against each other: each sampler draws other windows.
    """
    primary = run.config["study"]["primary"]
    suites = run.closed_loop.suites if run.closed_loop is not None else ()
    known = [
        *(name for name in evaluation if entry_of(name).may_decide),
        *(name for suite in suites for name in deciding_in(suite)),
    ]
    if primary not in known:
        usual = [name for name in known if name == ERROR or name.endswith("/success_rate")]
        named = list(dict.fromkeys([*get_close_matches(primary, known, n=_NUM_NAMED), *usual]))[:_NUM_NAMED]
        raise ConfigError(
            f"study.primary={primary}: nothing could be ranked by it. Give an error, a loss or a success rate that "
            f"runs of this config measure, such as {', '.join(named)}; closed_loop says what is driven, "
            "dataset.inner_fraction and dataset.unseen which episodes are measured besides val."
        )
