"""A run that is killed at any moment goes on as if it had not been, whoever killed it, alone or in a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_runs import kill_and_resume, kill_and_resume_sweep
from tiny_runs import Ran, run_in

SETTINGS = ("trainer.steps=60", "trainer.eval_every=10", "trainer.log_every=1", "evaluation.shortcuts=false")


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_is_what_it_would_have_been(tiny: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*tiny, *SETTINGS, "sampler=hard_negative")
    whole = run_in(tmp_path / "whole", *settings)

    ran, kills = kill_and_resume(tmp_path / "run", settings, seed=3, num_kills=3, num_rows=len(whole.rows))

    assert ran.exit_code == 0
    assert ran.summary["status"] == "done"
    assert ran.timeless_rows == whole.timeless_rows
    assert len({kill.number for kill in kills}) == 3, "the seed was to choose every signal"


@pytest.mark.slow
def test_so_is_a_sweep_of_two_jobs(tiny: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*tiny, *SETTINGS, "trainer.steps=30")
    wholes = {name: run_in(tmp_path / name, *settings, f"sampler={name}") for name in ("shuffled", "stratified")}
    num_rows = sum(len(whole.rows) for whole in wholes.values())

    swept = (*settings, "sampler=shuffled,stratified")
    exit_code, kills = kill_and_resume_sweep(tmp_path / "sweep", swept, seed=1, num_kills=3, num_rows=num_rows)

    assert exit_code == 0
    assert kills
    for name, whole in wholes.items():
        (job,) = (tmp_path / "sweep").glob(f"{name}-*")
        assert Ran(folder=job, exit_code=0, message="").timeless_rows == whole.timeless_rows
