"""Build the comparison of runs: one row per treatment, with spread over seeds and paired differences to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobile_vla.compare.data.closed_loop import comparable_seeds, suite_of, suites_of
from mobile_vla.compare.data.comparability import (
    MUST_AGREE,
    agreed_controls,
    agreed_name,
    different_states,
    error_that_decides,
    require_comparable,
)
from mobile_vla.compare.data.drives import PairedDrives, load_outcomes, paired_drives
from mobile_vla.compare.data.pairs import (
    ControlPair,
    metric_difference,
    num_tests,
    primary_differences,
    values_of,
    within_settings,
)
from mobile_vla.compare.data.runs import MISSING, RunRecord, runs_by_label
from mobile_vla.compare.statistics.estimates import (
    PairedDifference,
    interquartile_mean,
    mean,
    probability_of_improvement,
    standard_deviation,
)
from mobile_vla.errors import UserError
from mobile_vla.metric_text import SPREAD, format_of, is_share
from mobile_vla.metrics import COSTS, best_first, entry_of, is_metric, is_reference, title_of
from mobile_vla.text import Format


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of one treatment: its ``values`` by seed, and its comparison with the baseline.

    ``difference`` is None for the baseline. ``improvement`` is the probability that a run of the treatment is better
    than a run of the baseline; it is None for the baseline, if either side has no value, and if the metric has no
    direction.
    """

    values: Mapping[int, float]
    difference: PairedDifference | None = None
    improvement: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean over seeds, None without a value."""
        return mean(self.values.values())

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds, None with fewer than two values."""
        return standard_deviation(self.values.values())

    @property
    def iqm(self) -> float | None:
        """The interquartile mean over seeds, None without a value."""
        return interquartile_mean(self.values.values())


@dataclass(frozen=True, kw_only=True)
class Row:
    """All runs of one treatment (``label``); ``finished`` are its finished runs by seed, and ``metrics`` their metrics.

    ``drives`` has the pairs of its closed-loop drives with the baseline's, by suite; it is empty for the baseline.
    """

    label: str
    runs: tuple[RunRecord, ...]
    finished: Mapping[int, RunRecord]
    metrics: Mapping[str, Metric]
    drives: Mapping[str, PairedDrives]

    @property
    def num_done(self) -> int:
        """The number of runs that completed their whole budget."""
        return self.count("done")

    def count(self, status: str) -> int:
        """Return the number of runs that have this ``status``."""
        return sum(run.status == status for run in self.runs)

    @property
    def num_begun(self) -> int:
        """The number of runs that have a folder."""
        return len(self.runs) - self.count(MISSING)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The treatments as rows, best mean of ``primary`` first and those without a value last.

    ``shared`` contains the facts that all finished runs have in common (the keys of MUST_AGREE), ``reference`` the
    metrics of the reference predictors under their names in the summary. ``controls`` are the pairs of treatment and
    control that the study named. ``num_tests`` is the number of comparisons in ``primary`` for which Holm's method
    corrects: those pairs and all comparisons with the baseline, including planned ones. ``suites`` are the closed-loop
    suites that at least one run drove in. ``different_states`` has, for each suite in which runs cannot all be
    compared, a text that lists their initial states.
    """

    baseline: str
    primary: str
    rows: tuple[Row, ...]
    shared: Mapping[str, object]
    reference: Mapping[str, float]
    controls: tuple[ControlPair, ...]
    num_tests: int
    suites: tuple[str, ...]
    different_states: Mapping[str, str]

    @property
    def baseline_row(self) -> Row | None:
        """The baseline's row, None if it is missing or has no value of the primary metric."""
        return next((row for row in self.ranked if row.label == self.baseline), None)

    @property
    def is_by_setting(self) -> bool:
        """Whether the baseline was run under several other choices, and is the control of each treatment there."""
        return bool(within_settings([row.label for row in self.rows], self.baseline))

    @property
    def compared(self) -> str:
        """The word for a row: ``sampler``, or ``choice`` if all runs have one sampler and differ in other options."""
        return (
            "sampler" if all(row.label.startswith(run.sampler) for row in self.rows for run in row.runs) else "choice"
        )

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The rows that have a value of the primary metric."""
        return tuple(row for row in self.rows if row.metrics[self.primary].values)

    @property
    def primary_title(self) -> str:
        """The name of the primary metric for sentences."""
        return title_of(self.primary)

    @property
    def error(self) -> str:
        """The prediction error that driving success is compared with.

        It is the primary metric, or the error on val if the primary metric is a closed-loop metric itself.
        """
        return self.val_error if suite_of(self.primary) else self.primary

    @property
    def val_error(self) -> str:
        """The error on the val windows that decides for these data: ``val/rmse``, or ``val/nrmse``.

        It is shown by scenario, phase and horizon, and compared with the reference predictors.
        """
        return error_that_decides(self._known_runs, primary=self.primary)

    @property
    def unfinished(self) -> tuple[tuple[str, RunRecord], ...]:
        """The label and record of each run that failed, stopped, is running, or was planned and never started."""
        return tuple((row.label, run) for row in self.rows for run in row.runs if not run.is_done)

    def format(self, name: str) -> Format:
        """Return the number format for the treatments' values of a metric."""
        return format_of(name, (row.metrics[name].mean for row in self.rows))

    def unit(self, name: str) -> str:
        """Return the unit of differences in a metric: points for a share, else the metric's own unit.

        For the error of one action it is its unit. For that of several it is their unit, and empty if they have
        different ones.
        """
        if is_share(name):
            return "points"
        unit = entry_of(name).unit or ""
        if unit == "spread":
            return SPREAD
        spec = next((run.spec for run in self._known_runs), None)
        if unit != "action" or spec is None:
            return "" if unit == "action" else unit
        units = {signal.name: signal.unit for signal in spec.actions}
        return units.get(name.rsplit("/", 1)[-1], spec.common_unit) or ""

    @property
    def _known_runs(self) -> list[RunRecord]:
        return [run for row in self.rows for run in row.runs if run.spec is not None]

    def column_unit(self, name: str) -> str:
        """Return the unit for a column's heading: only the column of ``error`` shows it; other errors have the same."""
        return self.unit(name) if name == self.error else ""


def compare_runs(runs: Sequence[RunRecord], *, baseline: str | None = None) -> Comparison:
    """Return the comparison of finished runs by treatment; unfinished runs are listed but do not enter any number.

    The primary metric and the baseline are those that the study fixed in advance, unless ``baseline`` gives another
    label. In a suite, runs with different initial states are not compared. Raises ComparabilityError if the runs were
    not trained on the same problem or their studies differ, and UserError if a treatment finished one seed twice or a
    file of a run is damaged.
    """
    require_comparable(runs)
    primary = agreed_name(runs, "primary")
    baseline = agreed_name(runs, "baseline") if baseline is None else baseline
    groups = runs_by_label(runs)
    done = {label: _by_seed(label, members) for label, members in groups.items()}
    ranked_runs = [run for run in runs if run.is_done]
    names = _metric_names(primary, ranked_runs)
    suites, outcomes = suites_of(runs), {run.folder: load_outcomes(run) for run in ranked_runs}
    held_against = done.get(baseline, {})
    controls = {**within_settings(groups, baseline), **agreed_controls(runs)}
    differences = primary_differences(done, primary, baseline=baseline, controls=controls)
    rows = [
        Row(
            label=label,
            runs=tuple(members),
            finished=done[label],
            metrics={
                name: Metric(values=values_of(done[label], name))
                if label == baseline
                else _metric(done[label], held_against, name, differences[label, baseline] if name == primary else None)
                for name in names
            },
            drives={
                suite: paired_drives(done[label], held_against, suite, outcomes)
                for suite in suites
                if label != baseline
            },
        )
        for label, members in groups.items()
    ]
    return Comparison(
        baseline=baseline,
        primary=primary,
        rows=tuple(sorted(rows, key=lambda row: (best_first(primary, row.metrics[primary].mean), row.label))),
        shared={key: ranked_runs[0].summary.get(key) if ranked_runs else None for key in MUST_AGREE},
        reference={key: value for run in ranked_runs for key, value in run.numbers.items() if is_reference(key)},
        controls=tuple(
            ControlPair(label=label, control=control, difference=differences[label, control])
            for label, control in controls.items()
        ),
        num_tests=num_tests(differences, done),
        suites=suites,
        different_states=different_states(runs),
    )


def _metric(
    treatment: Mapping[int, RunRecord],
    baseline: Mapping[int, RunRecord],
    name: str,
    difference: PairedDifference | None,
) -> Metric:
    """Return the metric ``name`` of ``treatment``, compared with ``baseline``.

    ``difference`` is given for the primary metric, where Holm's correction needs all treatments; else it is computed.
    """
    seeds = comparable_seeds(treatment, baseline, name)
    one, other = (
        [side[seed].numbers[name] for seed in seeds if name in side[seed].numbers] for side in (treatment, baseline)
    )
    return Metric(
        values=values_of(treatment, name),
        difference=difference or metric_difference(treatment, baseline, name),
        improvement=probability_of_improvement(one, other, direction=entry_of(name).direction),
    )


def _by_seed(label: str, runs: Sequence[RunRecord]) -> dict[int, RunRecord]:
    seeds: dict[int, RunRecord] = {}
    for run in runs:
        if not run.is_done or run.seed is None:
            continue
        if run.seed in seeds:
            raise UserError(
                f"{label} finished seed {run.seed} twice, in {seeds[run.seed].folder} and {run.folder}; expected one "
                "run a sampler and seed. Compare a narrower folder, or move one of the two out of it."
            )
        seeds[run.seed] = run
    return dict(sorted(seeds.items()))


def _metric_names(primary: str, runs: Sequence[RunRecord]) -> list[str]:
    """Return the names of all metrics of ``runs``: the primary one, the costs, then the others in the written order."""
    written = dict.fromkeys(key for run in runs for key in run.numbers if is_metric(key))
    return list(dict.fromkeys([primary, *(name for name in COSTS if name in written), *written]))
