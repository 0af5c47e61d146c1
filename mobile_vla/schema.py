"""The plain data classes that the package's modules exchange.

Shape legend, used as suffixes of array and tensor names:

    N windows       B windows of a batch    E episodes      S scenarios, or signals of the state
    T history frames (``window_size``)      K predicted actions (``fwd_pred_next_n``)
    A action dimensions                     V cameras (views)
    C Y X image channels (RGB), rows, columns

History frame i of a window predicts actions i .. i+K-1, including the action of frame i itself, so a window covers T
frames and T+K-1 actions. The *current* frame is the last history frame: the one that a robot would see now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

NUM_PHASES = 10
"""Number of equal bins of episode progress; metrics per phase are reported for each bin."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recorded episode without its images.

    ``actions`` [num_frames, A] and ``state`` [num_frames, S] are float32, with the columns and units of the data set's
    ``Spec``: the signals that are predicted, and those that the policy sees. ``fields`` are the named groups of the
    file-name grammar, and texts that the format stores; the field ``task`` names what the instruction asks for in a
    data set with several tasks. ``scenario`` is the group of that name, or ``unknown``. ``instruction_source`` is where
    the instruction comes from (``file``, ``attribute``, ``template`` or ``constant``), and ``instruction_place`` where
    exactly, for people: a kind of place, then its name. ``similar_names`` are keys, attributes and topics of the
    recording whose names suggest an instruction and that were not read. ``image_sizes`` are the recorded
    rows and columns of each camera of the spec.
    """

    name: str
    path: Path
    num_frames: int
    actions: NDArray[np.float32]
    state: NDArray[np.float32]
    instruction: str
    instruction_source: str = "file"
    instruction_place: str = ""
    similar_names: tuple[str, ...] = ()
    scenario: str
    fields: Mapping[str, str] = field(default_factory=dict)
    image_sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class WindowTable:
    """All windows of one part of the split: integer columns, one row per window. The only data that samplers see.

    ``start`` is the frame of the first history position and is negative where history is missing; ``progress`` is the
    position of the current frame in its episode, in thousandths (0..1000); ``pad_start`` and ``pad_end`` count the
    missing frames and actions. ``episode``, ``scenario`` and ``task`` index ``episode_names``, ``scenario_names`` and
    ``task_names``. ``window_size`` is the number of history frames of every window.
    """

    # int16 and int32 keep a table of millions of windows small: 18 bytes per window.

    episode: NDArray[np.int32]
    start: NDArray[np.int32]
    progress: NDArray[np.int16]
    scenario: NDArray[np.int16]
    task: NDArray[np.int16]
    pad_start: NDArray[np.int16]
    pad_end: NDArray[np.int16]
    episode_names: tuple[str, ...]
    scenario_names: tuple[str, ...]
    task_names: tuple[str, ...]
    window_size: int

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def frame(self) -> NDArray[np.int32]:
        """Current frame of each window [N], 0-based in its episode."""
        return self.start + np.int32(self.window_size - 1)

    @property
    def phase(self) -> NDArray[np.int16]:
        """Bin of episode progress, 0 .. NUM_PHASES-1."""
        return np.minimum(self.progress * NUM_PHASES // 1000, NUM_PHASES - 1).astype(np.int16)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A sampler's result for one step: ``ids`` [B], rows of the window table, and ``weights`` [B] for the loss."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def unweighted(cls, ids: NDArray[np.int64]) -> Draw:
        """Return a draw of ``ids`` in which every window has the loss weight 1."""
        return cls(ids=ids.astype(np.int64), weights=np.ones(len(ids), np.float32))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The input of a policy: B windows, on one device.

    ``images_BTVCYX`` is uint8, or float in [0, 1] after augmentation; frames that do not exist are zero and False in
    ``history_BT``. The cameras are in the order of ``Spec.cameras``. ``state_BTS`` is float32 in the units of the
    signals of ``Spec.state``, and zero at frames that do not exist; S is 0 for a policy without state.
    ``actions_BTKA`` are in physical units; ``mask_BTK`` is False where the history frame or the action does not exist.
    ``instruction`` and ``scenario`` hold B texts. ``features_BTD`` are the precomputed features of a frozen backbone
    for these images and instructions, whatever the state is, or None; code that changes an image or an instruction
    must set them to None.
    """

    images_BTVCYX: torch.Tensor
    history_BT: torch.Tensor
    state_BTS: torch.Tensor
    actions_BTKA: torch.Tensor
    mask_BTK: torch.Tensor
    instruction: tuple[str, ...]
    scenario: tuple[str, ...]
    window_ids: NDArray[np.int64]
    features_BTD: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.window_ids)

    def rows(self, first: int, last: int) -> Batch:
        """Return the windows ``first`` .. ``last`` - 1 as a separate batch; its tensors are views of this batch's."""
        columns = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return replace(self, **{name: column[first:last] for name, column in columns.items() if column is not None})

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on ``device``; a tensor that is already there is not copied."""
        return replace(
            self,
            images_BTVCYX=self.images_BTVCYX.to(device, non_blocking=True),
            history_BT=self.history_BT.to(device, non_blocking=True),
            state_BTS=self.state_BTS.to(device, non_blocking=True),
            actions_BTKA=self.actions_BTKA.to(device, non_blocking=True),
            mask_BTK=self.mask_BTK.to(device, non_blocking=True),
            features_BTD=None if self.features_BTD is None else self.features_BTD.to(device, non_blocking=True),
        )
