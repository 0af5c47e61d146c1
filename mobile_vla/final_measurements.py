"""Measure what training came to: windows, shortcuts and drives, into the run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from mobile_vla.build import Run
from mobile_vla.closed_loop.evaluation import RESULTS_FILE, write_results
from mobile_vla.closed_loop.suite_table import print_suites
from mobile_vla.closed_loop.taught import TaughtScenarios
from mobile_vla.data.batches import Reader
from mobile_vla.evaluation.evidence import Evidence
from mobile_vla.evaluation.hardest import write_hardest
from mobile_vla.evaluation.shortcuts import measure_shortcuts, print_shortcuts
from mobile_vla.evaluation.window_errors import WINDOW_ERRORS_FILE, measure_windows, write_window_errors
from mobile_vla.policy.policy import Policy
from mobile_vla.run_record import description_of
from mobile_vla.streams import Stream
from mobile_vla.tracking.run_folder import RunFolder
from mobile_vla.training.precision import autocast


def measure_trained(
    run: Run, reader: Reader, *, evidence: Evidence, folder: RunFolder, console: Console
) -> dict[str, Path]:
    """Measure the trained policy, where that is asked for, and return the videos of its drives by name.

    ``reader`` is that of the val windows as the evaluations read them; ``folder`` learns what the summary will say.
    """
    _record_windows(run, reader, folder)
    _probe_shortcuts(run, evidence, folder, console)
    return _drive(run, folder, console)


def _record_windows(run: Run, reader: Reader, folder: RunFolder) -> None:
    """Write what the trained policy gets wrong in each val window, as the last evaluation saw it."""
    with autocast(run.trainer.precision, run.trainer.torch_device()):
        errors = measure_windows(run.model, reader, batch_size=run.evaluation.batch_size)
    write_window_errors(errors, folder.path / WINDOW_ERRORS_FILE)
    write_hardest(errors, run.data.readers["val"], action_names=run.data.action_names, folder=folder.path)


def _probe_shortcuts(run: Run, evidence: Evidence, folder: RunFolder, console: Console) -> None:
    """Find out what the trained policy acts on; every run of a split is asked the same."""
    if not run.evaluation.shortcuts:
        return
    found = measure_shortcuts(
        run.model,
        reader=run.data.readers["val"],
        action_names=run.data.action_names,
        batch_size=run.evaluation.batch_size,
        stream=Stream(run.dataset.split_seed, "shortcuts"),
        references=evidence.baselines,
    )
    folder.learn(found)
    print_shortcuts(found, console)


def _drive(run: Run, folder: RunFolder, console: Console) -> dict[str, Path]:
    """Let the trained policy drive where its data come from the embedded world; return the videos by name."""
    if run.closed_loop is None:
        return {}
    policy = Policy(run.model, description_of(run), folder=folder.path)
    console.print("driving ...", style="dim")
    videos = folder.path / "videos"
    shutil.rmtree(videos, ignore_errors=True)  # of a run that ended here before it went on
    driven = run.closed_loop.measure(lambda _: policy, TaughtScenarios.of(run.data), videos)
    write_results(driven.results, folder.path / RESULTS_FILE)
    folder.learn({**driven.metrics, "closed_loop/videos": str(videos) if driven.videos else None})
    print_suites(driven.metrics, console)
    return driven.videos
