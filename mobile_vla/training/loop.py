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

from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.data.batches import WindowReader
from mobile_vla.errors import UserError
from mobile_vla.policy.model import Answer, Model
from mobile_vla.sampling.contract import Sampler
from mobile_vla.sampling.diagnostics import DrawStatistics
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Batch, Draw
from mobile_vla.streams import Stream
from mobile_vla.training.checkpoint import load_checkpoint, save_checkpoint
from mobile_vla.training.options import Trainer
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
    reader: WindowReader
    augment: Pipeline
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
    model, sampler = parts.model.to(device).train(), parts.sampler
    optimizer = torch.optim.AdamW(model.parameters(), lr=trainer.learning_rate, weight_decay=trainer.weight_decay)
    scores = Scores(len(sampler.windows), smoothing=trainer.score_smoothing)
    progress = Progress(drawn=DrawStatistics(sampler.windows))
    if resume_from is not None:
        arrays, values = load_checkpoint(resume_from, model=model, optimizer=optimizer)
        progress.load(arrays, values)
        scores.load({name: arrays[f"scores/{name}"] for name in scores.state()})

    def save(name: str) -> None:
        save_checkpoint(
            parts.checkpoints / name,
            model=model,
            optimizer=optimizer,
            arrays={f"scores/{key}": array for key, array in scores.state().items()} | progress.arrays(),
            values=progress.values(),
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
                evaluation = parts.evaluate(model) | progress.drawn.metrics(sampler.probabilities(scores))
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
            draw = sampler.draw(step, scores)
            batch = parts.reader.gather(draw.ids)
            progress.data_wait_s += time.perf_counter() - started
            batch = parts.augment(batch.to(device), step=step)
            progress.learning_rate = trainer.learning_rate_at(step, num_steps=num_steps)
            # Dropout and the like draw from torch's own generator: it stands where the step says.
            torch.manual_seed(parts.noise.integer(step))
            answer = model(batch)
            losses_B = finite_losses(answer, draw, parts.reader, step)
            (answer.loss_B * torch.from_numpy(draw.weights).to(device)).mean().backward()
            progress.grad_norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.clip_grad_norm))
            if not math.isfinite(progress.grad_norm):
                raise NonFiniteLossError(f"step {step}: the loss is finite, its gradient is not. {_advice(draw)}")
            for group in optimizer.param_groups:
                group["lr"] = progress.learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.drawn.add(step, draw, scores)
            scores.update(step, draw.ids, losses_B)
            squared_error, num_targets = current_squared_error(answer, batch)
            progress.sums.add(
                losses_B=losses_B, scenario=batch.scenario, squared_error=squared_error, num_targets=num_targets
            )
            progress.step += 1
    status = "done" if is_last else "stopped"
    return Result(progress=progress, status=status, stopped_by=caught[0] if caught else None)


def finite_losses(answer: Answer, draw: Draw, reader: WindowReader, step: int) -> NDArray[np.float32]:
    """Return the losses [B] on the CPU; ``NonFiniteLossError`` names the windows whose loss is not finite."""
    losses_B = answer.loss_B.detach().float().cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(losses_B))
    if not len(bad):
        return losses_B
    table = reader.windows
    ids = draw.ids[bad]
    named = [f"{i} ({table.episode_names[table.episode[i]]} from frame {table.start[i]})" for i in ids[:8].tolist()]
    raise NonFiniteLossError(
        f"step {step}: the loss is not finite for {len(bad)} of {len(losses_B)} windows: {', '.join(named)}. "
        f"{_advice(draw)}"
    )


def _advice(draw: Draw) -> str:
    return f"Window ids of the batch: {draw.ids.tolist()}. Lower trainer.learning_rate or look at these windows."


def current_squared_error(answer: Answer, batch: Batch) -> tuple[float, int]:
    """Return (sum of squared errors, number of targets) at the current frames of a batch, physical units."""
    mask_BK1 = batch.mask_BTK[:, -1, :, None]
    squared_BKA = (answer.actions_BKA.detach() - batch.actions_BTKA[:, -1]).square() * mask_BK1
    return float(squared_BKA.sum()), int(mask_BK1.sum()) * squared_BKA.shape[-1]


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
