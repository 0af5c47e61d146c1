"""The losses of a trained run are those its own evaluation saw, window by window, of its own data."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_cli import call
from test_pretrained_jobs import tiny_model
from tiny_runs import run_in

from mobile_vla.policy.checkpoint_folder import find_checkpoint

EVERY_WINDOW = "evaluation.probe_windows=100000"
"""The probe that a run logs is then the mean over all train windows."""


@pytest.fixture(scope="module")
def run(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that augments, and whose best and last checkpoints differ."""
    more = ("augmentation=gaussian_noise", "trainer.learning_rate=3", "trainer.schedule.warmup_steps=0", EVERY_WINDOW)
    ran = run_in(tmp_path_factory.mktemp("losses") / "run", *tiny, "evaluation.shortcuts=false", *more)
    assert ran.exit_code == 0, ran.message
    return ran.folder


def losses_of(path: Path) -> dict[tuple[str, int], float]:
    with path.open() as file:
        return {(row["episode"], int(row["frame"])): float(row["score"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_their_mean_is_what_the_run_itself_measured(run: Path, tmp_path: Path, checkpoint: str) -> None:
    assert call("losses", run, tmp_path / "losses.csv", "--checkpoint", checkpoint) == 0

    logged = json.loads((find_checkpoint(run, checkpoint) / "training.json").read_text())["latest"]
    losses = losses_of(tmp_path / "losses.csv")
    assert np.mean(list(losses.values())) == pytest.approx(logged["probe/loss"], rel=1e-5)
    assert {episode for episode, _ in losses} == set(json.loads((run / "split.json").read_text())["train"])


def test_best_and_last_are_different_policies(run: Path, tmp_path: Path) -> None:
    for checkpoint in ("last", "best"):
        assert call("losses", run, tmp_path / f"{checkpoint}.csv", "--checkpoint", checkpoint) == 0
    assert losses_of(tmp_path / "last.csv") != losses_of(tmp_path / "best.csv")


def test_a_checkpoint_itself_may_be_given_and_parquet_be_written(run: Path, tmp_path: Path) -> None:
    assert call("losses", find_checkpoint(run), tmp_path / "losses.parquet", "--device", "cpu") == 0
    assert (tmp_path / "losses.parquet").read_bytes()[:4] == b"PAR1"


def test_a_frozen_backbone_is_scored_on_its_cached_features(vlms: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    data = [override for override in tiny if not override.startswith(("model.", "dataset.cache_dir="))]
    backbone = [o for o in tiny_model(vlms / "smolvlm") if "tuning" not in o]
    cache = tmp_path / "cache"
    more = (f"dataset.cache_dir={cache}", "model/backbone/tuning=frozen", "trainer.steps=2", EVERY_WINDOW)
    ran = run_in(tmp_path / "run", *data, *backbone, *more, "evaluation.shortcuts=false")
    assert ran.exit_code == 0, ran.message
    before = sorted(cache.iterdir())

    assert call("losses", ran.folder, tmp_path / "losses.csv") == 0

    losses = losses_of(tmp_path / "losses.csv")
    assert np.mean(list(losses.values())) == pytest.approx(ran.summary["probe/loss"], rel=1e-5)
    assert sorted(cache.iterdir()) == before
    assert [path for path in before if path.name.startswith("features-")]


def change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: (folder / "manifest.json").write_text("[]"), r"manifest.json: is damaged: run_id, study"),
        (lambda folder: (folder / "config.yaml").unlink(), "holds no config.yaml"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "holds no checkpoint"),
        (
            lambda folder: change_manifest(folder, data_hash="then"),
            "the data are no longer those the run was trained on",
        ),
    ],
)
def test_what_is_not_the_run_any_more_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edit, message: str
) -> None:
    shutil.copytree(run, tmp_path / "copy")
    edit(tmp_path / "copy")

    assert call("losses", tmp_path / "copy", tmp_path / "losses.csv") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "losses.csv").exists()


def test_a_run_that_is_not_done_is_scored_and_said_to_be_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "copy")
    summary = tmp_path / "copy" / "summary.json"
    shown = []
    for status in ("done", "stopped"):
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "status": status}))
        assert call("losses", tmp_path / "copy", tmp_path / f"{status}.csv") == 0
        shown.append(" ".join(capsys.readouterr().out.split()))

    assert ["is not done (its status is stopped)" in text for text in shown] == [False, True]
    assert (tmp_path / "stopped.csv").read_bytes() == (tmp_path / "done.csv").read_bytes()


def test_an_unknown_device_and_suffix_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("losses", run, tmp_path / "losses.csv", "--device", "nowhere") == 1
    assert "--device nowhere: not usable here" in capsys.readouterr().err
    assert call("losses", run, tmp_path / "losses.txt") == 1
    assert "expected a file named .csv or .parquet" in capsys.readouterr().err
