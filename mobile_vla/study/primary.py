"""Find out as soon as a run is measured whether it will ever have the metric that its study is decided by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import get_args

from mobile_vla.build import Run
from mobile_vla.closed_loop.failures import FAILURES
from mobile_vla.errors import ConfigError
from mobile_vla.evaluation.shortcut_probes import PROBES, UNCHANGED
from mobile_vla.sim.environment import Outcome

_OF_A_SUITE = (
    *("success_rate", "success_low", "success_high", "success_rate/scenario_mean", "episodes"),
    *("final_error_m", "command_change_m_s", "time_to_goal_s", "path_ratio"),
    *(f"{outcome}_rate" for outcome in get_args(Outcome) if outcome != "success"),
    *(f"failure/{failure}" for failure in FAILURES),
)
_OF_A_PROBE = ("rmse", "rmse_change", "side_change")
_OF_SHORTCUTS = ("uses_instruction", "uses_images", "uses_position", "clock_suffices")
_OF_TRAINING = ("best/val/rmse", "train/loss", "train/rmse", "wall_s", "samples_seen", "windows_scored")
_NUM_NAMED = 3


def check_primary(run: Run, evaluation: Mapping[str, float]) -> None:
    """Raise ``ConfigError`` where ``summary.json`` of ``run`` will not hold its ``study.primary``.

    It will hold what an ``evaluation`` holds, what is counted while it trains, and what the trained policy is asked at
    the end: drives in the suites that are planned, and the shortcut probes.
    """
    primary = run.config["study"]["primary"]
    suites = run.closed_loop.suites if run.closed_loop is not None else ()
    known = [*evaluation, *_OF_TRAINING, *_at_the_end(suites, has_shortcuts=run.evaluation.shortcuts)]
    by_part = ("train/", "sampler/", *(f"closed_loop/{suite}/success_rate/" for suite in suites))
    if primary in known or primary.startswith(by_part):
        return
    close = get_close_matches(primary, known, n=_NUM_NAMED, cutoff=0)
    raise ConfigError(
        f"study.primary={primary}: no run of this config measures it, so nothing could be ranked. Give a metric that "
        f"is measured, such as {', '.join(close)}; closed_loop and evaluation.shortcuts say what is measured at the "
        "end, dataset.inner_fraction and dataset.unseen which episodes are besides val."
    )


def _at_the_end(suites: Iterable[str], *, has_shortcuts: bool) -> list[str]:
    drives = [f"closed_loop/{suite}/{name}" for suite in suites for name in _OF_A_SUITE]
    if not has_shortcuts:
        return drives
    probes = [f"shortcut/{probe}/{name}" for probe in (UNCHANGED, *PROBES) for name in _OF_A_PROBE]
    return [*drives, *probes, *(f"shortcut/{name}" for name in _OF_SHORTCUTS)]
