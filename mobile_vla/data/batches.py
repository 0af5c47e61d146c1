"""Batches of windows, gathered with one copy from the frame store and without decoding."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.data.frames import FrameStore
from mobile_vla.schema import Batch, Episode, WindowTable


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The targets of the N windows of a table, from the current frame on.

    ``actions_NKA`` are in physical units, zero where ``mask_NK`` is False; ``frame_NK`` are their frames in the
    episode. ``previous_NA`` is the action before the current frame (zero, which is standing still, at the first frame);
    ``next_NA`` is the action after the last target (the last action of the episode where there is none).
    """

    actions_NKA: NDArray[np.float32]
    mask_NK: NDArray[np.bool_]
    frame_NK: NDArray[np.int64]
    previous_NA: NDArray[np.float32]
    next_NA: NDArray[np.float32]


class Reader(Protocol):
    """A reader of the windows of one table; its results are pure functions of the window ids."""

    windows: WindowTable

    def gather(self, ids: NDArray[np.int64]) -> Batch:
        """Return the windows ``ids`` [B] as one batch on the CPU; missing frames and actions are zero and masked."""
        ...

    def targets(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the physical actions [B, T, K, A] that the windows ``ids`` predict, and their mask [B, T, K]."""
        ...

    def current_targets(self) -> Targets:
        """Return the targets of every window of the table, from its current frame on."""
        ...


class _ImageMemory:
    """A pool of arrays for images, whose memory is reused once nothing refers to it.

    Measured: new memory pages cost more time than the copy of the pixels.
    """

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def lend(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array of ``shape`` with undefined content that shares no memory with an array or tensor in use."""
        memory = self._free.pop() if self._free else None
        if memory is None or memory.shape != shape:
            memory = np.empty(shape, np.uint8)
        # numpy views refer to the array that owns the memory, so views of a plain slice would keep `memory` alive and
        # not `lent`, and the finalizer would run too early. With a memoryview in between, every view or tensor made
        # from `lent` keeps `lent` alive.
        lent = np.asarray(memory.data)
        weakref.finalize(lent, self._free.append, memory)
        return lent


class WindowReader:
    """The reader of the windows of one table: ``gather(ids)`` is a pure function of the ids.

    It keeps all actions and states of its episodes in memory; the frames stay memory-mapped. ``camera_names`` are in
    the order of the images.
    """

    def __init__(
        self,
        *,
        windows: WindowTable,
        episodes: Mapping[str, Episode],
        frames: FrameStore,
        window_size: int,
        fwd_pred_next_n: int,
    ) -> None:
        self.windows = windows
        self.camera_names = tuple(frames.cameras)
        self._frames = list(frames.cameras.values())
        self._image_memory = _ImageMemory()
        self._num_history = window_size
        self._num_actions = fwd_pred_next_n
        listed = [episodes[name] for name in windows.episode_names]
        self._instructions = [e.instruction for e in listed]
        self._first_row = np.array([frames.first_row[e.name] for e in listed], np.int64)
        self._lengths = np.array([e.num_frames for e in listed], np.int64)
        self._first_action = np.cumsum(self._lengths) - self._lengths
        self._actions_FA = np.concatenate([e.actions for e in listed])
        self._state_FS = np.concatenate([e.state for e in listed])

    def gather(self, ids: NDArray[np.int64], *, with_images: bool = True) -> Batch:
        """Return the windows ``ids`` [B] as one batch on the CPU; missing frames and actions are zero and masked.

        With ``with_images`` False the images are empty, [B, T, V, 3, 0, 0].
        """
        rows_BT, history_BT = self.frame_rows(ids)
        actions_BTKA, mask_BTK = self.targets(ids)
        return Batch(
            images_BTVCYX=self._images(rows_BT, history_BT)
            if with_images
            else torch.empty(*rows_BT.shape, len(self._frames), 3, 0, 0),
            history_BT=torch.from_numpy(history_BT),
            state_BTS=torch.from_numpy(self._states(ids, rows_BT, history_BT)),
            actions_BTKA=torch.from_numpy(actions_BTKA),
            mask_BTK=torch.from_numpy(mask_BTK),
            instruction=tuple(self._instructions[e] for e in self.windows.episode[ids]),
            scenario=tuple(self.windows.scenario_names[s] for s in self.windows.scenario[ids]),
            window_ids=ids,
        )

    def frame_rows(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows of the frame store for the history of the windows ``ids`` [B, T], and which frames exist.

        A frame before the episode begins gets the row of the episode's first frame.
        """
        episode = self.windows.episode[ids]
        length = self._lengths[episode][:, None]
        history = self.windows.start[ids][:, None].astype(np.int64) + np.arange(self._num_history)
        rows_BT = self._first_row[episode][:, None] + np.clip(history, 0, length - 1)
        return rows_BT, (history >= 0) & (history < length)

    def _images(self, rows_BT: NDArray[np.int64], history_BT: NDArray[np.bool_]) -> torch.Tensor:
        images_VBTYXC = self._image_memory.lend((len(self._frames), *rows_BT.shape, *self._frames[0].shape[1:]))
        for frames_FYXC, images_BTYXC in zip(self._frames, images_VBTYXC, strict=True):
            # All rows exist. With mode="raise", numpy would write to a temporary buffer first when `out` is given.
            np.take(frames_FYXC, rows_BT, axis=0, out=images_BTYXC, mode="clip")
        if not history_BT.all():
            images_VBTYXC[:, ~history_BT] = 0
        # A view: the pixels stay channels-last in memory, which is also the fastest layout for convolutions, and the
        # images of a camera stay together, so that a network of its own gets them without a copy.
        return torch.from_numpy(images_VBTYXC).permute(1, 2, 0, 5, 3, 4)

    def _states(
        self, ids: NDArray[np.int64], rows_BT: NDArray[np.int64], history_BT: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        # The frame store may hold more episodes, and in another order, than this reader.
        episode = self.windows.episode[ids]
        state_BTS = self._state_FS[rows_BT + (self._first_action - self._first_row)[episode][:, None]]
        state_BTS[~history_BT] = 0
        return state_BTS

    def targets(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the physical actions [B, T, K, A] that the windows ``ids`` predict, and their mask [B, T, K]."""
        episode = self.windows.episode[ids]
        length = self._lengths[episode][:, None, None]
        history = self.windows.start[ids][:, None, None].astype(np.int64) + np.arange(self._num_history)[:, None]
        action = history + np.arange(self._num_actions)
        mask_BTK = (history >= 0) & (action < length)
        rows = self._first_action[episode][:, None, None] + np.clip(action, 0, length - 1)
        actions_BTKA = self._actions_FA[rows]
        actions_BTKA[~mask_BTK] = 0
        return actions_BTKA, mask_BTK

    def chunks(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the physical actions [B, K, A] from the current frame on, zero where their mask [B, K] is False."""
        actions_BTKA, mask_BTK = self.targets(ids)
        return actions_BTKA[:, -1], mask_BTK[:, -1]

    def current_targets(self) -> Targets:
        """Return the targets of every window of the table, from its current frame on."""
        length = self._lengths[self.windows.episode][:, None]
        current = self.windows.start[:, None].astype(np.int64) + self._num_history - 1
        frame_NK = current + np.arange(self._num_actions)
        mask_NK = frame_NK < length
        first = self._first_action[self.windows.episode]
        rows = first[:, None] + np.minimum(frame_NK, length - 1)
        before = first + np.maximum(current[:, 0] - 1, 0)
        after = first + np.minimum(current[:, 0] + self._num_actions, length[:, 0] - 1)
        return Targets(
            actions_NKA=self._actions_FA[rows] * mask_NK[..., None],
            mask_NK=mask_NK,
            frame_NK=frame_NK,
            previous_NA=np.where(current > 0, self._actions_FA[before], 0),
            next_NA=self._actions_FA[after],
        )
