"""Print what each sampler of a study drew beside what its policies fitted: does it train on what can be learnt?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from mobile_vla.compare.data.runs import RunRecord, load_runs, runs_by_label
from mobile_vla.config import compose_config
from mobile_vla.policy.checkpoint_folder import ARRAYS_FILE, find_checkpoint
from mobile_vla.run.build import build_dataset
from mobile_vla.sampling.score_file import read_window_scores

COLUMNS = (
    *("sampler", "val/rmse", "its best", "probe/rmse"),
    *("draws from the hardest fifth", "rank corr. of draws", "effective windows", "seconds"),
)
"""Hardest by irreducible loss; correlated with it."""


def main() -> None:
    """Read a study's runs and a window score file of irreducible losses, and print one row a sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="folder of the sweep")
    parser.add_argument("irreducible", type=Path, help="window score file of irreducible losses")
    arguments = parser.parse_args()
    windows = build_dataset(compose_config([])).open().windows["train"]
    losses = read_window_scores(arguments.irreducible, windows, option="irreducible")
    labels = runs_by_label(run for run in load_runs(arguments.study) if run.is_done)
    rows = {label: row_of(runs, losses) for label, runs in labels.items()}
    table = Table(*COLUMNS, box=None)
    for label, row in sorted(rows.items(), key=lambda item: item[1][0]):
        val, best, probe, hardest, correlation, effective, seconds = row
        figures = (f"{val:.4f}", f"{best:.4f}", f"{probe:.4f}", f"{hardest:.1%}", f"{correlation:+.2f}")
        table.add_row(label, *figures, f"{effective:.0%}", f"{seconds:.0f}")
    Console(width=120).print(table)


def row_of(runs: Sequence[RunRecord], losses: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the means over ``runs`` of the figures of ``COLUMNS``; ``losses`` [N] are the irreducible ones."""
    hardest = np.argsort(losses)[-len(losses) // 5 :]
    found = []
    for run in runs:
        visits = load_file(find_checkpoint(run.folder) / ARRAYS_FILE)["drawn/visits"].astype(float)
        found.append(
            [
                *(run.numbers[key] for key in ("val/rmse", "best/val/rmse", "probe/rmse")),
                visits[hardest].sum() / visits.sum(),
                spearmanr(visits, losses).statistic,
                run.numbers["sampler/effective_sample_size"],
                run.numbers["wall_s"],
            ]
        )
    return np.mean(found, axis=0)


if __name__ == "__main__":
    main()
