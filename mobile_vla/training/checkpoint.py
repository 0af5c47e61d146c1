"""Checkpoints with all that resuming and inference need: safetensors for arrays, JSON for the rest, no pickle.

Loading a pickle can run any code, and users exchange checkpoints.
"""

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
from mobile_vla.storage.disk import remove
from mobile_vla.storage.disk_sync import sync_folder
from mobile_vla.training.optimizer import trained_parameters
from mobile_vla.untrusted.files import inside, open_regular, read_json

_PARTIAL = ".partial"
_REMOVED = ".removed"

_log = logging.getLogger(__name__)


class Checkpoints:
    """The writer of one run's checkpoints in ``folder``, one subfolder each; it also removes the superseded ones.

    The newest ``keep`` by step stay, and the best one. Once the run has a whole checkpoint, it has one at every moment:
    a new one gets its name by one rename after it is on the disk, and others are removed only after that.
    """

    def __init__(self, folder: Path, *, keep: int, resumed_from: str | None) -> None:
        """Keep existing checkpoints up to the one named ``resumed_from``; the first save removes or replaces others."""
        self._folder = folder
        self._keep = keep
        names = [entry.path.name for entry in entries_of(folder)]
        # ``entries_of`` lists the newest first, and a run resumes from the newest whole one: all newer ones are
        # damaged. A run that is not resumed has no checkpoints of its own, so all of them are stale.
        self._stale = set(takewhile(lambda name: name != resumed_from, names))

    def save(self, kind: Kind, step: int, write: Callable[[Path], None], *, num_bytes: int) -> None:
        """Call ``write`` to fill a new checkpoint of ``step``, about ``num_bytes``; do nothing if the run has it.

        Raises ``UserError`` if it cannot be written; the earlier checkpoints are then unchanged.
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
    """Call ``write`` to fill a folder, seal it, and rename it to ``target`` once it is on the disk.

    An existing ``target`` is replaced. Raises ``UserError`` if the disk is full or cannot be written to; the message
    has the needed ``num_bytes`` and the free ones.
    """
    partial = target.with_name(f"{target.name}{_PARTIAL}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in target.parent.iterdir():
            if path.suffix in (_PARTIAL, _REMOVED):  # half written or half removed by a process that was killed
                _delete(path)
        partial.mkdir()
        write(partial)
        seal(partial)
        # Renamed now and deleted last: deleting takes time, and ``target`` is missing only between the two renames.
        replaced = _renamed_to_remove(target) if os.path.lexists(target) else None
        partial.rename(target)
        sync_folder(target.parent)  # a rename is on the disk only after its folder was synced
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
        "are free there. The earlier checkpoints are unchanged: remove the cause (make room, permit writing), and "
        "continue with resume=RUN."
    )


def copy_checkpoint(origin: Path, target: Path) -> None:
    """Copy the sealed files of ``origin``, and no others, as the new checkpoint ``target``."""
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

    ``description`` (``policy.json``) is what inference needs in addition to the weights; ``values``
    (``training.json``) and ``arrays`` are what resuming needs.
    """
    save_weights(model, folder)
    save_file(_flatten_optimizer(optimizer), folder / OPTIMIZER_FILE)
    save_numpy({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / ARRAYS_FILE)
    (folder / TRAINING_FILE).write_text(json.dumps(values, indent=1) + "\n")
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n")


def load_checkpoint(
    folder: Path, *, model: Model, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load the state of model and optimiser in place, and return (arrays, values) as they were saved."""
    load_weights(model, folder)
    state: dict[int, dict[str, torch.Tensor | int]] = {}
    for name, tensor in load_file(folder / OPTIMIZER_FILE).items():
        # Names and the case of int64 as in ``_flatten_optimizer``. The groups' options come from the config.
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = int(tensor) if tensor.dtype == torch.int64 else tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return load_numpy(folder / ARRAYS_FILE), read_json(folder / TRAINING_FILE)


def _renamed_to_remove(path: Path) -> Path:
    """Rename a checkpoint before its files are deleted, so that half a checkpoint never has a valid name."""
    return path.rename(path.with_name(f"{path.name}{_REMOVED}"))


def _delete(path: Path) -> None:
    try:
        remove(path)
    except OSError as error:  # for example a file on NFS that another process has open: no reason to stop training
        _log.warning("%s: cannot be removed (%s); it is tried again with the next checkpoint", path, error)


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as flat tensors, named by the parameter's index and the key of its state.

    A plain integer, such as the step counter of the 8-bit optimiser, becomes an int64 tensor.
    """
    return {
        # A copy: the parameters of the 8-bit optimiser share some tensors, and safetensors refuses shared memory.
        f"{index}/{key}": torch.as_tensor(value).to("cpu", copy=True, memory_format=torch.contiguous_format)
        for index, parameter in enumerate(trained_parameters(optimizer))
        for key, value in optimizer.state.get(parameter, {}).items()
    }
