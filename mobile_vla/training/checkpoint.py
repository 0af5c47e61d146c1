"""Save and load all that resuming and inference need: safetensors for arrays, JSON for the rest, no pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file

from mobile_vla.errors import UserError
from mobile_vla.policy.description import DESCRIPTION_FILE
from mobile_vla.policy.model import Model
from mobile_vla.policy.weights import load_weights, save_weights
from mobile_vla.training.optimizer import trained_parameters


def save_checkpoint(
    folder: Path,
    *,
    model: Model,
    optimizer: torch.optim.Optimizer,
    arrays: Mapping[str, np.ndarray],
    values: Mapping[str, Any],
    description: Mapping[str, Any],
) -> None:
    """Replace ``folder`` by a checkpoint: three safetensors files and two JSON files.

    ``description`` (``policy.json``) is what inference needs beside the weights; ``values`` (``training.json``) and
    ``arrays`` what resuming needs. The folder appears by renames, so a kill leaves the old checkpoint or the new one.
    """
    temporary, old = folder.with_name(f"{folder.name}.partial"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_weights(model, temporary)
    save_file(_flatten_optimizer(optimizer), temporary / "optimizer.safetensors")
    save_numpy({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary / "arrays.safetensors")
    (temporary / "training.json").write_text(json.dumps(values, indent=1) + "\n")
    (temporary / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, *, model: Model, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load model and optimiser in place and return (arrays, values) as they were saved."""
    load_weights(model, folder)
    state: dict[int, dict[str, torch.Tensor | int]] = {}
    for name, tensor in load_file(folder / "optimizer.safetensors").items():
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = int(tensor) if tensor.dtype == torch.int64 else tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return load_numpy(folder / "arrays.safetensors"), json.loads((folder / "training.json").read_text())


def find_last_checkpoint(run: Path) -> Path:
    """Return the ``last`` checkpoint of a run folder; ``UserError`` says what was found instead."""
    folder = run / "checkpoints" / "last"
    # A kill between the two renames leaves the whole previous checkpoint here.
    old = folder.with_name("last.old")
    for candidate in (folder, old):
        if (candidate / "training.json").is_file():
            return candidate
    raise UserError(
        f"resume={run}: holds no checkpoint (expected {folder}). Give the folder of a run that was stopped or is done; "
        "its place was printed when the run ended and stands in its summary.json."
    )


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state of each parameter, by its place; a plain number, as the 8-bit optimiser counts, as int64."""
    return {
        # A copy, as the 8-bit optimiser's parameters share some of their tensors, which safetensors refuses.
        f"{index}/{key}": torch.as_tensor(value).to("cpu", copy=True, memory_format=torch.contiguous_format)
        for index, parameter in enumerate(trained_parameters(optimizer))
        for key, value in optimizer.state.get(parameter, {}).items()
    }
