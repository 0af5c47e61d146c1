"""Tuning minimises what was measured on the inner split, and a second call finds its trials done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_runs import run_in, run_py

from mobile_vla.study.summary import objective_of


@pytest.mark.slow
def test_optuna_minimises_inner_rmse_and_goes_on(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    folder = tmp_path / "tuned"
    call = ("experiment=tune_hard_negative", *tiny, f"hydra.sweep.dir={folder}", "sampler.warmup_passes=0")
    assert run_py(*call, "hydra.sweeper.n_trials=2")[0] == 0
    capsys.readouterr()

    assert run_py(*call, "hydra.sweeper.n_trials=3")[0] == 0

    summaries = [json.loads(path.read_text()) for path in folder.glob("*/summary.json")]
    assert len(summaries) == 3
    assert capsys.readouterr().out.count("is done already") == 2
    best = OmegaConf.load(folder / "optimization_results.yaml").best_value
    assert best == min(summary["inner/rmse"] for summary in summaries)
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["baseline"] in [row["sampler"] for row in comparison["rows"]]


def test_inner_episodes_are_measured_and_not_trained_on(tiny: tuple[str, ...], tmp_path: Path) -> None:
    plain = run_in(tmp_path / "plain", *tiny)
    tuned = run_in(tmp_path / "tuned", *tiny, "dataset.inner_fraction=0.3")

    split = json.loads((tuned.folder / "split.json").read_text())
    whole = json.loads((plain.folder / "split.json").read_text())
    assert split["val"] == whole["val"]
    assert sorted(split["train"] + split["inner"]) == whole["train"]
    assert tuned.summary["split_hash"] != plain.summary["split_hash"]
    assert objective_of(tuned.summary) == tuned.summary["inner/rmse"] > 0
    assert objective_of(plain.summary) == plain.summary["val/rmse"]
