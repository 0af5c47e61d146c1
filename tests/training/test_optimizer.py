"""Which weights are trained, at which rate, and what a checkpoint keeps of the optimiser."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import compose_config, run_in

from mobile_vla.errors import ConfigError
from mobile_vla.run.build import Run, build_run
from mobile_vla.training.optimizer import build_optimizer, set_learning_rate, trained_parameters


@pytest.fixture
def make_run(tiny: tuple[str, ...]) -> Callable[..., Run]:
    return lambda *overrides: build_run(compose_config([*tiny, *overrides]))


def test_the_backbone_follows_the_curve_at_its_own_rate(make_run: Callable[..., Run]) -> None:
    run = make_run("trainer.learning_rate=1e-3", "trainer.backbone_learning_rate=1e-4")
    optimizer = build_optimizer(run.model, run.trainer)

    backbone, rest = optimizer.param_groups
    for step in range(4):
        set_learning_rate(optimizer, run.trainer.learning_rate_at(step, num_steps=4))
        assert rest["lr"] == run.trainer.learning_rate_at(step, num_steps=4)
        assert backbone["lr"] == pytest.approx(rest["lr"] / 10)
    assert {id(p) for p in backbone["params"]} == {id(p) for p in run.model.backbone.parameters()}
    assert {id(p) for p in trained_parameters(optimizer)} == {id(p) for p in run.model.parameters()}


def test_frozen_weights_do_not_reach_the_optimiser(make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.model.backbone.requires_grad_(False)

    trained = trained_parameters(build_optimizer(run.model, run.trainer))

    assert [id(p) for p in trained] == [id(p) for p in run.model.head.parameters()]


def test_a_rate_for_a_frozen_backbone_is_refused(make_run: Callable[..., Run]) -> None:
    run = make_run("trainer.backbone_learning_rate=1e-4")
    run.model.backbone.requires_grad_(False)

    with pytest.raises(ConfigError, match=r"trainer.backbone_learning_rate=0.0001: has no effect"):
        build_optimizer(run.model, run.trainer)


def test_an_optimiser_whose_package_is_missing_is_refused_before_data_are_read(
    tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)

    ran = run_in(tmp_path / "run", *tiny, "trainer.optimizer=adamw_8bit", f"dataset.path={tmp_path}/nowhere")

    assert ran.exit_code == 1
    assert "trainer.optimizer=adamw_8bit: needs the package bitsandbytes" in ran.message
    assert "pip install 'mobile-vla[gpu]'" in ran.message


def test_the_8_bit_optimiser_trains_and_resumes_exactly(tiny: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the optional package of trainer.optimizer=adamw_8bit is not installed")
    # Wide enough that some weights have their state in 8 bits: below 4,096 numbers it stays in 32.
    overrides = (*tiny, "trainer.optimizer=adamw_8bit", "model.backbone.feature_dim=96")
    whole = run_in(tmp_path / "whole", *overrides)
    assert whole.exit_code == 0, whole.message
    stopped = run_in(tmp_path / "stopped", *overrides, "trainer.stop_at_step=2")
    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert resumed.exit_code == 0, resumed.message
    end = Path("checkpoints") / "step-00000004"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (resumed.folder / end / name).read_bytes() == (whole.folder / end / name).read_bytes()
    dtypes = {tensor.dtype for tensor in load_file(whole.folder / end / "optimizer.safetensors").values()}
    assert torch.uint8 in dtypes
