"""What reaches the optimiser: the drawn windows with their weights, clipped, at the scheduled rate, and finite."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from tiny_runs import compose_config, run_in
from training_runs import Weighted, train_run, watched_optimizer

from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.policy.model import Model
from mobile_vla.process.interruption import collected
from mobile_vla.run.build import Run, build_run
from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Batch
from mobile_vla.streams import Stream
from mobile_vla.training.non_finite import NonFiniteLossError


@dataclass(frozen=True, kw_only=True)
class Spoiled:
    """A transform that makes the target of one row of the batch too large to square."""

    takes_bytes: ClassVar[bool] = False

    row: int
    at_step: int

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        actions = batch.actions_BTKA.clone()
        if step == self.at_step:
            actions[self.row] = 1e30
        return replace(batch, actions_BTKA=actions)


@pytest.fixture
def make_run(tiny: tuple[str, ...]) -> Callable[..., Run]:
    return lambda *overrides: build_run(compose_config([*tiny, *overrides]))


def test_gradients_are_clipped_to_the_norm_and_only_when_above_it(make_run: Callable[..., Run], tmp_path: Path) -> None:
    limit = 0.05
    with watched_optimizer() as clipped:
        _, clipped_rows = train_run(make_run(f"trainer.clip_grad_norm={limit}", "trainer.steps=6"), tmp_path / "a")
    with watched_optimizer() as free:
        _, free_rows = train_run(make_run("trainer.clip_grad_norm=1000", "trainer.steps=6"), tmp_path / "b")

    logged = [row["train/grad_norm"] for row in clipped_rows if row["step"] > 0]
    assert max(logged) > limit, "the test needs a gradient to clip"
    assert clipped.norms == pytest.approx([min(norm, limit) for norm in logged], rel=1e-4)
    assert free.norms == pytest.approx([row["train/grad_norm"] for row in free_rows if row["step"] > 0], rel=1e-4)


def test_every_step_is_taken_at_the_scheduled_rate(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("trainer.steps=6", "trainer.schedule.warmup_steps=3")
    with watched_optimizer() as seen:
        _, rows = train_run(run, tmp_path)

    assert seen.rates == [run.trainer.learning_rate_at(step, num_steps=6) for step in range(6)]
    assert [row["train/learning_rate"] for row in rows if row["step"] > 0] == seen.rates


def test_a_window_of_weight_zero_leaves_no_trace_in_the_gradient(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("trainer.steps=1", "trainer.clip_grad_norm=1000")
    reader = run.data.readers["train"]
    run.model(reader.gather(np.array([17]))).loss_B.sum().backward()
    alone = [parameter.grad.clone() for parameter in run.model.parameters() if parameter.grad is not None]
    run.model.zero_grad()

    weights = (0.0, 0.0, 1.0, 0.0)
    sampler = Weighted(windows=reader.windows, ids=(3, 40, 17, 99), weights=weights)
    with watched_optimizer() as seen:
        train_run(run, tmp_path, sampler=sampler)

    for drawn, single in zip(seen.gradients[0], alone, strict=True):
        torch.testing.assert_close(drawn * len(weights), single, rtol=1e-4, atol=1e-6)


def test_weights_scale_the_gradient_but_not_the_loss_that_is_logged(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    gradients, losses = [], []
    for weight in (1.0, 3.0):
        run = make_run("trainer.steps=1", "trainer.clip_grad_norm=1000")
        sampler = Weighted(windows=run.data.windows["train"], ids=(3, 40), weights=(weight, weight))
        with watched_optimizer() as seen:
            _, rows = train_run(run, tmp_path / str(weight), sampler=sampler)
        gradients.append(seen.gradients[0])
        losses.append(rows[-1]["train/loss"])

    assert losses[0] == losses[1]
    for once, thrice in zip(*gradients, strict=True):
        torch.testing.assert_close(3 * once, thrice, rtol=1e-4, atol=1e-6)


def no_measures(ids: np.ndarray, measure: str) -> np.ndarray:
    raise AssertionError("shuffled does not look")


def test_a_loss_that_is_not_finite_stops_before_the_optimiser_steps(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("trainer.steps=6")
    draw = draw_windows(run.sampler, 2, Scores(run.sampler.windows, smoothing=0.5), no_measures)
    augment = Pipeline(transforms={"spoiled": Spoiled(row=5, at_step=2)}, stream=Stream(0, "augmentation"))

    with watched_optimizer() as seen, pytest.raises(NonFiniteLossError) as stopped:
        train_run(run, tmp_path, augment=augment)

    assert len(seen.rates) == 2
    assert all(torch.isfinite(parameter).all() for parameter in run.model.parameters())
    message = str(stopped.value)
    table = run.sampler.windows
    bad = int(draw.ids[5])
    assert message.startswith("step 2: the loss is not finite for 1 of 8 windows: ")
    assert f"{bad} ({table.episode_names[table.episode[bad]]} from frame {table.start[bad]})" in message
    assert f"Window ids of the batch: {draw.ids.tolist()}" in message


def test_the_loop_evaluates_before_the_first_step_and_after_the_last(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("trainer.steps=7", "trainer.eval_every=3", "trainer.log_every=2")

    result, rows = train_run(run, tmp_path)

    assert result.status == "done"
    assert [row["step"] for row in rows] == [0, 2, 3, 4, 6, 7]
    assert [row["step"] for row in rows if "val/rmse" in row] == [0, 3, 6, 7]


def test_a_train_loss_covers_the_steps_since_the_last_log_boundary(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    _, every = train_run(make_run("trainer.steps=6", "trainer.log_every=1"), tmp_path / "every")
    _, third = train_run(make_run("trainer.steps=6", "trainer.log_every=3"), tmp_path / "third")

    losses = {row["step"]: row["train/loss"] for row in every if row["step"] > 0}
    for row in third:
        if row["step"] in (3, 6):
            assert row["train/loss"] == pytest.approx(np.mean([losses[row["step"] - back] for back in range(3)]))


def test_how_often_a_run_is_measured_does_not_change_what_it_learns(tiny: tuple[str, ...], tmp_path: Path) -> None:
    often = run_in(tmp_path / "often", *tiny, "trainer.eval_every=1", "evaluation.batch_size=3")
    rarely = run_in(tmp_path / "rarely", *tiny, "trainer.eval_every=4", "evaluation.probe_windows=0")

    assert [row.get("train/loss") for row in often.rows] == [row.get("train/loss") for row in rarely.rows]


def test_windows_per_second_are_those_since_the_last_row_without_evaluations(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    def evaluate(model: Model) -> dict[str, float]:
        time.sleep(0.2)
        return {"val/rmse": 1.0}

    run = make_run("trainer.steps=6", "trainer.eval_every=2", "trainer.log_every=3")
    started = time.perf_counter()
    _, rows = train_run(run, tmp_path, evaluate=evaluate)
    trained_s = time.perf_counter() - started - 4 * 0.2

    assert [row["step"] for row in rows] == [0, 2, 3, 4, 6]
    assert "train/windows_per_s" not in rows[0]
    taken_s = [
        8 * (row["step"] - before["step"]) / row["train/windows_per_s"] for before, row in itertools.pairwise(rows)
    ]
    assert 0 < sum(taken_s) < trained_s
    assert all(taken < 0.2 for taken in taken_s)


def test_every_evaluation_tells_the_peak_of_memory(make_run: Callable[..., Run], tmp_path: Path) -> None:
    _, rows = train_run(make_run(), tmp_path)

    assert [row["step"] for row in rows if "memory/peak_gib" in row] == [0, 2, 4]
    assert rows[-1]["memory/peak_gib"] > 0.01


def test_a_signal_is_collected_and_the_former_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    with collected() as caught:
        signal.raise_signal(signal.SIGTERM)

    assert caught == [signal.SIGTERM]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_in_hand(
    number: signal.Signals, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("trainer.steps=50")

    def show(step: int, row: Mapping[str, float]) -> None:
        if step == 3:
            signal.raise_signal(number)

    result, _ = train_run(run, tmp_path, show=show)

    assert (result.status, result.stopped_by) == ("stopped", number)
    assert result.progress.step == 4
    assert (tmp_path / "step-00000004" / "training.json").is_file()
