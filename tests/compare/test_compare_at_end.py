"""A real Hydra sweep ends with its comparison, and its exit code tells whether every run finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json
import math
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(cfg):
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    overrides = list(hydra_config.overrides.task)
    manifest = {"choices": {"sampler": cfg.sampler}, "overrides": overrides, "seed": cfg.seed}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    summary = {"sampler": cfg.sampler, "seed": cfg.seed, "steps": cfg.steps, "batch_size": 2, "commit": "c"}
    if cfg.sampler == cfg.broken:
        summary |= {"status": "failed", "error": "no such window"}
    else:
        summary |= {"status": "done", "val/rmse": 0.1, "data_hash": "d", "split_hash": "s"}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 5, "val/rmse": 0.2}))
    return math.nan if cfg.sampler == cfg.broken else 0.1


main()
"""

CONFIG = """
sampler: shuffled
seed: 0
steps: 5
broken: none
study:
  baseline: shuffled
hydra:
  sweep:
    dir: sweep-${now:%H-%M-%S-%f}
    subdir: ${hydra.job.num}
  callbacks:
    compare:
      _target_: mobile_vla.compare.sweep.CompareAtEnd
      first_vs_last: true
"""


def sweep(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (root / "train.py").write_text(SCRIPT)
    (root / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "train.py", "-m", "sampler=shuffled,stratified", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


def written(root: Path) -> list[Path]:
    return list(root.glob("sweep-*/comparison.json"))


def test_sweep_that_went_well_exits_with_zero_and_its_comparison(tmp_path: Path) -> None:
    result = sweep(tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = written(tmp_path)
    assert [row["n"] for row in json.loads(path.read_text())["rows"]] == [1, 1]
    assert "stratified" in result.stdout
    assert "5 to 5" in result.stdout
    assert "First evaluation after step 0" in result.stdout


def test_failed_job_gives_exit_code_one_and_a_comparison(tmp_path: Path) -> None:
    result = sweep(tmp_path, "broken=stratified")
    assert result.returncode == 1
    (path,) = written(tmp_path)
    content = json.loads(path.read_text())
    assert [run["error"] for run in content["failed_runs"]] == ["no such window"]
    assert "no such window" in result.stdout
    assert "did not finish" in result.stderr


def test_refused_comparison_gives_exit_code_one_and_says_why(tmp_path: Path) -> None:
    result = sweep(tmp_path, "steps=5,6", "seed=0")
    assert result.returncode == 1
    assert "steps (the budget) differs" in result.stderr
    assert "Traceback" not in result.stderr
    assert not written(tmp_path)


def test_accident_in_the_comparison_is_not_turned_into_a_warning(tmp_path: Path) -> None:
    result = sweep(tmp_path, "hydra.sweep.subdir=comparison.json/${hydra.job.num}")
    assert result.returncode == 1
    assert "IsADirectoryError" in result.stderr


@pytest.mark.parametrize("module", ["torch", "scipy", "rich", "mobile_vla.compare.report"])
def test_importing_the_callback_is_light(module: str) -> None:
    code = f"import sys, mobile_vla.compare.sweep; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_comparing_needs_neither_torch_nor_training() -> None:
    code = (
        "import sys, mobile_vla.compare.report, mobile_vla.compare.terminal.first_vs_last as _;"
        "sys.exit(any(m in ('torch', 'scipy') or m.startswith('mobile_vla.training') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
