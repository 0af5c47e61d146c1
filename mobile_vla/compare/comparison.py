"""Turn runs into one row a sampler: spread over seeds and paired difference to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobile_vla.compare.closed_loop import comparable_seeds, suite_of, suites_of
from mobile_vla.compare.comparability import (
    MUST_AGREE,
    agreed_controls,
    agreed_name,
    different_states,
    require_comparable,
)
from mobile_vla.compare.drives import PairedDrives, load_outcomes, paired_drives
from mobile_vla.compare.formats import format_of, is_share
from mobile_vla.compare.pairs import ControlPair, metric_difference, num_tests, primary_differences, values_of
from mobile_vla.compare.runs import MISSING, Run, runs_by_label
from mobile_vla.compare.statistics import (
    PairedDifference,
    interquartile_mean,
    mean,
    probability_of_improvement,
    standard_deviation,
)
from mobile_vla.errors import UserError
from mobile_vla.metrics import COSTS, ERROR, best_first, entry_of, is_metric, is_reference, title_of
from mobile_vla.number_format import Format
from mobile_vla.schema import ACTION_UNITS


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of one sampler: its ``values`` by seed, and what holds it against the baseline.

    ``difference`` is None for the baseline, ``improvement`` (the probability that a run of it is better than one of the
    baseline) for the baseline, where either has no value, and where no value of the metric is better than another.
    """

    values: Mapping[int, float]
    difference: PairedDifference | None = None
    improvement: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over seeds, None without a value."""
        return mean(self.values.values())

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds, None for fewer than two."""
        return standard_deviation(self.values.values())

    @property
    def iqm(self) -> float | None:
        """Interquartile mean over seeds, None without a value."""
        return interquartile_mean(self.values.values())


@dataclass(frozen=True, kw_only=True)
class Row:
    """All runs of one sampler (``label``), finished or not; of the ``finished`` ones, by seed, its ``metrics``.

    ``drives`` pairs its closed-loop drives with the baseline's, by suite; it is empty for the baseline itself.
    """

    label: str
    runs: tuple[Run, ...]
    finished: Mapping[int, Run]
    metrics: Mapping[str, Metric]
    drives: Mapping[str, PairedDrives]

    @property
    def num_done(self) -> int:
        """Runs that spent their whole budget."""
        return self.count("done")

    def count(self, status: str) -> int:
        """Count the runs in ``status``."""
        return sum(run.status == status for run in self.runs)

    @property
    def num_begun(self) -> int:
        """Runs that have a folder."""
        return len(self.runs) - self.count(MISSING)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Samplers side by side, best mean of ``primary`` first and those without one last.

    ``shared`` holds what the finished runs have in common (the keys of MUST_AGREE), ``reference`` the reference
    predictors' figures under their summary names. ``controls`` are the pairs that the study named; ``num_tests`` counts
    the comparisons in ``primary`` that Holm's p is over, those pairs and all with the baseline, planned ones included.
    ``suites`` are those of the closed loop that any run drove in; ``different_states`` describes, by suite, what keeps
    runs from being compared in it.
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
        """The baseline's row, None if it is absent or has no value to compare with."""
        return next((row for row in self.ranked if row.label == self.baseline), None)

    @property
    def compared(self) -> str:
        """What the rows are called: ``sampler``, or ``choice`` where all runs have one sampler and differ otherwise."""
        return (
            "sampler" if all(row.label.startswith(run.sampler) for row in self.rows for run in row.runs) else "choice"
        )

    @property
    def ranked(self) -> tuple[Row, ...]:
        """Rows that have a value of the primary metric."""
        return tuple(row for row in self.rows if row.metrics[self.primary].values)

    @property
    def primary_title(self) -> str:
        """What the primary metric is called in a sentence."""
        return title_of(self.primary)

    @property
    def error(self) -> str:
        """What driving is held against: the primary metric, or ``val/rmse`` where that is one of driving itself."""
        return ERROR if suite_of(self.primary) else self.primary

    @property
    def unfinished(self) -> tuple[tuple[str, Run], ...]:
        """Label and run of everything that failed, stopped, still runs, or was planned and never began."""
        return tuple((row.label, run) for row in self.rows for run in row.runs if not run.is_done)

    def format(self, name: str) -> Format:
        """Return how the samplers' values of a metric are written."""
        return format_of(name, (row.metrics[name].mean for row in self.rows))

    def unit(self, name: str) -> str:
        """Return the unit of differences in a metric: points, that of the actions if they share one, or nothing."""
        if is_share(name):
            return "points"
        unit = entry_of(name).unit or ""
        if unit != "action":
            return unit
        known = self.rows[0].metrics
        units = {unit for action, unit in ACTION_UNITS.items() if f"{ERROR}/{action}" in known}
        return units.pop() if len(units) == 1 else ""

    def column_unit(self, name: str) -> str:
        """Return the unit that heads a column of values: the error's alone, beside which others share it."""
        return self.unit(name) if name == self.error else ""


def compare_runs(runs: Sequence[Run], *, baseline: str | None = None) -> Comparison:
    """Compare finished runs by treatment; runs that did not finish are kept beside them, out of every number.

    The primary metric is the one that the runs' study named, and so is the baseline unless ``baseline`` gives its
    label. Raises ComparabilityError if they were not given the same problem or the same question, UserError if a
    treatment finished one seed twice or a record of a run is damaged. Runs that met different initial states are not
    compared in that suite.
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
    controls = agreed_controls(runs)
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
    treatment: Mapping[int, Run], baseline: Mapping[int, Run], name: str, difference: PairedDifference | None
) -> Metric:
    """Hold one against the other in metric ``name``; ``difference`` is given where more than these two decide it."""
    seeds = comparable_seeds(treatment, baseline, name)
    one, other = (
        [side[seed].numbers[name] for seed in seeds if name in side[seed].numbers] for side in (treatment, baseline)
    )
    return Metric(
        values=values_of(treatment, name),
        difference=difference or metric_difference(treatment, baseline, name),
        improvement=probability_of_improvement(one, other, direction=entry_of(name).direction),
    )


def _by_seed(label: str, runs: Sequence[Run]) -> dict[int, Run]:
    seeds: dict[int, Run] = {}
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


def _metric_names(primary: str, runs: Sequence[Run]) -> list[str]:
    """Return all metrics of ``runs``: the primary one, what it cost, then the others as they were written."""
    written = dict.fromkeys(key for run in runs for key in run.numbers if is_metric(key))
    return list(dict.fromkeys([primary, *(name for name in COSTS if name in written), *written]))
