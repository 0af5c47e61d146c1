"""A gathered batch is what reading its windows frame by frame gives, and stays so while later ones are gathered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.frames import FrameStore
from mobile_vla.data.windows import Padding, build_windows
from mobile_vla.schema import Batch, Episode

ROWS, COLUMNS = 3, 2
CAMERAS = ("front", "wrist")


class World:
    """Episodes of ``lengths`` frames, the frames in another order than the window table's, one episode of no window."""

    def __init__(self, *, lengths: Sequence[int], window_size: int, fwd_pred_next_n: int, padding: Padding) -> None:
        random = np.random.default_rng(sum(lengths))
        self.episodes = {
            f"e{index}": Episode(
                name=f"e{index}",
                path=Path(f"e{index}.h5"),
                num_frames=length,
                actions=random.uniform(0.1, 1, (length, 2)).astype(np.float32),
                state=random.normal(size=(length, 3)).astype(np.float32),
                instruction=f"go {index}",
                scenario=f"s{index % 2}",
                image_sizes=((ROWS, COLUMNS), (ROWS, COLUMNS)),
            )
            for index, length in enumerate(lengths)
        }
        self.images = {
            e.name: random.integers(1, 256, (2, e.num_frames, ROWS, COLUMNS, 3)) for e in self.episodes.values()
        }
        stored = sorted(self.episodes, reverse=True)
        ends = np.cumsum([self.episodes[name].num_frames for name in stored]).tolist()
        store = FrameStore(
            cameras={
                camera: np.concatenate([self.images[name][index] for name in stored]).astype(np.uint8)
                for index, camera in enumerate(CAMERAS)
            },
            first_row=dict(zip(stored, [0, *ends], strict=False)),
            key="made",
        )
        self.window_size, self.fwd_pred_next_n = window_size, fwd_pred_next_n
        listed = list(self.episodes.values())[1:]
        self.windows = build_windows(listed, window_size=window_size, fwd_pred_next_n=fwd_pred_next_n, padding=padding)
        self.reader = WindowReader(
            windows=self.windows,
            episodes=self.episodes,
            frames=store,
            window_size=window_size,
            fwd_pred_next_n=fwd_pred_next_n,
        )

    def check(self, batch: Batch, ids: Sequence[int]) -> None:
        """Hold every frame, action and text of ``batch`` against the episode it comes from."""
        assert batch.window_ids.tolist() == list(ids)
        for place, window in enumerate(ids):
            episode = self.episodes[self.windows.episode_names[self.windows.episode[window]]]
            assert batch.instruction[place] == episode.instruction
            assert batch.scenario[place] == episode.scenario
            for t in range(self.window_size):
                frame = int(self.windows.start[window]) + t
                images_VCYX = batch.images_BTVCYX[place, t].numpy()
                exists = 0 <= frame < episode.num_frames
                assert bool(batch.history_BT[place, t]) == exists
                shown = self.images[episode.name][:, frame].transpose(0, 3, 1, 2) if exists else 0
                np.testing.assert_array_equal(images_VCYX, np.broadcast_to(shown, images_VCYX.shape))
                state_S = episode.state[frame] if exists else np.zeros(3)
                np.testing.assert_array_equal(batch.state_BTS[place, t].numpy(), state_S)
                for k in range(self.fwd_pred_next_n):
                    has_action = exists and frame + k < episode.num_frames
                    assert bool(batch.mask_BTK[place, t, k]) == has_action
                    action_A = episode.actions[frame + k] if has_action else np.zeros(2)
                    np.testing.assert_array_equal(batch.actions_BTKA[place, t, k].numpy(), action_A)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    window_size, fwd_pred_next_n = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(2, 9), min_size=1, max_size=3))
    return World(
        lengths=[3, *lengths, window_size + fwd_pred_next_n + 1],
        window_size=window_size,
        fwd_pred_next_n=fwd_pred_next_n,
        padding=draw(st.sampled_from(["none", "end", "both"])),
    )


def id_lists(world: World) -> st.SearchStrategy[list[int]]:
    """Ids in any order and repeated."""
    return st.lists(st.integers(0, len(world.windows) - 1), min_size=1, max_size=6)


@given(st.data())
def test_a_batch_is_its_windows_read_frame_by_frame(data: st.DataObject) -> None:
    world = data.draw(worlds())
    ids = data.draw(id_lists(world))
    batch = world.reader.gather(np.array(ids, np.int64))
    assert batch.images_BTVCYX.shape == (len(ids), world.window_size, 2, 3, ROWS, COLUMNS)
    assert batch.state_BTS.dtype == torch.float32
    assert batch.images_BTVCYX.dtype == torch.uint8
    assert batch.actions_BTKA.dtype == torch.float32
    world.check(batch, ids)


KEPT_PARTS: tuple[Callable[[Batch], object], ...] = (
    lambda batch: batch,
    lambda batch: batch.images_BTVCYX[-1],
    lambda batch: batch.images_BTVCYX.detach().flatten(0, 1)[1:],
    lambda batch: batch.images_BTVCYX.numpy()[:, 0],
    lambda batch: batch.to(torch.device("cpu")),
    lambda batch: None,
)
"""What a caller may hold on to while the batch itself is gone, nothing included."""


def pixels(part: object) -> NDArray[np.uint8]:
    """Copy what ``part`` shows."""
    part = part.images_BTVCYX if isinstance(part, Batch) else part
    return np.array(part.numpy() if isinstance(part, torch.Tensor) else part)


@given(st.data())
def test_what_is_left_of_a_batch_is_never_overwritten(data: st.DataObject) -> None:
    world = data.draw(worlds())
    kept = []
    for ids in data.draw(st.lists(id_lists(world), min_size=2, max_size=8)):
        part = data.draw(st.sampled_from(KEPT_PARTS))(world.reader.gather(np.array(ids, np.int64)))
        if part is not None:
            kept.append((part, pixels(part)))
    for part, seen in kept:
        np.testing.assert_array_equal(pixels(part), seen)


@pytest.mark.parametrize("padding", ["none", "both"])
def test_writing_to_a_batch_changes_no_later_one(padding: Padding) -> None:
    world = World(lengths=[3, 9, 7], window_size=3, fwd_pred_next_n=2, padding=padding)
    ids = [0, len(world.windows) - 1, 1]
    batch = world.reader.gather(np.array(ids, np.int64))
    for tensor in (batch.images_BTVCYX, batch.state_BTS, batch.history_BT, batch.actions_BTKA, batch.mask_BTK):
        tensor.zero_()
    world.check(world.reader.gather(np.array(ids, np.int64)), ids)


def test_pixels_lie_channels_last_and_camera_by_camera() -> None:
    world = World(lengths=[3, 9], window_size=3, fwd_pred_next_n=2, padding="none")
    images_BTVCYX = world.reader.gather(np.array([0, 1], np.int64)).images_BTVCYX
    assert images_BTVCYX.permute(2, 0, 1, 4, 5, 3).is_contiguous()  # and those of a camera together
