"""Select the contents of a W&B dashboard of a comparison: its runs, their grouping, the metrics and the statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobile_vla.compare.data.closed_loop import success_key
from mobile_vla.compare.data.comparison import Comparison, Metric
from mobile_vla.compare.data.runs import RunRecord, treatment_keys
from mobile_vla.compare.verdict.verdict import verdict
from mobile_vla.errors import UserError
from mobile_vla.metric_text import in_points, with_unit
from mobile_vla.metrics import COSTS, shown, title_of
from mobile_vla.text import MISSING, Format, interval_text, p_value
from mobile_vla.tracking.manifest import read_manifest
from mobile_vla.tracking.run_folder import read_metrics
from mobile_vla.untrusted.stored_config import read_stored_config

STEP = "step"
"""The key of the x axis of every curve; it is logged with each row."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a dashboard of the finished runs ``run_ids`` in ``project`` of ``entity`` (None: the default).

    ``groups`` are settings (config groups or keys of overrides) whose values together identify a treatment. ``curves``
    and ``budgets`` are metrics logged over ``STEP``. ``primary``, ``error`` (see ``Comparison.error``), ``success`` (by
    suite) and ``drawn`` are metrics whose final values are in the run's summary in W&B. ``verdict`` and ``statistics``
    are Markdown.
    """

    title: str
    entity: str | None
    project: str
    run_ids: tuple[str, ...]
    groups: tuple[str, ...]
    curves: tuple[str, ...]
    budgets: tuple[str, ...]
    primary: str
    error: str
    success: tuple[str, ...]
    drawn: tuple[str, ...]
    verdict: str
    statistics: str

    @property
    def results(self) -> tuple[str, ...]:
        """The metrics of a run's final results, the primary metric first."""
        return tuple(dict.fromkeys((self.primary, self.error, *self.success)))


def contents_of(comparison: Comparison) -> Contents:
    """Return the contents for the finished runs; raises UserError if none finished or they are in several projects."""
    runs = [run for row in comparison.rows for run in row.finished.values()]
    if not runs:
        raise UserError("no run finished: there is nothing to show yet. Call this again when at least one has.")
    manifests = [read_manifest(run.folder) for run in runs]
    entity, project = _destination(runs)
    logged = {key for run in runs for row in read_metrics(run.folder, up_to_step=_last_step(run)) for key in row}
    success = [success_key(suite) for suite in comparison.suites]
    studies = sorted({str(manifest["study"]) for manifest in manifests})
    return Contents(
        title=f"{', '.join(studies)}: {comparison.compared}s compared",
        entity=entity,
        project=project,
        run_ids=tuple(str(manifest["run_id"]) for manifest in manifests),
        groups=_groups([run for row in comparison.rows for run in row.runs]),
        curves=tuple(
            key
            for key in dict.fromkeys([*shown("dashboard", error=comparison.val_error), comparison.primary])
            if key in logged
        ),
        budgets=tuple(key for key in COSTS if key in logged),
        primary=comparison.primary,
        error=comparison.error,
        success=tuple(success),
        drawn=tuple(key for key in shown("dashboard_draws") if all(key in run.numbers for run in runs)),
        verdict="\n\n".join(verdict(comparison)),
        statistics=_statistics(comparison),
    )


def _last_step(run: RunRecord) -> int:
    return int(run.numbers["steps"])


def _destination(runs: Sequence[RunRecord]) -> tuple[str | None, str]:
    """Return the W&B entity and project in the configs of ``runs``."""
    found = set()
    for run in runs:
        logger = read_stored_config(run.folder).logger.get("wandb")
        if logger is None:
            raise UserError(
                f"{run.folder} has no logger=wandb in its config, so W&B cannot show it; expected runs with "
                "logger=wandb, which records offline if there is no key. `compare` needs no W&B."
            )
        found.add((logger.entity, logger.project))
    if len(found) > 1:
        raise UserError(f"the runs are in several W&B projects: {sorted(map(str, found))}; choose a folder of one.")
    return found.pop()


def _groups(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the settings that distinguish treatments, as in the comparison's labels; ``sampler`` if none differs."""
    others = treatment_keys(runs)
    is_sampler = len({run.sampler for run in runs}) > 1 or not others
    return (*(("sampler",) if is_sampler else ()), *others)


def _statistics(comparison: Comparison) -> str:
    """Return the comparison as a Markdown table: mean and spread over seeds, paired difference, interval, p."""
    primary, baseline = comparison.primary, comparison.baseline
    numbers = comparison.format(primary)
    successes = [name for name in map(success_key, comparison.suites) if name != primary]
    minus = f"minus {baseline}{in_points(primary)}"
    header = [
        comparison.compared,
        "seeds",
        with_unit(comparison.primary_title, comparison.column_unit(primary)),
        minus,
        "95 % interval",
        "p (Holm)",
    ]
    lines = [[*header, *(title_of(name) for name in successes)]]
    lines.append(["---"] * len(lines[0]))
    for row in comparison.rows:
        values = row.metrics[primary]
        lines.append(
            [
                row.label,
                f"{len(values.values)} of {len(row.runs)}",
                f"{numbers.text(values.mean)} ± {numbers.text(values.std)}",
                *_difference(values, numbers.differences),
                *(comparison.format(name).text(row.metrics[name].mean) for name in successes),
            ]
        )
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _difference(metric: Metric, numbers: Format) -> tuple[str, str, str]:
    difference = metric.difference
    if difference is None:
        return "", "", ""
    interval = interval_text(difference.interval, numbers) if difference.interval else MISSING
    return numbers.text(difference.mean, sign="+"), interval, p_value(difference.adjusted_p_value)
