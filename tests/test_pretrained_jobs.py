"""Whole runs with a tiny model of every family: train, stop, resume, drive, load."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from test_experiments import assert_same_run, two_then_four
from tiny_runs import run_in, slow_but
from tiny_vlms import FAMILIES

from mobile_vla.policy.policy import Policy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides for the embedded world in a few small episodes, driven a few steps."""
    root = tmp_path_factory.mktemp("stores")
    return (
        *("dataset.generator.num_episodes=8", "dataset.generator.image_size=16", "dataset.num_workers=0"),
        *(f"dataset.datasets_dir={root}/datasets", f"dataset.cache_dir={root}/cache", "dataset.window_size=3"),
        *(
            "trainer.batch_size=4",
            "trainer.schedule.warmup_steps=1",
            "evaluation.batch_size=32",
            "evaluation.probe_windows=0",
        ),
        *("logger=local", "closed_loop.episodes=2", "closed_loop.max_steps=3", "closed_loop.videos=0"),
        *("~closed_loop.suites.shifted", "~closed_loop.suites.looks", "evaluation.shortcuts=false"),
    )


def tiny_model(folder: Path) -> tuple[str, ...]:
    return (
        *("model=pretrained", f"model.backbone.weights={folder}", "model.backbone.dtype=fp32"),
        *("model/backbone/tuning=lora", "model.backbone.tuning.rank=4", "model.head.history.hidden_dim=8"),
    )


ALWAYS = ("kosmos2",)
"""One whose frames stand apart; one that has its own image tokens is trained and driven below, as a video backbone."""


@pytest.mark.parametrize("name", slow_but(FAMILIES, ALWAYS))
def test_a_family_trains_resumes_exactly_drives_and_loads(
    name: str, vlms: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    resumed, whole = two_then_four(tmp_path, *data, *tiny_model(vlms / name))

    assert_same_run(resumed, whole)
    adapters = [Path(ran.summary["checkpoint/last"]) / "adapter/adapter_model.safetensors" for ran in (resumed, whole)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    for suite in ("seen", "unseen"):
        assert whole.summary[f"closed_loop/{suite}/episodes"] == 2
    chunk = Policy.load(whole.folder).act(np.zeros((48, 64, 3), np.uint8), "Go to the left bottle")
    assert np.isfinite(chunk).all()


def test_a_video_backbone_drives_as_it_was_trained(vlms: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_in(
        tmp_path / "run", *data, *tiny_model(vlms / "smolvlm"), "model.backbone.structure=video", "trainer.steps=2"
    )

    assert ran.exit_code == 0, ran.message
    assert ran.summary["closed_loop/seen/episodes"] == 2


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [
        ("fp16", "fp16"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [("bf16", "fp32"), ("fp32", "bf16"), ("bf16", "bf16"), ("fp32", "fp16"), ("bf16", "fp16")]
        ),
    ],
)
def test_every_precision_trains_on_weights_of_every_dtype(
    dtype: str, precision: str, vlms: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    options = (f"model.backbone.dtype={dtype}", f"trainer.precision={precision}", "trainer.micro_batch_size=3")
    model = [option for option in tiny_model(vlms / "kosmos2") if "dtype" not in option]
    undriven = [*(option for option in data if "closed_loop" not in option), "closed_loop=none"]
    ran = run_in(tmp_path / "run", *undriven, *model, *options, "trainer.steps=2")

    assert ran.exit_code == 0, ran.message
    assert ran.summary["train/grad_norm"] > 0
    assert ran.summary.get("train/skipped_steps", 0) == 0


def test_a_batch_that_cannot_fit_is_refused_before_the_weights_are_loaded(
    vlms: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    folder = shutil.copytree(vlms / "kosmos2", tmp_path / "kosmos2")
    (folder / "model.safetensors").unlink()
    batch = ("trainer.batch_size=10000000", "trainer.steps=2")
    ran = run_in(tmp_path / "run", *data[:-1], *tiny_model(folder), *batch)

    assert ran.exit_code == 1
    assert "a training step needs about" in ran.message
    assert "trainer.micro_batch_size=1  (fits)" in ran.message


def test_half_precision_weights_that_would_learn_nothing_are_refused(
    vlms: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    model = [option for option in tiny_model(vlms / "kosmos2") if "dtype" not in option]
    ran = run_in(tmp_path / "run", *data, *model, "model.backbone.dtype=fp16", "trainer.steps=2")

    assert ran.exit_code == 1
    assert "model.backbone.dtype=fp16: its gradients vanish without a scaled loss" in ran.message


@pytest.mark.slow
def test_a_run_goes_on_where_its_weights_have_moved_and_on_no_others(
    vlms: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    folder = shutil.copytree(vlms / "smolvlm", tmp_path / "smolvlm")
    undriven = [*(option for option in data if "closed_loop" not in option), "closed_loop=none"]
    stopped = run_in(tmp_path / "run", *undriven, *tiny_model(folder), "trainer.steps=4", "trainer.stop_at_step=2")
    moved = folder.rename(tmp_path / "moved")
    lost = run_in(stopped.folder, f"resume={stopped.folder}")
    other = run_in(stopped.folder, f"resume={stopped.folder}", f"+model.backbone.weights={vlms / 'idefics3'}")
    found = run_in(stopped.folder, f"resume={stopped.folder}", f"+model.backbone.weights={moved}")

    assert lost.exit_code == 1
    assert "say where they are: +model.backbone.weights=FOLDER" in lost.message
    assert other.exit_code == 1
    assert "is another model" in other.message
    assert found.exit_code == 0, found.message
    assert found.summary["status"] == "done"
