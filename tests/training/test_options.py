"""The budget is the same for every sampler, and the learning rate follows its curve."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import compose_config, run_in

from mobile_vla.errors import ConfigError
from mobile_vla.training.options import Trainer
from mobile_vla.training.schedules import Constant, Decay, Schedule

_CONFIG = {key: value for key, value in compose_config().trainer.items() if key not in ("_target_", "schedule")}


def trainer(schedule: Schedule | None = None, **changed: object) -> Trainer:
    return Trainer(**{**_CONFIG, "schedule": schedule or Constant(warmup_steps=0), **changed})


def decay(
    *, shape: Literal["cosine", "linear"] = "cosine", final: float = 1e-5, warmup: int = 100, end: int | None = None
) -> Decay:
    return Decay(shape=shape, warmup_steps=warmup, decay_steps=end, final_learning_rate=final)


def test_the_rate_warms_up_linearly_and_then_falls_along_a_cosine() -> None:
    schedule = trainer(decay(final=0.1, warmup=4), learning_rate=1.0)

    rates = [schedule.learning_rate_at(step, num_steps=12) for step in range(13)]

    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.55)  # half of the way down
    assert rates[6] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates[12] == pytest.approx(0.1)


def test_a_linear_schedule_falls_in_line() -> None:
    schedule = trainer(decay(shape="linear", final=0.1, warmup=4), learning_rate=1.0)

    rates = [schedule.learning_rate_at(step, num_steps=12) for step in range(4, 14)]

    assert rates == pytest.approx([*np.linspace(1.0, 0.1, 9), 0.1])


def test_a_constant_rate_stays_where_the_warm_up_ends_however_long_the_run() -> None:
    schedule = trainer(Constant(warmup_steps=4), learning_rate=0.5)

    assert [schedule.learning_rate_at(step, num_steps=8) for step in range(8)] == [0.125, 0.25, 0.375, *[0.5] * 5]
    assert not schedule.schedule.depends_on_the_end


@given(
    shape=st.sampled_from(["cosine", "linear"]),
    warmup=st.integers(0, 30),
    num_steps=st.integers(1, 60),
    end=st.none() | st.integers(31, 80),
    final=st.floats(0, 1),
)
def test_the_rate_rises_to_the_peak_and_never_again(
    shape: Literal["cosine", "linear"], warmup: int, num_steps: int, end: int | None, final: float
) -> None:
    schedule = trainer(decay(shape=shape, final=final, warmup=warmup, end=end), learning_rate=1.0)

    rates = [schedule.learning_rate_at(step, num_steps=num_steps) for step in range(num_steps)]

    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert all(rate >= final - 1e-12 for rate in rates[warmup:])


def test_a_decay_that_ends_before_the_warm_up_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.schedule.decay_steps=5: .* trainer.schedule.warmup_steps=10"):
        decay(warmup=10, end=5)


def test_with_a_fixed_end_of_the_decay_a_short_run_is_the_beginning_of_a_long_one() -> None:
    schedule = trainer(decay(warmup=10, end=50, final=1e-5))

    short, long = ([schedule.learning_rate_at(step, num_steps=n) for step in range(40)] for n in (40, 90))

    assert short == long
    assert schedule.learning_rate_at(70, num_steps=90) == 1e-5


@given(epochs=st.floats(0.01, 50), num_windows=st.integers(1, 10_000), batch_size=st.integers(1, 64))
def test_epochs_are_turned_into_the_fewest_steps_that_cover_them(
    epochs: float, num_windows: int, batch_size: int
) -> None:
    steps = trainer(epochs=epochs, batch_size=batch_size).num_steps(num_windows)

    assert (steps - 1) * batch_size < epochs * num_windows <= steps * batch_size or steps == 1


def test_without_epochs_the_steps_are_the_budget() -> None:
    assert trainer(steps=123).num_steps(10_000) == 123


def test_a_micro_batch_above_the_batch_is_refused() -> None:
    assert trainer(batch_size=8, micro_batch_size=8).micro_batch_size == 8
    with pytest.raises(ConfigError, match=r"trainer.micro_batch_size=9: has no effect, .* trainer.batch_size=8"):
        trainer(batch_size=8, micro_batch_size=9)


def test_the_recipe_for_adapters_trains_on_the_cpu_as_well(tiny: tuple[str, ...], tmp_path: Path) -> None:
    budget = ("trainer.epochs=null", "trainer.steps=3", "trainer.batch_size=5")

    ran = run_in(tmp_path, *(o for o in tiny if not o.startswith("trainer.steps")), "trainer=lora", *budget)

    assert ran.exit_code == 0, ran.message
    assert ran.rows[-1]["step"] == 3
    assert ran.rows[-1]["train/loss"] > 0
