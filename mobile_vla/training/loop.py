"""The training loop: evaluate, log, save a checkpoint, stop if it is time, draw windows, take a step.

One more round runs after the last step, so that the last evaluation needs no code of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobile_vla.augmentation.pipeline import Augment
from mobile_vla.data.batches import Reader
from mobile_vla.policy.checkpoint_folder import Kind
from mobile_vla.policy.model import Model
from mobile_vla.process.interruption import collected
from mobile_vla.sampling.contract import Sampler, draw_windows
from mobile_vla.schema import Batch, Draw
from mobile_vla.streams import Stream
from mobile_vla.training.checkpoint import Checkpoints
from mobile_vla.training.forward_passes import ForwardPasses
from mobile_vla.training.gradient import Measured, accumulate_gradient, autocast, lower_scale, measure
from mobile_vla.training.non_finite import check_losses, gradient_error
from mobile_vla.training.optimizer import set_learning_rate, trained_parameters
from mobile_vla.training.options import Trainer
from mobile_vla.training.progress import Progress, peak_memory_gib, reset_peak_memory
from mobile_vla.training.state import TrainState


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The objects and functions that the loop uses.

    ``evaluate`` measures the model, and the lowest value of its metric ``best_by`` marks the best checkpoint. ``log``
    takes one flat row; ``show`` displays the same row to the user and is called at every step, with an empty row if
    nothing was logged. ``sync_log`` returns when all rows are on the disk. ``noise`` seeds the random numbers that the
    model draws during training. ``checkpoints`` is the folder of the checkpoints, ``description`` what inference needs
    in addition to the weights.
    """

    model: Model
    sampler: Sampler
    reader: Reader
    augment: Augment
    evaluate: Callable[[Model], dict[str, float]]
    best_by: str
    log: Callable[[Mapping[str, float]], None]
    sync_log: Callable[[], None]
    show: Callable[[int, Mapping[str, float]], None]
    noise: Stream
    checkpoints: Path
    description: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of training: ``done``, or ``stopped`` by ``stop_at_step`` or by the signal ``stopped_by``."""

    progress: Progress
    status: str
    stopped_by: int | None


def train(parts: Parts, trainer: Trainer, *, num_steps: int, resume_from: Path | None) -> Result:
    """Train ``parts.model`` up to ``num_steps`` and return how training ended.

    Everything random is a function of the step, so a run that was stopped and resumed logs the same values as an
    uninterrupted one. SIGINT, SIGTERM and SIGHUP stop after the current step or evaluation, with a checkpoint.
    """
    reset_peak_memory(trainer.torch_device())
    state = TrainState.begin(parts.model, parts.sampler.windows, trainer)
    if resume_from is not None:
        state.load(resume_from)
    resumed_from = resume_from.name if resume_from else None
    checkpoints = Checkpoints(parts.checkpoints, keep=trainer.keep, resumed_from=resumed_from)
    write = partial(state.save, description=parts.description)
    progress = state.progress
    # The name of the stream is part of its numbers: with another one, rho and gradnorm_is would draw other windows.
    passes = ForwardPasses(parts.model, parts.reader, trainer, parts.noise.child("look"))
    passes.num_windows = progress.windows_scored
    with collected() as caught:
        while True:
            is_last = progress.step >= num_steps
            is_stopping = bool(caught) or progress.step == trainer.stop_at_step
            evaluation: dict[str, float] = {}
            # A resumed run has already evaluated and logged the step it starts at.
            if (is_last or progress.step % trainer.eval_every == 0) and progress.evaluated_at != progress.step:
                evaluation = evaluate(state, parts, trainer)
            log(state, parts, trainer, evaluation)
            kinds: list[Kind] = ["best"] if evaluation and progress.is_new_best(evaluation[parts.best_by]) else []
            if evaluation or is_stopping:
                kinds.append("step")
                # Before the checkpoint is written: a run that is resumed from it reads the rows up to its step.
                parts.sync_log()
            for kind in kinds:
                checkpoints.save(kind, progress.step, write, num_bytes=state.num_bytes)
            if is_last or is_stopping:
                break
            take_step(state, parts, trainer, passes=passes, num_steps=num_steps)
    status = "done" if is_last else "stopped"
    return Result(progress=progress, status=status, stopped_by=caught[0] if caught else None)


def evaluate(state: TrainState, parts: Parts, trainer: Trainer) -> dict[str, float]:
    """Return the metrics of the model, the statistics of the windows drawn so far, and the peak memory."""
    with autocast(trainer.precision, state.device):
        measured = parts.evaluate(state.model)
    drawn, windows = state.progress.drawn, parts.sampler.windows
    targets = parts.sampler.probabilities(state.progress.step, state.scores, np.arange(len(windows)))
    sampled = drawn.metrics(targets) | drawn.score_metrics(state.scores)
    return measured | sampled | {"memory/peak_gib": peak_memory_gib(state.device)}


def log(state: TrainState, parts: Parts, trainer: Trainer, evaluation: Mapping[str, float]) -> None:
    """Log a row if there is an ``evaluation``, and every ``log_every`` steps; show it, or an empty row."""
    progress = state.progress
    # Only a boundary resets the training means: an evaluation between two boundaries logs them and leaves them.
    is_boundary = progress.step % trainer.log_every == 0 and progress.step > 0
    row: Mapping[str, float] = {}
    if evaluation or (is_boundary and progress.logged_at != progress.step):
        row = progress.row(evaluation, batch_size=trainer.batch_size)
        parts.log(row)
        if is_boundary:
            progress.sums.reset()
    parts.show(progress.step, row)


def take_step(state: TrainState, parts: Parts, trainer: Trainer, *, passes: ForwardPasses, num_steps: int) -> None:
    """Draw windows, update the weights with them, and add their losses to the scores and the sums."""
    started = time.perf_counter()
    progress, step = state.progress, state.progress.step
    draw = draw_windows(parts.sampler, step, state.scores, passes.at(step))
    batch = parts.reader.gather(draw.ids)
    progress.data_wait_s += time.perf_counter() - started
    batch = parts.augment(batch.to(state.device), step=step)
    progress.learning_rate = trainer.learning_rate_at(step, num_steps=num_steps)
    # Dropout and similar layers draw from torch's global generator. It is seeded by the step, so that a resumed run
    # draws the same numbers.
    torch.manual_seed(parts.noise.integer(step))
    measured = update_weights(state, parts, trainer, batch, draw)
    progress.drawn.add(step, draw, state.scores)
    state.scores.update(step, draw.ids, measured.losses_B)
    progress.sums.add(
        losses_B=measured.losses_B,
        scenario=batch.scenario,
        squared_error=measured.squared_error,
        num_targets=measured.num_targets,
    )
    progress.windows_scored = passes.num_windows
    progress.finish_step(num_windows=len(batch), seconds=time.perf_counter() - started)


def update_weights(state: TrainState, parts: Parts, trainer: Trainer, batch: Batch, draw: Draw) -> Measured:
    """Update the weights with the clipped gradient of ``batch``, at the rate in ``state``; return the measurements.

    If the gradient overflowed in fp16, the weights stay as they are and the loss scale is lowered. Raises
    ``NonFiniteLossError`` if that cannot help, or if a loss is not finite.
    """
    model, optimizer, scaler, progress = state.model, state.optimizer, state.scaler, state.progress
    output = accumulate_gradient(
        model,
        batch,
        draw.weights,
        micro_batch_size=trainer.micro_batch_size,
        precision=trainer.precision,
        scaler=scaler,
    )
    scaler.unscale_(optimizer)  # before clipping, whose limit is meant for the unscaled gradient
    norm = torch.nn.utils.clip_grad_norm_(trained_parameters(optimizer), trainer.clip_grad_norm)
    measured = measure(output, batch, norm)
    check_losses(measured.losses_B, draw, parts.reader.windows, step=progress.step, precision=trainer.precision)
    # Checked here and not left to scaler.step(), which would skip the step without a word and is off in fp32 and bf16.
    if math.isfinite(measured.grad_norm):
        progress.grad_norm = measured.grad_norm
        set_learning_rate(optimizer, progress.learning_rate)
        optimizer.step()
        scaler.update()
    elif lower_scale(scaler):
        progress.skip_step()
    else:
        raise gradient_error(draw, step=progress.step, precision=trainer.precision)
    optimizer.zero_grad(set_to_none=True)
    return measured
