"""A run imports only what it uses: nobody waits for, or must install, what is for something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiny_runs import ROOT

OPTIONAL = ("mujoco", "gymnasium", "wandb", "transformers", "peft", "tensorboard", "matplotlib", "plotly")


def test_a_run_that_drives_and_mirrors_nothing_imports_no_optional_package(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    code = (
        "import sys; from mobile_vla.commands.train import main; main()\n"
        f"print('imported:', *(name for name in {OPTIONAL} if name in sys.modules))"
    )
    arguments = (*tiny, "logger=local", f"hydra.run.dir={tmp_path}/run")
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "imported:"
