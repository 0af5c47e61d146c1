"""The names of the errors on val, which of them decides for given data, and the predictors that policies must beat."""

from __future__ import annotations

from collections.abc import Mapping

from mobile_vla.spec import Spec

ERROR = "val/rmse"
"""The error that decides where all actions have one unit. It is also measured by scenario, phase and horizon."""

SCALED_ERROR = "val/nrmse"
"""The error that decides where the actions have different units, or unknown ones: a sum of squares in rad and in m/s
has no meaning, and the signal of the largest numbers would decide alone.
"""

AUTO = "auto"
"""The default of ``study.primary``: the error that ``error_of`` gives for the data."""

PREDICTORS = {
    "mean": "mean action",
    "hold_last": "hold-last action",
    "time_lookup": "time-step lookup",
    "scenario_time_lookup": "(scenario, time step) lookup",
}
"""The reference predictors, which need no training, simplest first: the name and the title of each."""


def error_of(spec: Spec | None, *, primary: str = AUTO) -> str:
    """Return the error on val that decides for runs on data of ``spec``: ERROR or SCALED_ERROR.

    It selects the best checkpoint and is compared with the reference predictors. ``primary`` is ``study.primary``: one
    of the two errors is taken as it is. ERROR is for a single signal, and for several with one known unit of which none
    is binary: a closed gripper is not a share of anything, though its unit may have the same name.
    """
    if primary in (ERROR, SCALED_ERROR):
        return primary
    if spec is None or len(spec.actions) == 1:
        return ERROR
    is_mixed = spec.common_unit is None or any(signal.kind == "binary" for signal in spec.actions)
    return SCALED_ERROR if is_mixed else ERROR


def part_of(name: str, split: str) -> str:
    """Return the metric that is ``name``, a metric on val, on another ``split``: ``probe/nrmse`` of ``val/nrmse``."""
    return f"{split}/{name.removeprefix('val/')}"


def reference_name(predictor: str, error: str) -> str:
    """Return the metric with the ``error`` (ERROR or SCALED_ERROR) of a reference predictor on val."""
    return f"baseline/{predictor}/{error.removeprefix('val/')}"


def references(error: str) -> tuple[str, ...]:
    """Return the metrics with the ``error`` of all reference predictors on val, the simplest predictor first."""
    return tuple(reference_name(name, error) for name in PREDICTORS)


def unbeaten(values: Mapping[str, float], *, error: str, known: Mapping[str, float]) -> dict[str, list[str]]:
    """Return for each reference predictor in ``known`` (metrics by name) which of ``values`` are no better, by label.

    ``values`` are measurements of ``error``. A predictor that all beat is left out.
    """
    found = {
        name: [label for label, value in values.items() if not value < known[name]]
        for name in references(error)
        if name in known
    }
    return {name: labels for name, labels in found.items() if labels}
