"""Make data of a robot with two cameras and three state signals, in memory: ``dataset._target_=made_rigs.NAME``.

Runs on it are real ones; only the recordings are not read from files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tiny_runs import SMALLEST_MODEL

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.dataset import Dataset, OpenDataset, Scan
from mobile_vla.data.frames import FrameStore
from mobile_vla.data.sources.hdf5.source import Hdf5Source
from mobile_vla.data.split import split_episodes
from mobile_vla.data.windows import build_windows
from mobile_vla.schema import Episode
from mobile_vla.spec import Camera, Signal, Spec

STATE = tuple(Signal(name=name, unit="rad", kind="position") for name in ("joint_1", "joint_2", "joint_3"))
CAMERAS = (Camera(name="front", rows=16, columns=16), Camera(name="wrist", rows=12, columns=20))
SPEC = Spec(
    actions=tuple(Signal(name=f"target_{n}", unit="rad", kind="position") for n in (1, 2)),
    state=STATE,
    cameras=CAMERAS,
    rate_hz=10.0,
)
NUM_EPISODES, NUM_FRAMES = 12, 14


def rig(name: str, cache: Path, *more: str) -> tuple[str, ...]:
    """Return the overrides of a job of 4 steps on the data ``name`` of this module."""
    return (
        *("dataset=h5", f"dataset._target_=made_rigs.{name}", "dataset.path=nowhere", f"dataset.cache_dir={cache}"),
        *("dataset.image_size=16", "dataset.window_size=3", "dataset.fwd_pred_next_n=4", "dataset.num_workers=0"),
        *("dataset.actions=all", *SMALLEST_MODEL, "model.state_dim=8", "trainer.steps=4", "trainer.batch_size=8"),
        *("trainer.schedule.warmup_steps=2", "trainer.eval_every=2", "trainer.log_every=1", "trainer.device=cpu"),
        *("evaluation.probe_windows=8", "closed_loop=none", "logger=local", *more),
    )


class Rig(Dataset):
    """Episodes of noise: images, actions and state tell nothing about each other."""

    def actions_of(self, state_FS: NDArray[np.float32], images_VFYXC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the actions [F, 2] of an episode."""
        return np.random.default_rng(len(state_FS)).normal(size=(len(state_FS), 2)).astype(np.float32)

    def scan(self) -> Scan:
        """Return nothing: no file is read."""
        source = Hdf5Source(folder=Path("nowhere"), layout=self.layout, order=())
        return Scan(source=source, format="rig", recordings={}, episodes=(), spec=None, problems=(), warnings=())

    def is_decoded(self, scan: Scan) -> bool:
        """Return True: the images are made."""
        return True

    def open(self, scan: Scan | None = None, *, with_pixels: bool = True) -> OpenDataset:
        """Return the data, cut to the cameras and the state that the config names."""
        random = np.random.default_rng(5)
        cameras = _chosen(SPEC.camera_names, self.cameras)
        signals = _chosen(SPEC.state_names, self.state)
        images_VFYXC = random.integers(0, 256, (2, NUM_EPISODES * NUM_FRAMES, *self.image.size, 3), dtype=np.uint8)
        images_VFYXC[:] = images_VFYXC[:, :, :1, :1]  # one colour an image
        state_FS = random.normal([3.0, -20.0, 0.5], [1.0, 5.0, 0.1], (NUM_EPISODES * NUM_FRAMES, 3)).astype(np.float32)
        episodes = []
        for index in range(NUM_EPISODES):
            rows = slice(index * NUM_FRAMES, (index + 1) * NUM_FRAMES)
            side = ("left", "right")[index % 2]
            episodes.append(
                Episode(
                    name=f"rig_{index:02d}",
                    path=Path(f"rig_{index:02d}"),
                    num_frames=NUM_FRAMES,
                    actions=self.actions_of(state_FS[rows], images_VFYXC[:, rows]),
                    state=state_FS[rows][:, [SPEC.state_names.index(name) for name in signals]],
                    instruction=f"go {side}",
                    scenario=side,
                    image_sizes=tuple((c.rows, c.columns) for c in CAMERAS if c.name in cameras),
                )
            )
        split = split_episodes(episodes, val_fraction=0.25, seed=0, unseen=[], train_episodes=None)
        by_name = {episode.name: episode for episode in episodes}
        frames = FrameStore(
            cameras={name: images_VFYXC[SPEC.camera_names.index(name)] for name in cameras},
            first_row={episode.name: index * NUM_FRAMES for index, episode in enumerate(episodes)},
            key=f"{type(self).__name__} {cameras}",
        )
        parts = {"train": split.train, "val": split.val}
        shape = {"window_size": self.window_size, "fwd_pred_next_n": self.fwd_pred_next_n}
        windows = {
            part: build_windows([by_name[name] for name in names], **shape, padding=self.padding)
            for part, names in parts.items()
        }
        return OpenDataset(
            format="rig",
            spec=Spec(
                actions=SPEC.actions,
                state=tuple(signal for name in signals for signal in STATE if signal.name == name),
                cameras=tuple(camera for name in cameras for camera in CAMERAS if camera.name == name),
                rate_hz=SPEC.rate_hz,
            ),
            episodes=by_name,
            split=split,
            windows=windows,
            readers={
                part: WindowReader(windows=table, episodes=by_name, frames=frames, **shape)
                for part, table in windows.items()
            },
            frames=frames,
            image=self.image,
            data_hash="rig",
            problems=(),
            warnings=(),
        )


class CopiesState(Rig):
    """The actions are the first two signals of the state, turned and shifted: no image is needed."""

    def actions_of(self, state_FS: NDArray[np.float32], images_VFYXC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Rig``."""
        return np.stack([-state_FS[:, 0], 0.2 * state_FS[:, 1] + 1], axis=1)


class FollowsWrist(Rig):
    """The actions are the red and the blue of the wrist camera: neither the other one nor the state is needed."""

    def actions_of(self, state_FS: NDArray[np.float32], images_VFYXC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Rig``."""
        return images_VFYXC[1, :, 0, 0, [0, 2]].T.astype(np.float32) / 64


def _chosen(recorded: Sequence[str], names: Sequence[str] | str) -> tuple[str, ...]:
    if isinstance(names, str):
        return tuple(recorded) if names == "all" else ()
    return tuple(names)
