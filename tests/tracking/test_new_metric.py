"""Check that a new metric is an entry of the vocabulary and the place that computes it, and is found everywhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import run_py
from wandb_records import history, transaction_log

from mobile_vla import metrics
from mobile_vla.compare.dashboard.contents import contents_of
from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.page.page import write_page
from mobile_vla.compare.report import write_csv
from mobile_vla.compare.terminal.comparison_table import print_comparison
from mobile_vla.evaluation.offline import Evaluation
from mobile_vla.metrics import ERROR, Entry, entry_of

NEW = Entry(
    pattern="val/mae",
    meaning="the mean absolute error of the predicted actions on the val windows",
    unit="action",
    direction="lower",
    may_decide=True,
    title="absolute error",
    shown=("bar", "end", "table", "intervals", "curves", "dashboard", "changes"),
)


@pytest.fixture
def with_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new metric: its entry, and the place that computes it."""
    measure = Evaluation.measure

    def measured(self: Evaluation, *arguments: object, **options: object) -> dict[str, float]:
        found = measure(self, *arguments, **options)  # pyright: ignore[reportArgumentType]
        return found | {NEW.pattern: 0.75 * found[ERROR]}

    monkeypatch.setattr(Evaluation, "measure", measured)
    monkeypatch.setattr(metrics, "VOCABULARY", (NEW, *metrics.VOCABULARY))
    entry_of.cache_clear()
    yield
    entry_of.cache_clear()


def test_a_new_metric_is_found_in_table_page_csv_dashboard_and_wandb(
    with_new: None, tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    options = ("sampler=shuffled,sequential", "seed=0,1", "study.primary=val/mae", "logger=wandb")
    assert run_py("-m", *tiny, *options, f"hydra.sweep.dir={sweep}")[0] == 0
    assert "val/mae" in capsys.readouterr().out  # the end of a run

    comparison = compare_runs(load_runs(sweep))
    (other,) = (row for row in comparison.rows if row.label != comparison.baseline)
    assert other.metrics["val/mae"].improvement is not None
    assert other.metrics["sampler/coverage"].improvement is None
    console = Console(file=io.StringIO(), width=200)
    print_comparison(comparison, folder=sweep, console=console)
    assert isinstance(console.file, io.StringIO)
    assert "absolute error is the primary metric" in console.file.getvalue()
    write_page(comparison, tmp_path / "report.html")
    assert "absolute error" in (tmp_path / "report.html").read_text()
    write_csv(comparison, sweep / "comparison.csv")
    rows = list(csv.DictReader((sweep / "comparison.csv").open()))
    assert all(float(row["val/mae"]) == pytest.approx(0.75 * float(row["val/rmse"])) for row in rows)
    contents = contents_of(comparison)
    assert contents.primary == "val/mae"
    assert contents.curves[0] == "val/mae"
    for run_id in contents.run_ids:
        assert any("val/mae" in row for row in history(transaction_log(sweep, run_id)))
