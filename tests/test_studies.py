"""A second call of a study leaves what is finished, goes on with what is not, adds what is new, and mixes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed_runs import holding
from tiny_runs import ROOT, Ran, choose_sampler, forked, run_in, run_py, slow_but

from mobile_vla.policy.checkpoint_folder import entries_of, find_in_run
from mobile_vla.tracking.ownership import LOCK_FILE


def sweep(folder: Path, *overrides: str) -> tuple[int, str]:
    """Run a sweep in this process; return its exit code and what it died of."""
    return run_py("-m", f"hydra.sweep.dir={folder}", *overrides)


def jobs_of(folder: Path) -> dict[str, Ran]:
    """Return what was planned, by sampler and seed."""
    planned = json.loads((folder / "study.json").read_text())["jobs"]
    names = [job["folder"] for job in planned]
    return {name.rsplit("-", 1)[0]: Ran(folder=folder / name, exit_code=0, message="") for name in names}


def content_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def set_status(job: Ran, status: str) -> None:
    """Let the summary of ``job`` say what a kill or a failure leaves there."""
    (job.folder / "summary.json").write_text(json.dumps({**job.summary, "status": status}))


def assert_left_as_they_were(before: dict[str, dict[Path, tuple[bytes, int]]], folder: Path, shown: str) -> None:
    jobs = jobs_of(folder)
    for name, files in before.items():
        assert content_of(jobs[name].folder) == files
        assert f"{jobs[name].folder.name} is done already: {jobs[name].summary['val/rmse']:.4f}" in shown
    assert "4 of 4 done, 0 running, 0 failed, 0 waiting" in shown
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert {row["sampler"]: row["n"] for row in rows} == {name.split("-")[0]: 2 for name in before}


def test_a_second_call_leaves_finished_jobs_as_they_are_and_adds_the_new_seed(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    assert sweep(folder, *tiny, "sampler=shuffled,stratified", "seed=0")[0] == 0
    before = {job: content_of(ran.folder) for job, ran in jobs_of(folder).items()}
    capsys.readouterr()

    assert sweep(folder, *tiny, "seed=0,1", "sampler=stratified,shuffled")[0] == 0

    assert list(jobs_of(folder)) == ["shuffled-s0", "stratified-s0", "stratified-s1", "shuffled-s1"]
    assert_left_as_they_were(before, folder, capsys.readouterr().out)
    alone = run_in(tmp_path / "alone", *tiny, "seed=1")
    assert jobs_of(folder)["shuffled-s1"].timeless_rows == alone.timeless_rows


@pytest.mark.slow
def test_a_parallel_call_does_so_too_and_gives_the_same_curves(tiny: tuple[str, ...], tmp_path: Path) -> None:
    folder, cache = tmp_path / "sweep", tmp_path / "cold"
    settings = (*tiny, f"dataset.cache_dir={cache}", "dataset.num_workers=2")
    assert sweep(folder, *settings, "sampler=shuffled,hard_negative")[0] == 0
    before = {job: content_of(ran.folder) for job, ran in jobs_of(folder).items()}
    # A cache that both new jobs find missing: a worker process that starts workers of its own has to get along.
    shutil.rmtree(cache)

    # A process of its own: the workers import what the command line would.
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={folder}")
    command = [sys.executable, str(ROOT / "run.py"), "-m", *settings, *parallel, "seed=0,1"]
    called = subprocess.run(
        [*command, "sampler=shuffled,hard_negative"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert called.returncode == 0, called.stderr
    assert sorted(jobs_of(folder)) == ["hard_negative-s0", "hard_negative-s1", "shuffled-s0", "shuffled-s1"]
    assert_left_as_they_were(before, folder, called.stdout)
    for sampler in ("shuffled", "hard_negative"):
        alone = run_in(tmp_path / sampler, *tiny, f"sampler={sampler}", "seed=1")
        assert jobs_of(folder)[f"{sampler}-s1"].timeless_rows == alone.timeless_rows


@pytest.fixture(scope="module")
def stopped_sweep(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one job that was stopped after two of its four steps; to be copied."""
    folder = tmp_path_factory.mktemp("stopped") / "sweep"
    sweep(folder, *tiny, "sampler=shuffled", "trainer.stop_at_step=2")
    assert jobs_of(folder)["shuffled-s0"].summary["status"] == "stopped"
    return folder


@pytest.fixture
def half_done(stopped_sweep: Path, tmp_path: Path) -> Path:
    """The stopped sweep, to go on with."""
    return shutil.copytree(stopped_sweep, tmp_path / "sweep")


@pytest.mark.slow
@pytest.mark.parametrize("status", ["running", "failed", "stopped"])
def test_a_job_with_a_checkpoint_goes_on_and_is_what_it_would_have_been(
    status: str, half_done: Path, whole: Ran, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs_of(half_done)["shuffled-s0"]
    set_status(job, status)

    exit_code, message = sweep(half_done, *tiny, "sampler=shuffled")

    assert exit_code == 0, message
    assert "training from step 2 to step 4" in capsys.readouterr().out
    assert job.summary["status"] == "done"
    assert job.timeless_rows == whole.timeless_rows


@pytest.mark.parametrize("num_damaged", [1, 3])
def test_a_job_goes_on_from_what_is_whole_and_begins_anew_without(
    num_damaged: int, half_done: Path, whole: Ran, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs_of(half_done)["shuffled-s0"]
    entries = entries_of(job.folder / "checkpoints")
    damaged = [entry.path for entry in entries][:num_damaged]
    for folder in damaged:
        (folder / "training.json").unlink()

    exit_code, message = sweep(half_done, *tiny, "sampler=shuffled")

    assert exit_code == 0, message
    shown = " ".join(capsys.readouterr().out.split())
    is_left = len(entries) > num_damaged
    assert f"training {f'from step {entries[num_damaged].step} ' if is_left else ''}to step 4" in shown
    for folder in damaged:
        assert f"{folder.name} is damaged: training.json is missing" in shown
    assert ("so the job starts again from step 0" in shown) == (not is_left)
    assert job.timeless_rows == whole.timeless_rows
    assert not find_in_run(job.folder).damaged


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_its_checkpoint_stands(tiny: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    settings = (*tiny, "trainer.eval_every=10", "trainer.log_every=10", "trainer.steps=120")
    process = forked(lambda: sweep(folder, *settings, "sampler=shuffled")[0], cwd=tmp_path)
    for line in process.output:
        if "step 20 of" in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait()[0] == -signal.SIGKILL
    job = jobs_of(folder)["shuffled-s0"]
    assert job.summary["status"] == "running"

    exit_code, message = sweep(folder, *settings, "sampler=shuffled")

    assert exit_code == 0, message
    assert job.summary["status"] == "done"
    assert job.timeless_rows == run_in(tmp_path / "whole", *settings).timeless_rows


def test_a_job_of_other_code_begins_anew_and_keeps_nothing_of_a_run(
    half_done: Path, whole: Ran, tiny: tuple[str, ...]
) -> None:
    job = jobs_of(half_done)["shuffled-s0"]
    manifest = json.loads((job.folder / "manifest.json").read_text())
    (job.folder / "manifest.json").write_text(json.dumps({**manifest, "commit": "another"}))
    (job.folder / "checkpoints" / "old").mkdir()
    (job.folder / "thesis.tex").write_text("not of a run")

    exit_code, message = sweep(half_done, *tiny, "sampler=shuffled")

    assert exit_code == 0, message
    assert (job.folder / "thesis.tex").read_text() == "not of a run"
    assert job.timeless_rows == whole.timeless_rows
    assert not (job.folder / "checkpoints" / "old").exists()
    assert json.loads((job.folder / "manifest.json").read_text())["resumed_from"] is None


def test_a_job_that_failed_is_trained_when_what_was_wrong_is_mended(
    episodes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    folder, link = tmp_path / "sweep", tmp_path / "link"
    settings = (*tiny, f"dataset.path={link}", "sampler=shuffled")
    assert sweep(folder, *settings)[0] == 1
    assert jobs_of(folder)["shuffled-s0"].summary["status"] == "failed"
    link.symlink_to(episodes)

    assert sweep(folder, *settings)[0] == 0

    job = jobs_of(folder)["shuffled-s0"]
    assert job.summary["status"] == "done"
    assert not (job.folder / "traceback.txt").exists()


@pytest.fixture(scope="module")
def finished_sweep(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one finished job; to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "sweep"
    assert sweep(folder, *tiny, "sampler=shuffled")[0] == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("closed_loop.videos=7", "closed_loop.videos was 2, now 7"),
        ("evaluation.probe_windows=9", "evaluation.probe_windows was 8, now 9"),
        ("code", "the code was another, now "),
        ("study.primary=val/loss", "study.primary=auto, now val/loss"),
        ("+study.controls.stratified=shuffled", "study.controls={}, now {'stratified': 'shuffled'}"),
        (
            "trainer.steps=5",
            "the budget trainer.batch_size=8 trainer.steps=4, now trainer.batch_size=8 trainer.steps=5",
        ),
    ],
)
def test_a_finished_job_of_another_state_is_refused_before_anything_runs(
    change: str, named: str, finished_sweep: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    folder = shutil.copytree(finished_sweep, tmp_path / "sweep")
    (job,) = jobs_of(folder).values()
    if change == "code":
        manifest = json.loads((job.folder / "manifest.json").read_text())
        (job.folder / "manifest.json").write_text(json.dumps({**manifest, "commit": "another"}))
    before = content_of(folder)

    exit_code, message = sweep(folder, *tiny, "sampler=shuffled", "seed=0,1", *([change] if change != "code" else []))

    assert exit_code == 1
    assert named in message
    assert "(study.name=...)" in message
    assert content_of(folder) == before


def test_jobs_that_train_the_same_are_refused(tiny: tuple[str, ...], tmp_path: Path) -> None:
    exit_code, message = sweep(tmp_path / "sweep", *tiny, "evaluation.probe_windows=4,8")

    assert exit_code == 1
    assert "two jobs of this sweep would share the folder shuffled-s0-" in message
    assert not (tmp_path / "sweep").exists()


def test_a_job_that_another_process_trains_is_left_to_it(
    half_done: Path, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs_of(half_done)["shuffled-s0"]
    rows = job.rows

    with holding(job.folder) as pid:
        exit_code, _ = sweep(half_done, *tiny, "sampler=shuffled,stratified")

    assert exit_code == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert f"1 running elsewhere; this call leaves them alone: {job.folder.name}: process {pid} on " in shown
    assert f"1 of 2 done, 0 running, 0 failed, 0 waiting, 1 running elsewhere (process {pid})" in shown
    assert job.rows == rows
    assert jobs_of(half_done)["stratified-s0"].summary["status"] == "done"
    # What a killed owner leaves is no one's.
    assert sweep(half_done, *tiny, "sampler=shuffled,stratified")[0] == 0
    assert not (job.folder / LOCK_FILE).exists()


@pytest.mark.slow
def test_a_named_study_has_one_place_and_a_nameless_sweep_one_by_its_time(
    tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_py("-m", *tiny, "sampler=shuffled")[0] == 0
    assert len(list(tmp_path.glob("outputs/multirun/*-*-*/*-*-*-default/study.json"))) == 1

    for seed in range(2):
        assert run_py("-m", *tiny, "study.name=mine", f"seed={seed}")[0] == 0
    assert jobs_of(tmp_path / "outputs/multirun/mine").keys() == {"shuffled-s0", "shuffled-s1"}


def test_a_study_that_is_given_as_a_text_is_told_how_it_is_named(tmp_path: Path) -> None:
    exit_code, message = sweep(tmp_path / "sweep", "study=heads")

    assert exit_code == 1
    assert "study: 'heads'; expected study.name, study.primary" in message


def test_a_study_that_cannot_be_one_is_refused_before_anything_is_planned(tmp_path: Path) -> None:
    for override, said in (("study.controls=3", "study.controls: 3; "), ("~study.baseline", "baseline")):
        exit_code, message = sweep(tmp_path / "sweep", override)
        assert exit_code == 1
        assert said in message
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_job_is_what_its_score_file_says_too(tiny: tuple[str, ...], tmp_path: Path) -> None:
    name, file = choose_sampler("static_scores", tiny)
    scores = tmp_path / "scores.csv"
    scores.write_text(Path(file.removeprefix("sampler.file=")).read_text())
    study = (tmp_path / "sweep", *tiny, name, f"sampler.file={scores}")
    assert sweep(*study)[0] == 0
    (job,) = jobs_of(study[0]).values()
    assert sweep(*study)[0] == 0
    scores.write_text(scores.read_text().replace(",0\n", ",5\n"))
    before = content_of(study[0])

    changed = f"the content of sampler.file={scores} was {job_files(job)[f'sampler.file={scores}']}, now "
    for exit_code, message in (sweep(*study), run_py(f"resume={job.folder}", f"hydra.run.dir={job.folder}")):
        assert exit_code == 1
        assert changed in message
        assert content_of(study[0]) == before
    # One that was not finished is trained anew: its first half drew other windows.
    set_status(job, "stopped")
    assert sweep(*study)[0] == 0
    assert job.summary["status"] == "done"
    assert job_files(job) != json.loads(before[job.folder / "manifest.json"][0])["files"]


def job_files(job: Ran) -> dict[str, str]:
    return json.loads((job.folder / "manifest.json").read_text())["files"]


BASELINES = ("shuffled", "stratified", "random_temporal, augmentation=mirror")


@pytest.mark.parametrize("baseline", slow_but(BASELINES, BASELINES[-1:]))
def test_a_baseline_that_nothing_carries_is_said_before_the_jobs_run(
    baseline: str, tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without data, as it is said whatever becomes of the jobs.
    study = (tmp_path / "sweep", *tiny, f"study.baseline='{baseline}'", f"dataset.path={tmp_path / 'nowhere'}")
    warning = f"warning: study.baseline: '{baseline}': no job of this sweep has this label"
    sweep(*study, "sampler=random_temporal", "augmentation=none,mirror")
    assert capsys.readouterr().out.startswith(warning) == (baseline != "random_temporal, augmentation=mirror")

    sweep(*study, "sampler=stratified")  # the labels are those of all that was planned in the folder
    assert capsys.readouterr().out.startswith(warning) == (baseline == "shuffled")


def test_a_control_that_nothing_carries_is_said_too(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controls = "+study.controls={stratified: shuffled, stratifed: shuffled, lap: huber}"
    sweep(tmp_path / "sweep", *tiny, controls, f"dataset.path={tmp_path / 'nowhere'}", "sampler=shuffled,stratified")
    assert capsys.readouterr().out.startswith(
        "warning: study.controls: 'stratifed', study.controls: 'lap', study.controls: 'huber': no job of this sweep has"
    )


def test_a_label_that_was_planned_and_never_began_is_known(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"dataset.path={tmp_path / 'nowhere'}"
    sweep(tmp_path / "sweep", *tiny, nowhere, "sampler=shuffled")
    shutil.rmtree(tmp_path / "sweep" / "shuffled-s0", ignore_errors=True)
    capsys.readouterr()
    sweep(tmp_path / "sweep", *tiny, nowhere, "sampler=stratified")
    assert "no job of this sweep has this label" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_question_can_be_mended_while_nothing_is_measured(tiny: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert sweep(folder, *tiny, "sampler=shuffled", "study.primary=val/rsme")[0] == 1

    assert sweep(folder, *tiny, "sampler=shuffled")[0] == 0

    assert jobs_of(folder)["shuffled-s0"].summary["status"] == "done"
    assert json.loads((folder / "study.json").read_text())["primary"] == "auto"


def test_a_primary_metric_that_nothing_measures_ends_the_job_before_it_trains(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    ran = run_in(tmp_path / "run", *tiny, "study.primary=val/rsme")

    assert ran.exit_code == 1
    assert "study.primary=val/rsme: nothing could be ranked by it" in ran.message
    assert "such as val/rmse" in ran.message
    assert (ran.summary["status"], ran.rows) == ("failed", [])
