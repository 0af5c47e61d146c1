"""A checkpoint is whole or is not used: whatever reads a run takes the newest whole one, and says what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mutated_checkpoints import USES, Pristine, Trial
from tiny_runs import compose_config, run_in

from mobile_vla.build import build_dataset


@pytest.fixture(scope="module")
def pristine(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    """A done run with three checkpoints and the best one."""
    overrides = (*tiny, "trainer.keep=3", "evaluation.shortcuts=false")
    ran = run_in(tmp_path_factory.mktemp("pristine") / "run", *overrides)
    assert ran.exit_code == 0, ran.message
    return Pristine(ran=ran, tiny=overrides, data=build_dataset(compose_config(overrides)).open())


@pytest.mark.parametrize("use", USES)
def test_no_damaged_checkpoint_is_used(use: str, pristine: Pristine, tmp_path: Path) -> None:
    num_trials = int(os.environ.get("TRIALS", "6"))
    first = 1000 * list(USES).index(use)
    outcomes = [
        Trial.make(pristine, seed, tmp_path / str(seed)).check(use) for seed in range(first, first + num_trials)
    ]
    print(use, sum(outcomes), "of", len(outcomes), "used a whole one")
