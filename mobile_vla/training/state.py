"""Hold what training changes: the weights, what the optimiser keeps of them, the scores, and where the run stands."""

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
from mobile_vla.training.optimizer import build_optimizer, trained_parameters
from mobile_vla.training.options import Trainer
from mobile_vla.training.precision import gradient_scaler
from mobile_vla.training.progress import Progress


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """All that one step hands to the next, on ``device``; a checkpoint holds all of it but the device."""

    device: torch.device
    model: Model
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    scores: Scores
    progress: Progress

    @classmethod
    def begin(cls, model: Model, windows: WindowTable, trainer: Trainer) -> TrainState:
        """Return the state before step 0; ``model`` moves to the device, and is compiled where that is asked for."""
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
        """Fill the empty checkpoint ``folder``; ``description`` is what inference needs beside the weights."""
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
        """About how many bytes a checkpoint takes: the weights that learn, and what the optimiser keeps of them."""
        parameters = trained_parameters(self.optimizer)
        kept = (value for parameter in parameters for value in self.optimizer.state.get(parameter, {}).values())
        return sum(tensor.nbytes for tensor in (*parameters, *kept) if isinstance(tensor, torch.Tensor))

    def load(self, folder: Path) -> None:
        """Take over what ``save`` wrote; ``UserError`` where it is of another model or of another version."""
        try:
            arrays, values = load_checkpoint(folder, model=self.model, optimizer=self.optimizer)
            self.progress.load(arrays, values)
            self.scaler.load_state_dict(values["scaler"])
            self.scores.load({name: arrays[f"scores/{name}"] for name in self.scores.state()})
        except UserError:
            raise
        except Exception as error:  # whatever torch and safetensors make of it: the digests say that it was written so
            raise UserError(
                f"{folder}: training cannot go on from it ({type(error).__name__}: {error}). Expected a checkpoint of "
                "this run as this version of mobile_vla writes it; start a new run without resume."
            ) from error
