"""Save and load all that resuming and inference need: safetensors for arrays, JSON for the rest, no pickle."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file

from mobile_vla.disk import remove
from mobile_vla.disk_sync import sync_folder
from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import (
    ARRAYS_FILE,
    OPTIMIZER_FILE,
    TRAINING_FILE,
    Kind,
    checkpoint_name,
    entries_of,
)
from mobile_vla.policy.description import DESCRIPTION_FILE
from mobile_vla.policy.digests import read_digests, seal
from mobile_vla.policy.model import Model
from mobile_vla.policy.weights import load_weights, save_weights
from mobile_vla.training.optimizer import trained_parameters
from mobile_vla.untrusted.files import inside, open_regular, read_json

_PARTIAL = ".partial"
_REMOVED = ".removed"

_log = logging.getLogger(__name__)


class Checkpoints:
    """Write the checkpoints of one run into ``folder``, each a folder of its own, and remove what they supersede.

    The newest ``keep`` by step stay, and the best one. Once there is a whole one, there is one at every moment: a new
    one appears by one rename when it is on the disk, and only then are others removed.
    """

    def __init__(self, folder: Path, *, keep: int, resumed_from: str | None) -> None:
        """Begin with those up to the one named ``resumed_from``; the first save removes or replaces all others."""
        self._folder = folder
        self._keep = keep
        names = [entry.path.name for entry in entries_of(folder)]
        # A run goes on from the newest whole one: what is newer is damaged. One that does not go on has none here.
        self._stale = set(takewhile(lambda name: name != resumed_from, names))

    def save(self, kind: Kind, step: int, write: Callable[[Path], None], *, num_bytes: int) -> None:
        """Let ``write`` fill the new checkpoint of ``step``, about ``num_bytes``; not where the run has it already.

        ``UserError`` where it cannot be written: those of before then stand as they did.
        """
        target = self._folder / checkpoint_name(kind, step)
        if target.exists() and target.name not in self._stale:
            return
        place(target, write, num_bytes=num_bytes)
        self._stale.discard(target.name)
        self._remove_superseded()

    def _remove_superseded(self) -> None:
        entries = entries_of(self._folder)
        ours = [entry for entry in entries if entry.path.name not in self._stale]
        kept = [entry.path for entry in ours if entry.kind == "step"][: self._keep]
        kept += [entry.path for entry in ours if entry.kind == "best"][:1]
        for entry in entries:
            if entry.path not in kept:
                _delete(_renamed_to_remove(entry.path))
        self._stale.clear()


def place(target: Path, write: Callable[[Path], None], *, num_bytes: int) -> None:
    """Let ``write`` fill a folder, seal it, and rename it to ``target`` once it is on the disk.

    What stands at ``target`` is replaced. ``UserError`` where the disk is full or cannot be written to, with the
    ``num_bytes`` that it takes and what is free.
    """
    partial = target.with_name(f"{target.name}{_PARTIAL}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in target.parent.iterdir():
            if path.suffix in (_PARTIAL, _REMOVED):  # what a kill left half written or half removed
                _delete(path)
        partial.mkdir()
        write(partial)
        seal(partial)
        replaced = _renamed_to_remove(target) if os.path.lexists(target) else None
        partial.rename(target)
        sync_folder(target.parent)
        if replaced is not None:
            _delete(replaced)
    except (OSError, SafetensorError) as error:
        raise _unwritten(target, num_bytes, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unwritten(target: Path, num_bytes: int, error: Exception) -> UserError:
    free = shutil.disk_usage(next(path for path in target.parents if path.is_dir())).free
    return UserError(
        f"{target}: the checkpoint cannot be written: {error}. It takes about {num_bytes:,} bytes, and {free:,} bytes "
        "are free there. The checkpoints of before are as they were: mend what it says (make room, permit writing), "
        "and go on with resume=RUN."
    )


def copy_checkpoint(origin: Path, target: Path) -> None:
    """Copy the files that ``origin`` is sealed with, and nothing else, as the new checkpoint ``target``."""
    names = list(read_digests(origin))

    def write(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open_regular(inside(origin, name)) as source, (folder / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)

    place(target, write, num_bytes=sum(inside(origin, name).stat().st_size for name in names))


def write_checkpoint(
    folder: Path,
    *,
    model: Model,
    optimizer: torch.optim.Optimizer,
    arrays: Mapping[str, np.ndarray],
    values: Mapping[str, Any],
    description: Mapping[str, Any],
) -> None:
    """Write a checkpoint into the empty ``folder``: three safetensors files and two JSON files.

    ``description`` (``policy.json``) is what inference needs beside the weights; ``values`` (``training.json``) and
    ``arrays`` what resuming needs.
    """
    save_weights(model, folder)
    save_file(_flatten_optimizer(optimizer), folder / OPTIMIZER_FILE)
    save_numpy({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / ARRAYS_FILE)
    (folder / TRAINING_FILE).write_text(json.dumps(values, indent=1) + "\n")
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n")


def load_checkpoint(
    folder: Path, *, model: Model, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load model and optimiser in place and return (arrays, values) as they were saved."""
    load_weights(model, folder)
    state: dict[int, dict[str, torch.Tensor | int]] = {}
    for name, tensor in load_file(folder / OPTIMIZER_FILE).items():
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = int(tensor) if tensor.dtype == torch.int64 else tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return load_numpy(folder / ARRAYS_FILE), read_json(folder / TRAINING_FILE)


def _renamed_to_remove(path: Path) -> Path:
    """Return the new path of a checkpoint that goes: it is none by its name before its first file is removed."""
    return path.rename(path.with_name(f"{path.name}{_REMOVED}"))


def _delete(path: Path) -> None:
    try:
        remove(path)
    except OSError as error:  # such as a file that is still open elsewhere, on NFS: no reason to stop training
        _log.warning("%s: cannot be removed (%s); the next checkpoint tries it again", path, error)


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state of each parameter, by its place; a plain number, as the 8-bit optimiser counts, as int64."""
    return {
        # A copy, as the 8-bit optimiser's parameters share some of their tensors, which safetensors refuses.
        f"{index}/{key}": torch.as_tensor(value).to("cpu", copy=True, memory_format=torch.contiguous_format)
        for index, parameter in enumerate(trained_parameters(optimizer))
        for key, value in optimizer.state.get(parameter, {}).items()
    }
