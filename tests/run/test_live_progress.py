"""Check that a run which will take hours says so once, after ten steps, and what would shorten it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import run_in

from mobile_vla.metrics import ERROR
from mobile_vla.run.live_progress import LiveProgress


def warnings_of(
    caplog: pytest.LogCaptureFixture, *, num_steps: int, slow_remedy: str | None = "Shorter: less."
) -> list:
    with LiveProgress(
        label="run", num_steps=num_steps, error=ERROR, is_bar=False, console=Console(), slow_remedy=slow_remedy
    ) as live:
        for step in range(15):
            live.show(step, {})
            time.sleep(0.001)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_hours_are_said_once_with_what_helps(caplog: pytest.LogCaptureFixture) -> None:
    [said] = warnings_of(caplog, num_steps=10**8)
    assert said.startswith("run: at this speed, ")
    assert said.endswith(" hours are left. Shorter: less.")


@pytest.mark.parametrize(("num_steps", "remedy"), [(1000, "Shorter: less."), (10**8, None)])
def test_a_short_run_and_one_without_a_remedy_say_nothing(
    num_steps: int, remedy: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(caplog, num_steps=num_steps, slow_remedy=remedy) == []


def test_a_run_on_a_cpu_names_its_own_options(tiny: tuple[str, ...], tmp_path: Path) -> None:
    long = ("trainer.steps=100000000", "trainer.eval_every=100000000", "trainer.stop_at_step=12")
    ran = run_in(tmp_path / "run", *tiny, *long)
    assert ran.exit_code == 0, ran.message
    [said] = [line for line in (ran.folder / "run.log").read_text().splitlines() if "at this speed" in line]
    assert "fewer steps (trainer.steps, now 100000000)" in said
    assert "smaller batches (trainer.batch_size, now 8)" in said
    assert "image_size" not in said  # 16 px are small already
