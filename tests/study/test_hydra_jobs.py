"""The jobs that are planned are those that Hydra runs: the same overrides, in the same order, in the same folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_runs import run_py


@pytest.mark.parametrize(
    "overrides",
    [
        ("seed=range(2)", "sampler=stratified,shuffled", "++sampler.tau=0.5"),
        pytest.param(("sampler=glob(st*)", "dataset.path='a,b'", "~evaluation.shortcuts"), marks=pytest.mark.slow),
        pytest.param(("experiment=unmirrored", "seed=6,7"), marks=pytest.mark.slow),
        ("seed=2,1", "hydra.sweep.subdir='${hydra:job.num}-${hydra:job.override_dirname}'"),
    ],
)
def test_the_plan_is_what_hydra_does(overrides: tuple[str, ...], tmp_path: Path) -> None:
    # No such trainer: every job ends at the check of its config, once Hydra has recorded it.
    assert run_py("-m", f"hydra.sweep.dir={tmp_path}", "+trainer.nothing=1", *overrides)[0] == 1

    planned = json.loads((tmp_path / "study.json").read_text())["jobs"]
    recorded = {path.parents[1]: OmegaConf.load(path).hydra for path in tmp_path.rglob(".hydra/hydra.yaml")}
    ran = sorted(recorded.items(), key=lambda item: int(item[1].job.num))
    assert len(planned) > 1
    assert [tmp_path / job["folder"] for job in planned] == [folder for folder, _ in ran]
    assert [job["overrides"] for job in planned] == [list(hydra.overrides.task) for _, hydra in ran]
