"""The measurements of the trained policy: errors per window, shortcuts and drives, written to the run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from mobile_vla.closed_loop.evaluation import RESULTS_FILE, write_results
from mobile_vla.closed_loop.suite_table import print_suites
from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.data.batches import Reader
from mobile_vla.evaluation.data_report import DataReport
from mobile_vla.evaluation.hardest import write_hardest
from mobile_vla.evaluation.shortcuts import measure_shortcuts, print_shortcuts
from mobile_vla.evaluation.window_errors import WINDOW_ERRORS_FILE, measure_windows, write_window_errors
from mobile_vla.policy.policy import Policy
from mobile_vla.run.build import Run
from mobile_vla.run.primary import scale_of
from mobile_vla.run.record import description_of
from mobile_vla.streams import Stream
from mobile_vla.tracking.run_folder import RunFolder
from mobile_vla.training.gradient import autocast


def measure_trained(
    run: Run, reader: Reader, *, report: DataReport, folder: RunFolder, console: Console
) -> dict[str, Path]:
    """Measure the trained policy as the config asks, and return the videos of its drives by name.

    ``reader`` reads the val windows in the same way as the evaluations during training. The results are added to the
    summary of ``folder``.
    """
    _record_windows(run, reader, folder)
    _probe_shortcuts(run, report, folder, console)
    return _drive(run, folder, console)


def _record_windows(run: Run, reader: Reader, folder: RunFolder) -> None:
    """Write the error of each val window, computed in the same precision as in the last evaluation."""
    with autocast(run.trainer.precision, run.trainer.torch_device()):
        errors = measure_windows(run.model, reader, batch_size=run.evaluation.batch_size, scale=scale_of(run))
    write_window_errors(errors, folder.path / WINDOW_ERRORS_FILE)
    write_hardest(errors, run.data.readers["val"], action_names=run.data.spec.action_names, folder=folder.path)


def _probe_shortcuts(run: Run, report: DataReport, folder: RunFolder, console: Console) -> None:
    """Measure which inputs the trained policy uses; all runs with the same split get the same probes."""
    if not run.evaluation.shortcuts:
        return
    scale = scale_of(run)
    found = measure_shortcuts(
        run.model,
        reader=run.data.readers["val"],
        scale=scale,
        batch_size=run.evaluation.batch_size,
        stream=Stream(run.dataset.split_seed, "shortcuts"),  # not from ``seed``, which differs between runs
        references=report.baselines,
    )
    folder.add_to_summary(found)
    print_shortcuts(found, console, scale=scale)


def _drive(run: Run, folder: RunFolder, console: Console) -> dict[str, Path]:
    """Drive with the trained policy if its data are from the embedded world, and return the videos by name."""
    if run.closed_loop is None:
        return {}
    policy = Policy(run.model, description_of(run), folder=folder.path)
    console.print("driving ...", style="dim")
    videos = folder.path / "videos"
    shutil.rmtree(videos, ignore_errors=True)  # of an earlier call, if a finished run was resumed
    driven = run.closed_loop.measure(lambda _: policy, TrainedScenarios.of(run.data), videos)
    write_results(driven.results, folder.path / RESULTS_FILE)
    folder.add_to_summary({**driven.metrics, "closed_loop/videos": str(videos) if driven.videos else None})
    print_suites(driven.metrics, console)
    return driven.videos
