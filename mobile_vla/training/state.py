"""The state that training changes: the weights, the state of the optimiser, the scores, and the progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mobile_vla.errors import UserError
from mobile_vla.policy.model import Model
from mobile_vla.sampling.diagnostics import DrawStatistics
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import WindowTable
from mobile_vla.training.checkpoint import load_checkpoint, write_checkpoint
from mobile_vla.training.gradient import gradient_scaler
from mobile_vla.training.optimizer import build_optimizer, trained_parameters
from mobile_vla.training.options import Trainer
from mobile_vla.training.progress import Progress


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything that one step passes to the next, on ``device``; a checkpoint has all of it except the device."""

    device: torch.device
    model: Model
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    scores: Scores
    progress: Progress

    @classmethod
    def begin(cls, model: Model, windows: WindowTable, trainer: Trainer) -> TrainState:
        """Return the state before step 0; ``model`` is moved to the device, and compiled if ``trainer.compile``."""
        device = trainer.torch_device()
        model.to(device).train()
        if trainer.compile:
            model.compile()
        scaler = gradient_scaler(trainer.precision, device)
        return cls(
            device=device,
            model=model,
            optimizer=build_optimizer(model, trainer),
            scaler=scaler,
            scores=Scores(windows, smoothing=trainer.score_smoothing),
            progress=Progress(drawn=DrawStatistics(windows), skipped_steps=0 if scaler.is_enabled() else None),
        )

    def save(self, folder: Path, *, description: Mapping[str, Any]) -> None:
        """Write a checkpoint into the empty ``folder``; ``description`` is what inference needs besides the weights."""
        scores = {f"scores/{name}": array for name, array in self.scores.state().items()}
        write_checkpoint(
            folder,
            model=self.model,
            optimizer=self.optimizer,
            arrays=scores | self.progress.arrays(),
            values=self.progress.values() | {"scaler": self.scaler.state_dict()},
            description=description,
        )

    @property
    def num_bytes(self) -> int:
        """The approximate size of a checkpoint in bytes: the trained weights and their state in the optimiser."""
        parameters = trained_parameters(self.optimizer)
        kept = (value for parameter in parameters for value in self.optimizer.state.get(parameter, {}).values())
        return sum(tensor.nbytes for tensor in (*parameters, *kept) if isinstance(tensor, torch.Tensor))

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote; raise ``UserError`` if it is of another model or of another version."""
        try:
            arrays, values = load_checkpoint(folder, model=self.model, optimizer=self.optimizer)
            self.progress.load(arrays, values)
            self.scaler.load_state_dict(values["scaler"])
            self.scores.load({name: arrays[f"scores/{name}"] for name in self.scores.state()})
        except UserError:
            raise
        except Exception as error:  # torch and safetensors raise many types; the digests have excluded damaged files
            raise UserError(
                f"{folder}: training cannot go on from it ({type(error).__name__}: {error}). Expected a checkpoint of "
                "this run as this version of mobile_vla writes it; start a new run without resume."
            ) from error
