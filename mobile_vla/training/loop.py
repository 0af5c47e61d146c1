"""Train: evaluate, log, checkpoint, stop?, draw, step; one more round makes the last evaluation an ordinary one."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.augmentation.pipeline import Augment
from mobile_vla.data.batches import Reader
from mobile_vla.errors import UserError
from mobile_vla.policy.model import Model
from mobile_vla.sampling.contract import Sampler
from mobile_vla.sampling.diagnostics import DrawStatistics
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw
from mobile_vla.streams import Stream
from mobile_vla.training.checkpoint import load_checkpoint, save_checkpoint
from mobile_vla.training.forward_passes import ForwardPasses
from mobile_vla.training.gradient import accumulate_gradient, measure
from mobile_vla.training.memory import peak_memory_gib, reset_peak_memory
from mobile_vla.training.optimizer import build_optimizer, set_learning_rate, trained_parameters
from mobile_vla.training.options import Trainer
from mobile_vla.training.precision import autocast, gradient_scaler, lower_scale
from mobile_vla.training.progress import Progress

_STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite; the optimiser has not stepped on it."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loop works with.

    ``evaluate`` measures the model, ``log`` takes one flat row, ``show`` the same row for the person watching (every
    step, an empty row where nothing was logged). ``noise`` seeds what the model itself draws while it trains.
    ``description`` is what inference needs beside the weights.
    """

    model: Model
    sampler: Sampler
    reader: Reader
    augment: Augment
    evaluate: Callable[[Model], dict[str, float]]
    log: Callable[[Mapping[str, float]], None]
    show: Callable[[int, Mapping[str, float]], None]
    noise: Stream
    checkpoints: Path
    description: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How training ended: ``done``, or ``stopped`` by ``stop_at_step`` or by the signal ``stopped_by``."""

    progress: Progress
    status: str
    stopped_by: int | None


def train(parts: Parts, trainer: Trainer, *, num_steps: int, resume_from: Path | None) -> Result:
    """Train ``parts.model`` up to ``num_steps`` and say how it ended.

    Everything random is a function of the step, so a run that was stopped and resumed logs what an uninterrupted one
    logs. SIGINT and SIGTERM stop after the step in hand, with a checkpoint.
    """
    device = trainer.torch_device()
    reset_peak_memory(device)
    model, sampler = parts.model.to(device).train(), parts.sampler
    if trainer.compile:
        model.compile()
    optimizer = build_optimizer(model, trainer)
    scaler = gradient_scaler(trainer.precision, device)
    scores = Scores(sampler.windows, smoothing=trainer.score_smoothing)
    forward_passes = ForwardPasses(model, parts.reader, trainer, parts.noise.child("look"))
    progress = Progress(drawn=DrawStatistics(sampler.windows), skipped_steps=0 if scaler.is_enabled() else None)
    if resume_from is not None:
        arrays, values = load_checkpoint(resume_from, model=model, optimizer=optimizer)
        progress.load(arrays, values)
        scaler.load_state_dict(values["scaler"])
        scores.load({name: arrays[f"scores/{name}"] for name in scores.state()})
        forward_passes.num_windows = progress.windows_scored

    def save(name: str) -> None:
        save_checkpoint(
            parts.checkpoints / name,
            model=model,
            optimizer=optimizer,
            arrays={f"scores/{key}": array for key, array in scores.state().items()} | progress.arrays(),
            values=progress.values() | {"scaler": scaler.state_dict()},
            description=parts.description,
        )

    with caught_signals() as caught:
        while True:
            step = progress.step
            is_last = step >= num_steps
            is_stopping = bool(caught) or step == trainer.stop_at_step
            is_boundary = step % trainer.log_every == 0 and step > 0
            evaluation: dict[str, float] = {}
            # A resumed run has already evaluated and logged the step it starts at.
            if (is_last or step % trainer.eval_every == 0) and progress.evaluated_at != step:
                with autocast(trainer.precision, device):
                    evaluation = parts.evaluate(model)
                targets = sampler.probabilities(step, scores, np.arange(len(sampler.windows)))
                evaluation |= progress.drawn.metrics(targets) | progress.drawn.score_metrics(scores)
                evaluation |= {"memory/peak_gib": peak_memory_gib(device)}
            row: Mapping[str, float] = {}
            if evaluation or (is_boundary and progress.logged_at != step):
                row = progress.row(evaluation, batch_size=trainer.batch_size)
                parts.log(row)
                if is_boundary:
                    progress.sums.reset()
            parts.show(step, row)
            if evaluation and progress.is_new_best(evaluation):
                save("best")
            if evaluation or is_stopping:
                save("last")
            if is_last or is_stopping:
                break

            started = time.perf_counter()
            draw = sampler.draw(step, scores, forward_passes.at(step))
            batch = parts.reader.gather(draw.ids)
            progress.data_wait_s += time.perf_counter() - started
            batch = parts.augment(batch.to(device), step=step)
            progress.learning_rate = trainer.learning_rate_at(step, num_steps=num_steps)
            # Dropout and the like draw from torch's own generator: it stands where the step says.
            torch.manual_seed(parts.noise.integer(step))
            answer = accumulate_gradient(
                model,
                batch,
                draw.weights,
                micro_batch_size=trainer.micro_batch_size,
                precision=trainer.precision,
                scaler=scaler,
            )
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(trained_parameters(optimizer), trainer.clip_grad_norm)
            measured = measure(answer, batch, norm)
            check_losses(measured.losses_B, draw, parts.reader, step)
            if math.isfinite(measured.grad_norm):
                progress.grad_norm = measured.grad_norm
                set_learning_rate(optimizer, progress.learning_rate)
                optimizer.step()
                scaler.update()
            elif lower_scale(scaler):
                progress.skip_step()
            else:
                raise NonFiniteLossError(f"step {step}: the loss is finite, its gradient is not. {_advice(draw)}")
            optimizer.zero_grad(set_to_none=True)
            progress.drawn.add(step, draw, scores)
            scores.update(step, draw.ids, measured.losses_B)
            progress.sums.add(
                losses_B=measured.losses_B,
                scenario=batch.scenario,
                squared_error=measured.squared_error,
                num_targets=measured.num_targets,
            )
            progress.windows_scored = forward_passes.num_windows
            progress.finish_step(num_windows=len(batch), seconds=time.perf_counter() - started)
    status = "done" if is_last else "stopped"
    return Result(progress=progress, status=status, stopped_by=caught[0] if caught else None)


def check_losses(losses_B: NDArray[np.float32], draw: Draw, reader: Reader, step: int) -> None:
    """Raise ``NonFiniteLossError``, naming the windows whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses_B))
    if not len(bad):
        return
    table = reader.windows
    ids = draw.ids[bad]
    named = [f"{i} ({table.episode_names[table.episode[i]]} from frame {table.start[i]})" for i in ids[:8].tolist()]
    raise NonFiniteLossError(
        f"step {step}: the loss is not finite for {len(bad)} of {len(losses_B)} windows: {', '.join(named)}. "
        f"{_advice(draw)}"
    )


def _advice(draw: Draw) -> str:
    return (
        f"Window ids of the batch: {draw.ids.tolist()}. Lower trainer.learning_rate, look at these windows, or use "
        "trainer.precision=bf16 in place of fp16."
    )


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying of them."""
    caught: list[int] = []
    previous = {number: signal.signal(number, lambda n, _: caught.append(n)) for number in _STOPPING_SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
