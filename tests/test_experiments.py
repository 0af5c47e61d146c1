"""Every experiment runs two steps on the smallest model; resumed to four it matches a run that was never stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from tiny_runs import CONF, SMALLEST_MODEL, Ran, choose_sampler, compose_config, options_of, run_in, run_py, slow_but

ONE_OF_A_KIND = ("stratified", "hard_negative", "rho", "mixture")
"""Samplers that differ in what a resumed run has to know: counts, losses, a file, another sampler."""

OF_YOUR_OWN = ("my_data",)
"""Experiments on recordings that the user gives; see tests/inspection/test_first_comparison.py."""

ON_SHIPPED_DATA = [name for name in options_of("experiment") if name not in OF_YOUR_OWN]

SMALLEST_DATA = {
    "sim": ("dataset.generator.num_episodes=8",),
    "sim_scripted": ("dataset.generator.num_left=5", "dataset.generator.num_right=5"),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Where all experiments keep generated data and decoded frames."""
    root = tmp_path_factory.mktemp("stores")
    return (f"dataset.datasets_dir={root}/datasets", f"dataset.cache_dir={root}/cache")


def two_then_four(folder: Path, *overrides: str) -> tuple[Ran, Ran]:
    """Run two steps, resume to four, and run four at once in another folder."""
    budget = ("trainer.steps=4", "trainer.eval_every=2", "trainer.log_every=1")
    stopped = run_in(folder / "stopped", *overrides, *budget, "trainer.stop_at_step=2")
    assert stopped.exit_code == 0, stopped.message
    assert stopped.summary["status"] == "stopped"
    assert stopped.summary["steps"] == 2
    resumed = run_in(stopped.folder, f"resume={stopped.folder}")
    assert resumed.exit_code == 0, resumed.message
    return resumed, run_in(folder / "whole", *overrides, *budget)


def assert_same_run(resumed: Ran, whole: Ran) -> None:
    assert whole.summary["status"] == resumed.summary["status"] == "done"
    assert resumed.timeless_rows == whole.timeless_rows
    for checkpoint in ("last", "best"):
        files = [Path(ran.summary[f"checkpoint/{checkpoint}"]) for ran in (resumed, whole)]
        for name in ("model.safetensors", "optimizer.safetensors", "arrays.safetensors", "policy.json"):
            assert (files[0] / name).read_bytes() == (files[1] / name).read_bytes(), f"{checkpoint}/{name}"


@pytest.fixture(scope="module")
def stopped_run(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of ``tiny`` that was stopped after two of its four steps; to be copied."""
    ran = run_in(tmp_path_factory.mktemp("stopped") / "run", *tiny, "trainer.stop_at_step=2")
    assert ran.exit_code == 0, ran.message
    return ran


@pytest.fixture
def stopped(stopped_run: Ran, tmp_path: Path) -> Ran:
    """The stopped run, to go on with."""
    return Ran(folder=shutil.copytree(stopped_run.folder, tmp_path / "run"), exit_code=0, message="")


@pytest.fixture
def done(whole: Ran, tmp_path: Path) -> Ran:
    """The run that was never stopped, to go on with."""
    return Ran(folder=shutil.copytree(whole.folder, tmp_path / "done"), exit_code=0, message="")


@pytest.mark.parametrize("experiment", slow_but(ON_SHIPPED_DATA, ("compare_samplers",)))
def test_every_experiment_runs_two_steps_and_resumes_to_four(
    experiment: str, stores: tuple[str, ...], tmp_path: Path
) -> None:
    cfg = compose_config([f"experiment={experiment}"])
    data = cfg.dataset.generator._target_.rsplit(".", 1)[1]
    drives = ("closed_loop.episodes=2", "closed_loop.max_steps=3", "closed_loop.videos=1")
    smallest = SMALLEST_DATA[{"SimEpisodes": "sim", "ScriptedEpisodes": "sim_scripted"}[data]]
    overrides = (
        *(f"experiment={experiment}", "hydra.mode=RUN", "trainer.epochs=null", "dataset.num_workers=0"),
        *(*stores, *smallest, "dataset.generator.image_size=16", *SMALLEST_MODEL),
        *(drives if "episodes" in cfg.closed_loop else ()),
    )

    assert_same_run(*two_then_four(tmp_path, *overrides))


@pytest.mark.parametrize("experiment", options_of("experiment"))
def test_every_experiment_begins_with_its_command(experiment: str) -> None:
    first, second, third = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()[:3]

    assert first == "# @package _global_"
    needs = " dataset.path=DIR" if experiment in OF_YOUR_OWN else ""
    assert second == f"# python run.py experiment={experiment}{needs}"
    assert third.startswith("# ")


@pytest.mark.parametrize("experiment", ON_SHIPPED_DATA)
def test_an_experiment_that_sweeps_does_so_without_being_told(experiment: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [f"experiment={experiment}"], return_hydra_config=True)

    assert cfg.study.name == experiment
    if cfg.hydra.sweeper.params:
        assert cfg.hydra.mode.name == "MULTIRUN"
        chosen = cfg.hydra.sweeper.params.get("sampler", "shuffled").split(",")
        assert {sampler.strip() for sampler in chosen} <= set(options_of("sampler"))


def test_the_comparison_of_samplers_is_five_by_five() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", ["experiment=compare_samplers"], return_hydra_config=True)

    params = cfg.hydra.sweeper.params
    assert len(params.sampler.split(",")) * len(params.seed.split(",")) == 25


@pytest.mark.parametrize("sampler", slow_but(options_of("sampler"), ONE_OF_A_KIND))
def test_every_sampler_resumes_in_the_middle_of_a_pass(sampler: str, tiny: tuple[str, ...], tmp_path: Path) -> None:
    at_once = ("sampler.warmup_passes=0",) if sampler in ("hard_negative", "prioritized", "lap") else ()
    assert_same_run(*two_then_four(tmp_path, *tiny, *choose_sampler(sampler, tiny), *at_once))


@pytest.mark.slow
def test_an_adaptive_sampler_resumes_past_its_warm_up_and_with_every_augmentation(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    mining = ("sampler=hard_negative", "sampler.warmup_passes=0", "sampler.fraction=1", "augmentation=all")

    resumed, whole = two_then_four(tmp_path, *tiny, *mining)

    assert_same_run(resumed, whole)
    plain = run_in(tmp_path / "plain", *tiny, "augmentation=all")
    assert plain.summary["sampler/coverage"] != whole.summary["sampler/coverage"], "nothing was mined"


def test_a_finished_run_goes_on_to_a_larger_budget(tiny: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*tiny, "trainer.schedule.decay_steps=8")
    short = run_in(tmp_path / "run", *settings, "trainer.steps=4")

    longer = run_in(short.folder, f"resume={short.folder}", "trainer.steps=8")

    assert_same_run(longer, run_in(tmp_path / "whole", *settings, "trainer.steps=8"))


def test_resuming_from_a_stop_between_log_lines_and_evaluations(tiny: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*tiny, "trainer.steps=12", "trainer.log_every=4", "trainer.eval_every=6")
    stopped = run_in(tmp_path / "run", *settings, "trainer.stop_at_step=5")

    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert_same_run(resumed, run_in(tmp_path / "whole", *settings))
    assert [row["step"] for row in resumed.rows] == [0, 4, 6, 8, 12]


def test_a_run_may_go_on_in_another_folder_and_leaves_the_first_as_it_was(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    # Each evaluation is worse than the first, so that the best checkpoint is one that only the first folder has.
    settings = (*tiny, "trainer.learning_rate=5.0", "trainer.schedule.warmup_steps=0")
    stopped = run_in(tmp_path / "first", *settings, "trainer.stop_at_step=2")
    before = {path: path.read_bytes() for path in stopped.folder.rglob("*") if path.is_file()}

    resumed = run_in(tmp_path / "second", f"resume={stopped.folder}")

    assert resumed.exit_code == 0, resumed.message
    assert {path: path.read_bytes() for path in stopped.folder.rglob("*") if path.is_file()} == before
    assert resumed.timeless_rows == run_in(tmp_path / "whole", *settings).timeless_rows
    for name in ("last", "best"):
        checkpoint = Path(resumed.summary[f"checkpoint/{name}"])
        assert checkpoint.parent.parent == resumed.folder
        assert (checkpoint / "model.safetensors").is_file()
    again = run_in(resumed.folder, f"resume={stopped.folder}")
    assert f"hydra.run.dir={resumed.folder}: holds checkpoints of another run" in again.message


def test_what_was_never_sealed_does_not_come_along_to_another_folder(stopped: Ran, tmp_path: Path) -> None:
    for folder in (stopped.folder / "checkpoints").iterdir():
        (folder / "notes").symlink_to("/etc")

    resumed = run_in(tmp_path / "second", f"resume={stopped.folder}", "trainer.keep=5")

    assert resumed.exit_code == 0, resumed.message
    assert len(list((resumed.folder / "checkpoints").glob("step-*"))) == 2
    assert not list(resumed.folder.rglob("notes"))


def test_how_many_checkpoints_stay_may_change(stopped: Ran) -> None:
    resumed = run_in(stopped.folder, f"resume={stopped.folder}", "trainer.keep=1")

    assert resumed.exit_code == 0, resumed.message
    assert [path.name for path in (stopped.folder / "checkpoints").glob("step-*")] == ["step-00000004"]


def test_a_line_that_a_kill_tore_does_not_hinder_resuming(stopped: Ran, whole: Ran) -> None:
    with (stopped.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "samples_se')

    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert resumed.exit_code == 0, resumed.message
    assert resumed.timeless_rows == whole.timeless_rows


def test_rows_after_the_checkpoint_are_not_kept(stopped: Ran, whole: Ran) -> None:
    with (stopped.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "samples_seen": 24, "train/loss": 7.0}) + "\n")

    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert resumed.timeless_rows == whole.timeless_rows


def test_what_a_resumed_run_began_with_may_not_change(stopped: Ran) -> None:
    before = (stopped.folder / "summary.json").read_text()

    changes = ("trainer.batch_size=4", "sampler=stratified", "model/head=flow")
    refused = run_in(stopped.folder, f"resume={stopped.folder}", *changes)

    assert refused.exit_code == 1
    assert (
        "goes on with the run as it began; trainer.batch_size=4, sampler=stratified, model/head=flow would change it"
        in refused.message
    )
    assert (stopped.folder / "summary.json").read_text() == before


def content_of(folder: Path) -> dict[Path, bytes]:
    """Return all files of a run but Hydra's log of the attempts."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.log"}


def test_a_wrong_value_leaves_the_run_that_was_to_be_resumed_as_it_is(stopped: Ran) -> None:
    before = content_of(stopped.folder)

    refused = run_in(stopped.folder, f"resume={stopped.folder}", "trainer.steps=soon")

    assert "trainer.steps: 'soon'; Input should be a valid integer" in refused.message
    assert content_of(stopped.folder) == before


def test_a_run_whose_data_are_away_can_be_resumed_when_they_are_back(
    episodes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(episodes)
    stopped = run_in(tmp_path / "run", *tiny, f"dataset.path={link}", "trainer.stop_at_step=2")
    link.unlink()
    before = content_of(stopped.folder)
    assert run_in(stopped.folder, f"resume={stopped.folder}").exit_code == 1
    assert content_of(stopped.folder) == before
    link.symlink_to(episodes)

    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert resumed.summary["status"] == "done"


def test_saying_again_what_a_run_began_with_is_no_change(tiny: tuple[str, ...], tmp_path: Path) -> None:
    stopped = run_in(tmp_path / "run", *tiny, "sampler=stratified", "trainer.stop_at_step=2")

    resumed = run_in(stopped.folder, *tiny, "sampler=stratified", f"resume={stopped.folder}")

    assert resumed.exit_code == 0, resumed.message
    assert resumed.summary["sampler"] == "stratified"


def test_a_folder_without_a_checkpoint_is_refused_by_name(done: Ran, tmp_path: Path) -> None:
    shutil.rmtree(done.folder / "checkpoints")
    (empty := tmp_path / "empty").mkdir()

    for folder in (done.folder, empty):
        refused = run_in(tmp_path / "other", f"resume={folder}")
        assert refused.exit_code == 1
        assert refused.message.startswith(f"error: resume={folder}: holds no checkpoint")


def test_data_that_changed_since_is_refused(episodes: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    own = tmp_path / "episodes"
    shutil.copytree(episodes, own)
    stopped = run_in(tmp_path / "run", *tiny, f"dataset.path={own}", "trainer.stop_at_step=2")
    next(iter(sorted(own.iterdir()))).unlink()
    before = content_of(stopped.folder)

    refused = run_in(stopped.folder, f"resume={stopped.folder}")

    assert refused.exit_code == 1
    assert f"resume={stopped.folder}: the data are no longer those the run began with" in refused.message
    assert content_of(stopped.folder) == before


def test_a_budget_below_what_was_done_is_refused(done: Ran) -> None:
    before = content_of(done.folder)

    refused = run_in(done.folder, f"resume={done.folder}", "trainer.steps=2")

    assert refused.exit_code == 1
    assert "the run has done 4 steps, more than the 2 it is given now" in refused.message
    assert content_of(done.folder) == before


def test_a_stop_that_lies_behind_is_refused(stopped: Ran) -> None:
    refused = run_in(stopped.folder, f"resume={stopped.folder}", "trainer.stop_at_step=2")

    assert "trainer.stop_at_step=2: the run has done 2 steps already" in refused.message


def test_a_longer_budget_says_that_the_rate_jumps(done: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    run_in(done.folder, f"resume={done.folder}", "trainer.steps=6")

    shown = " ".join(capsys.readouterr().out.split())
    assert "training from step 4 to step 6" in shown
    assert "was to end at step 4 and now ends at step 6" in shown


def test_a_sweep_of_one_resumed_run_is_refused(done: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = done.summary

    exit_code, _ = run_py("-m", f"resume={done.folder}", f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=0,1")

    assert exit_code == 1
    assert "cannot be swept" in capsys.readouterr().out
    assert done.summary == before
