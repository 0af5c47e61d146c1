"""Mixed precision keeps the loss in fp32, and fp16 finds a scale at which its gradients live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import compose_config, options_of, run_in, slow_but
from training_runs import Weighted, train_run

from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.model import Model
from mobile_vla.run.build import Run, build_run
from mobile_vla.training.gradient import autocast
from mobile_vla.training.non_finite import NonFiniteLossError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CPU = torch.device("cpu")


@pytest.fixture
def make_run(tiny: tuple[str, ...]) -> Callable[..., Run]:
    return lambda *overrides: build_run(compose_config([*tiny, *overrides]))


def heavy(run: Run, *, weight: float) -> Weighted:
    """Return a draw whose weight makes gradients too large for a half."""
    return Weighted(windows=run.data.windows["train"], ids=(3, 40, 17, 99), weights=(weight,) * 4)


def weights_of(run: Run) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in run.model.parameters()]


@pytest.mark.parametrize("precision", slow_but(DTYPES, ["bf16"]))
@pytest.mark.parametrize("head", options_of("model/head"))
def test_the_loss_of_every_head_is_reduced_in_full_precision(
    head: str, precision: str, make_run: Callable[..., Run]
) -> None:
    run = make_run(f"model/head={head}")
    batch = run.data.readers["train"].gather(run.sampler.windows.episode[:4].astype(int))

    torch.manual_seed(0)
    plain = run.model(batch)
    torch.manual_seed(0)
    with autocast(precision, CPU):
        mixed = run.model(batch)

    assert mixed.loss_B.dtype == torch.float32
    torch.testing.assert_close(mixed.loss_B, plain.loss_B, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("precision", DTYPES)
def test_training_and_its_evaluations_run_in_the_precision(
    precision: str, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(f"trainer.precision={precision}", "trainer.steps=6")
    seen = []

    def evaluate(model: Model) -> dict[str, float]:
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return {"val/rmse": 1.0}

    run.model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    train_run(run, tmp_path, evaluate=evaluate)

    assert set(seen) == {DTYPES[precision]}
    assert all(parameter.dtype == torch.float32 for parameter in run.model.parameters())


def test_half_precision_learns_what_full_precision_learns(make_run: Callable[..., Run], tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        run = make_run(f"trainer.precision={precision}", "trainer.steps=12", "trainer.learning_rate=0.01")
        _, rows = train_run(run, tmp_path / precision, sampler=heavy(run, weight=1.0))
        losses[precision] = rows[-1]["train/loss"]

    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_a_gradient_that_overflows_in_fp16_lowers_the_scale_and_changes_nothing(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("trainer.precision=fp16", "trainer.steps=1")
    before = weights_of(run)

    result, rows = train_run(run, tmp_path, sampler=heavy(run, weight=1e6))

    assert result.progress.skipped_steps == 1
    assert rows[-1]["train/skipped_steps"] == 1
    assert json.loads((tmp_path / "step-00000001" / "training.json").read_text())["scaler"]["scale"] == 32768
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(run), strict=True))


def test_after_some_skipped_steps_fp16_finds_its_scale(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("trainer.precision=fp16", "trainer.steps=16")
    before = weights_of(run)

    _, rows = train_run(run, tmp_path, sampler=heavy(run, weight=1e4))

    skipped = [row["train/skipped_steps"] for row in rows if row["step"]]
    assert 0 < skipped[-1] < 16
    assert skipped[-1] == skipped[-2]
    assert any(not torch.equal(a, b) for a, b in zip(before, weights_of(run), strict=True))


def test_a_run_in_fp16_goes_on_at_the_scale_it_had(tiny: tuple[str, ...], tmp_path: Path) -> None:
    overrides = (*tiny, "trainer.precision=fp16", "trainer.micro_batch_size=3", "trainer.backbone_learning_rate=1e-4")
    whole = run_in(tmp_path / "whole", *overrides)
    stopped = run_in(tmp_path / "stopped", *overrides, "trainer.stop_at_step=2")
    checkpoint = find_checkpoint(stopped.folder) / "training.json"
    values = json.loads(checkpoint.read_text())
    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert whole.exit_code == resumed.exit_code == 0, resumed.message
    assert values["scaler"]["_growth_tracker"] + values["skipped_steps"] == 2
    end = Path("checkpoints") / "step-00000004"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (resumed.folder / end / name).read_bytes() == (whole.folder / end / name).read_bytes()
    scalers = [json.loads((ran.folder / end / "training.json").read_text())["scaler"] for ran in (resumed, whole)]
    assert scalers[0] == scalers[1]


def test_a_gradient_that_no_scale_can_hold_stops_the_run(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("trainer.precision=fp16", "trainer.steps=50")

    with pytest.raises(NonFiniteLossError, match=r"^step 16: the loss is finite, its gradient is not.*precision=bf16"):
        train_run(run, tmp_path, sampler=heavy(run, weight=1e30))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_a_scale_a_gradient_that_is_not_finite_stops_at_once(
    precision: str, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(f"trainer.precision={precision}")

    with pytest.raises(NonFiniteLossError, match=r"^step 0: the loss is finite, its gradient is not(?!.*bf16)"):
        train_run(run, tmp_path, sampler=heavy(run, weight=3e38))


def test_only_fp16_counts_skipped_steps(make_run: Callable[..., Run], tmp_path: Path) -> None:
    _, rows = train_run(make_run("trainer.precision=bf16"), tmp_path)

    assert not any("train/skipped_steps" in row for row in rows)
