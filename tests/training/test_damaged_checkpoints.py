"""A checkpoint is whole or is not used: whatever reads a run takes the newest whole one, and says what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mutated_checkpoints import MUTATIONS, USES, Pristine, Trial, contents_of, mutate
from tiny_runs import compose_config, run_in

from mobile_vla.run.build import build_dataset

NUM_TRIALS = 4
"""For each use; experiments/torture has many more."""


@pytest.fixture(scope="module")
def pristine(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    """A done run with three checkpoints and the best one."""
    overrides = (*tiny, "trainer.keep=3", "evaluation.shortcuts=false")
    ran = run_in(tmp_path_factory.mktemp("pristine") / "run", *overrides)
    assert ran.exit_code == 0, ran.message
    return Pristine(ran=ran, data=build_dataset(compose_config(overrides)).open())


@pytest.mark.parametrize("use", USES)
def test_no_damaged_checkpoint_is_used(use: str, pristine: Pristine, tmp_path: Path) -> None:
    first = NUM_TRIALS * list(USES).index(use)
    for seed in range(first, first + NUM_TRIALS):
        Trial.make(pristine, seed, tmp_path / str(seed)).check(use)


def test_what_is_damaged_is_what_changed(pristine: Pristine, tmp_path: Path) -> None:
    before = contents_of(pristine.ran.folder)
    kinds = set()
    for seed in range(40):
        run = tmp_path / str(seed)
        shutil.copytree(pristine.ran.folder / "checkpoints", run / "checkpoints")
        mutation = mutate(run, seed)
        after = contents_of(run)
        assert mutation.damaged
        assert {name for name in before if after.get(name) == before[name]} == before.keys() - mutation.damaged
        kinds |= {kind for kind in MUTATIONS if kind in mutation.text}
    assert kinds == MUTATIONS.keys()
