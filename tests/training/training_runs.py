"""Train a built run with some of its parts replaced, and see what its optimiser is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mobile_vla.run.build import Run
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.training.loop import Parts, Result, train


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """A user's sampler: the same windows every step, with weights of its own."""

    windows: WindowTable
    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def draw(self, step: int, scores: Scores) -> Draw:
        return Draw(ids=np.array(self.ids), weights=np.array(self.weights, np.float32))

    def probabilities(self, step: int, scores: Scores, ids: np.ndarray) -> np.ndarray:
        return np.full(len(ids), 1 / len(self.windows))

    def no_effect_reason(self) -> str | None:
        return None


@dataclass(kw_only=True)
class Watched:
    """What the optimiser was given at each step: gradients by parameter, their overall norm, the rate."""

    gradients: list[list[torch.Tensor]]
    norms: list[float]
    rates: list[float]


@contextmanager
def watched_optimizer() -> Iterator[Watched]:
    seen = Watched(gradients=[], norms=[], rates=[])

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        (group,) = optimizer.param_groups
        gradients = [parameter.grad.clone() for parameter in group["params"]]
        seen.gradients.append(gradients)
        seen.norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))
        seen.rates.append(group["lr"])

    hook = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


def train_run(
    run: Run, folder: Path, *, resume_from: Path | None = None, **parts: object
) -> tuple[Result, list[Mapping[str, float]]]:
    """Train ``run`` with some of its parts replaced; return how it ended and what it logged."""
    rows: list[Mapping[str, float]] = []
    defaults = Parts(
        model=run.model,
        sampler=run.sampler,
        reader=run.data.readers["train"],
        augment=run.augment,
        evaluate=lambda _: {"val/rmse": 1.0},
        best_by="val/rmse",
        log=rows.append,
        sync_log=lambda: None,
        show=lambda step, row: None,
        noise=run.noise,
        checkpoints=folder,
        description={},
    )
    return train(replace(defaults, **parts), run.trainer, num_steps=run.num_steps, resume_from=resume_from), rows
