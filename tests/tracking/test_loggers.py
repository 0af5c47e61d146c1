"""Several loggers at once, and TensorBoard's files as TensorBoard reads them."""

from __future__ import annotations

import json
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import ROOT, run_in
from wandb_records import history

from mobile_vla.errors import ConfigError
from mobile_vla.extras import EXTRAS, missing_extra, require
from mobile_vla.tracking.contract import Loggers, RunIdentity
from mobile_vla.tracking.tensorboard import TensorBoardLogger

IDENTITY = RunIdentity(study="s", sampler="shuffled", seed=0, run_id="shuffled-s0-1a2b3c4d")


def events_in(folder: Path) -> EventAccumulator:
    """Read every event of the one run in ``folder``."""
    (run,) = (folder / "tensorboard").iterdir()
    events = EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0})
    return events.Reload()


def test_two_loggers_at_once_get_the_rows_of_the_local_files(tiny: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_in(tmp_path, *tiny, "logger=[wandb,tensorboard]", "trainer.log_every=1")

    assert ran.exit_code == 0, ran.message
    events = events_in(tmp_path)
    for name in ("train/loss", "val/rmse", "wall_s"):
        logged = [(row["step"], row[name]) for row in ran.rows if name in row]
        assert [event.step for event in events.Scalars(name)] == [step for step, _ in logged]
        assert [event.value for event in events.Scalars(name)] == pytest.approx([value for _, value in logged])
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "_target_: mobile_vla.sampling.strategies.shuffled.Shuffled" in text
    (recorded,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert len(history(recorded)) == len(ran.rows)


def test_what_is_measured_after_training_is_there_as_well(tiny: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_in(tmp_path, *tiny, "logger=tensorboard", "evaluation.shortcuts=true")

    assert ran.exit_code == 0, ran.message
    events, summary = events_in(tmp_path), json.loads((tmp_path / "summary.json").read_text())
    (name, *_) = (name for name in summary if name.startswith("shortcut/") and name.endswith("/rmse"))
    (event,) = events.Scalars(name)
    assert (event.step, event.value) == (summary["steps"], pytest.approx(summary[name]))
    assert len(events.Scalars("val/rmse")) == sum("val/rmse" in row for row in ran.rows), "not twice"


def test_videos_are_shown_as_they_are(tmp_path: Path) -> None:
    video = tmp_path / "drive.gif"
    Image.new("P", (4, 4)).save(video, save_all=True, append_images=[Image.new("P", (4, 4), 1)])
    with Loggers(loggers=[TensorBoardLogger()]).open(IDENTITY, config={}, folder=tmp_path, resume=False) as mirror:
        mirror.log({"step": 7})
        mirror.log_videos({"seen/success_1": video})
        mirror.finish({"steps": 7})

    (shown,) = events_in(tmp_path).Images("seen/success_1")
    assert (shown.step, shown.encoded_image_string) == (7, video.read_bytes())


def test_a_finished_run_that_is_measured_again_keeps_its_rows(tiny: tuple[str, ...], tmp_path: Path) -> None:
    assert run_in(tmp_path, *tiny, "logger=tensorboard", "evaluation.shortcuts=true").exit_code == 0
    before = events_in(tmp_path).Scalars("val/rmse")
    assert run_in(tmp_path, f"resume={tmp_path}").exit_code == 0

    events = events_in(tmp_path)
    assert [event.step for event in events.Scalars("val/rmse")] == [event.step for event in before]
    assert {event.step for event in events.Scalars("shortcut/unchanged/rmse")} == {before[-1].step}


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_attempt_replaces_the_rows_of_the_first_from_where_it_begins(resume: bool, tmp_path: Path) -> None:
    logger = Loggers(loggers=[TensorBoardLogger()])
    for attempt, steps in enumerate([[0, 1, 2, 3], [2, 3, 4]]):
        time.sleep(1.1 * attempt)  # TensorBoard reads the files in the order of the second in their names
        with logger.open(IDENTITY, config={}, folder=tmp_path, resume=resume and attempt == 1) as mirror:
            for step in steps:
                mirror.log({"step": step, "train/loss": step + 10.0 * attempt})

    found = [(event.step, event.value) for event in events_in(tmp_path).Scalars("train/loss")]
    assert found == [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0), (4, 14.0)]


def test_a_job_of_a_sweep_that_is_resumed_by_itself_goes_on_beside_the_others(tmp_path: Path) -> None:
    logger, job = Loggers(loggers=[TensorBoardLogger()]), tmp_path / "job"
    job.mkdir()
    for folder, resume, step in ((tmp_path, False, 0), (job, True, 1)):
        time.sleep(1.1 * step)
        with logger.open(IDENTITY, config={}, folder=folder, resume=resume) as mirror:
            mirror.log({"step": step, "train/loss": 1.0})

    assert [event.step for event in events_in(tmp_path).Scalars("train/loss")] == [0, 1]
    assert not any(job.iterdir())


def test_no_logger_leaves_nothing_and_says_nothing(tmp_path: Path) -> None:
    with Loggers(loggers=()).open(IDENTITY, config={}, folder=tmp_path, resume=False) as mirror:
        mirror.log({"step": 0})
        mirror.finish({})
    assert (mirror.url, mirror.unconfirmed_rows) == (None, None)
    assert not any(tmp_path.iterdir())


def test_every_extra_that_is_named_has_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    providers = packages_distributions()
    for package, extra in EXTRAS.items():
        listed = {canonicalize_name(Requirement(text).name) for text in extras[extra]}
        if package in providers:  # gpu is not part of the environment of the tests
            assert {canonicalize_name(name) for name in providers[package]} & listed, f"{extra} has no {package}"


@pytest.mark.parametrize("package", sorted(EXTRAS))
def test_a_missing_package_is_named_with_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobile_vla.extras.find_spec", lambda name: None)
    expected = f"needs the package {package}, which is not installed: pip install 'mobile-vla[{EXTRAS[package]}]'"
    with pytest.raises(ConfigError, match=r"^a\.b=c: ") as refused:
        require(package, asked_by="a.b=c")
    assert str(refused.value) == f"a.b=c: {expected}"
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = ModuleNotFoundError(name=package)
    assert missing_extra(wrapped) == expected
    assert missing_extra(ModuleNotFoundError(name="something_else")) is None
