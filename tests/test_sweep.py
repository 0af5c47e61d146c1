"""A sweep runs all its jobs whatever becomes of one, compares them, and its exit code says whether all went well."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tiny_runs import Ran, run_in, run_py, strict_json


def sweep(folder: Path, *overrides: str) -> tuple[int, list[Ran]]:
    """Run a sweep in this process; return its exit code and its jobs in order."""
    exit_code, message = run_py("-m", f"hydra.sweep.dir={folder}", *overrides)
    return exit_code, [Ran(folder=job, exit_code=0, message=message) for job in jobs_of(folder)]


def jobs_of(folder: Path) -> list[Path]:
    """Return the folders of the jobs as they were planned."""
    return [folder / job["folder"] for job in strict_json((folder / "study.json").read_text())["jobs"]]


def comparison_of(folder: Path) -> dict[str, dict]:
    """Return the rows of ``comparison.json`` by sampler."""
    return {row["sampler"]: row for row in strict_json((folder / "comparison.json").read_text())["rows"]}


@pytest.mark.slow
def test_every_job_of_a_sweep_is_what_it_would_be_alone(tiny: tuple[str, ...], tmp_path: Path) -> None:
    samplers = ("hard_negative", "stratified", "shuffled")
    exit_code, jobs = sweep(tmp_path / "sweep", *tiny, f"sampler={','.join(samplers)}", "seed=1")

    assert exit_code == 0
    assert [job.summary["sampler"] for job in jobs] == list(samplers)
    rows = comparison_of(tmp_path / "sweep")
    assert rows.keys() == set(samplers)
    for sampler, job in zip(samplers, jobs, strict=True):
        alone = run_in(tmp_path / sampler, *tiny, f"sampler={sampler}", "seed=1")
        assert job.timeless_rows == alone.timeless_rows
        assert (rows[sampler]["n"], rows[sampler]["failed"]) == (1, 0)
        assert rows[sampler]["val/rmse"]["values"] == {"1": alone.summary["val/rmse"]}


@pytest.mark.parametrize(
    "broken",
    [
        ("sampler=shuffled,stratified", "trainer.batch_size=2"),  # found when the sampler is built
        pytest.param(
            ("sampler=stratified", "sampler.tau=0.5,2"), marks=pytest.mark.slow
        ),  # found by the check of the config
        ("model.head.loss=mse,huber", "trainer.learning_rate=1e30"),  # found while training
        pytest.param(  # an error of the machine, not of the config
            ("sampler=shuffled,stratified", "dataset.cache_dir=/dev/null"), marks=pytest.mark.slow
        ),
    ],
)
def test_a_job_that_fails_leaves_its_siblings_running(
    broken: tuple[str, ...], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    exit_code, jobs = sweep(tmp_path / "sweep", *tiny, "trainer.eval_every=99", "trainer.steps=20", *broken)

    assert exit_code == 1
    assert len(jobs) == 2
    assert all((job.folder / "summary.json").is_file() for job in jobs)
    assert any(job.summary["status"] == "failed" for job in jobs)
    for job in jobs:
        assert (job.folder / "traceback.txt").is_file() == (job.summary["status"] == "failed")


@pytest.mark.slow
def test_the_comparison_shows_a_failed_job_as_failed(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"

    exit_code, jobs = sweep(folder, *tiny, "trainer.batch_size=2", "sampler=shuffled,stratified", "seed=0,1")

    assert exit_code == 1
    assert [job.summary["status"] for job in jobs] == ["done", "done", "failed", "failed"]
    rows = comparison_of(folder)
    assert (rows["shuffled"]["n"], rows["shuffled"]["failed"]) == (2, 0)
    assert (rows["stratified"]["n"], rows["stratified"]["failed"]) == (0, 2)
    with (folder / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["sampler"], line["status"]) for line in lines].count(("stratified", "failed")) == 2
    shown = capsys.readouterr()
    assert "trainer.batch_size=2 is too small" in shown.out
    assert "2 of the runs did not finish" in shown.err


def test_a_named_study_sweeps_by_itself_and_can_be_narrowed(tiny: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    narrow = ("sampler=random_temporal,shuffled", "seed=3", "trainer.steps=2", "+study.controls.random_temporal=x")

    exit_code, message = run_py("experiment=compare_samplers", f"hydra.sweep.dir={folder}", *tiny, *narrow)

    assert exit_code == 0, message
    assert [path.name.rsplit("-", 1)[0] for path in jobs_of(folder)] == ["random_temporal-s3", "shuffled-s3"]
    manifest = json.loads((jobs_of(folder)[0] / "manifest.json").read_text())
    assert manifest["study"] == "compare_samplers"
    plan = strict_json((folder / "study.json").read_text())
    assert (manifest["primary"], plan["primary"]) == ("val/rmse", "auto")  # a run knows the units of its data
    for record in (manifest, plan):
        assert record["baseline"] == "shuffled"
        assert record["controls"] == {"random_temporal": "x"}
    assert comparison_of(folder).keys() == {"random_temporal", "shuffled"}
