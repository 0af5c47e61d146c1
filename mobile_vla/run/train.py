"""Train a built run, log its metrics, and measure the trained policy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mobile_vla.augmentation.pipeline import Augment
from mobile_vla.data.batches import Reader
from mobile_vla.evaluation.data_report import DataReport
from mobile_vla.features.readers import with_features
from mobile_vla.installation import TRAIN
from mobile_vla.policy.model import Model
from mobile_vla.run.build import Run
from mobile_vla.run.final_measurements import measure_trained
from mobile_vla.run.live_progress import LiveProgress
from mobile_vla.run.primary import best_by, check_primary, scale_of
from mobile_vla.run.record import description_of, results_of
from mobile_vla.run.stopped import limit_of, signal_name
from mobile_vla.tracking.contract import RunIdentity
from mobile_vla.tracking.run_folder import RunFolder
from mobile_vla.training.loop import Parts, Result, train
from mobile_vla.training.resume import Origin

_log = logging.getLogger(__name__)


def train_and_measure(
    run: Run,
    report: DataReport,
    *,
    folder: RunFolder,
    sweep_folder: Path | None,
    is_bar: bool,
    manifest: Mapping[str, Any],
    history: Sequence[str],
    origin: Origin | None,
    console: Console,
) -> Result:
    """Train, log all metrics after the earlier rows ``history``, measure the trained policy, and write the summary."""
    folder.start_metrics(history=history)
    study, sampler, seed, run_id = (manifest[key] for key in ("study", "sampler", "seed", "run_id"))
    identity = RunIdentity(study=study, sampler=sampler, seed=seed, run_id=run_id)
    logger_folder, logged = sweep_folder or folder.path, {**run.config, "choices": manifest["choices"]}
    with (
        run.logger.open(identity, config=logged, folder=logger_folder, resume=origin is not None) as logger,
        LiveProgress(
            label=identity.run_id,
            num_steps=run.num_steps,
            error=best_by(run),
            is_bar=is_bar,
            console=console,
            slow_remedy=_remedy_for_slowness(run),
        ) as live,
    ):

        def log(row: Mapping[str, float]) -> None:
            folder.log(row)
            logger.log(row)
            folder.add_to_summary({"steps" if key == "step" else key: value for key, value in row.items()})

        run.model.to(run.trainer.torch_device())
        split_seed, cache_dir = run.dataset.split_seed, Path(run.dataset.cache_dir)
        readers, augment = with_features(run.model, run.data, run.augment, split_seed=split_seed, cache_dir=cache_dir)
        checkpoint = origin.checkpoint if origin else None
        result = _train(run, readers, augment, folder, log, live, resume_from=checkpoint)
        folder.add_to_summary(results_of(run, result, folder, logger.url))
        if result.stopped_by is not None:  # also at the last step: the final measurements would take a while
            folder.stop(signal_name(result.stopped_by))
        elif result.status == "stopped":
            folder.stop(limit_of(run, manifest))
        else:
            try:
                logger.log_videos(measure_trained(run, readers["val"], report=report, folder=folder, console=console))
            except Exception:
                _log.error("training is done and kept; %s resume=%s measures it again", TRAIN, folder.path)
                raise
            folder.write_summary("done")
        logger.finish(folder.known)
    # Known only after the loggers are closed, so the summary is written a second time.
    if logger.unconfirmed_rows is not None:
        folder.add_to_summary({"wandb/unconfirmed_rows": logger.unconfirmed_rows})
        folder.write_summary(result.status)
    return result


def _remedy_for_slowness(run: Run) -> str | None:
    """Return what would shorten a run on a CPU; None on a GPU."""
    if run.trainer.torch_device().type != "cpu":
        return None
    rows, columns = run.data.image.size
    remedies = [
        f"smaller images (dataset.image_size, now {rows}x{columns})" if max(rows, columns) > 64 else None,
        "model=compact, or model/backbone/tuning=frozen" if run.model.backbone.weights else None,
        f"fewer steps (trainer.steps, now {run.num_steps})",
        f"smaller batches (trainer.batch_size, now {run.trainer.batch_size})",
        "trainer.num_threads, if no other run needs the cores",
        "a GPU",
    ]
    return f"Shorter: {'; '.join(remedy for remedy in remedies if remedy)}."


def _train(
    run: Run,
    readers: Mapping[str, Reader],
    augment: Augment,
    folder: RunFolder,
    log: Callable[[Mapping[str, float]], None],
    live: LiveProgress,
    *,
    resume_from: Path | None,
) -> Result:
    scale = scale_of(run)

    def evaluate(model: Model) -> dict[str, float]:
        measured = run.evaluation.measure(model, readers, scale=scale, split_seed=run.dataset.split_seed)
        check_primary(run, measured)
        return measured

    parts = Parts(
        model=run.model,
        sampler=run.sampler,
        reader=readers["train"],
        augment=augment,
        evaluate=evaluate,
        best_by=scale.error,
        log=log,
        sync_log=folder.sync_metrics,
        show=live.show,
        noise=run.noise,
        checkpoints=folder.checkpoints,
        description=description_of(run).to_json(),
    )
    return train(parts, run.trainer, num_steps=run.num_steps, resume_from=resume_from)
