"""Write episodes in the flat HDF5 layout of the Mobile VLA collector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray


def write_episode(
    path: Path,
    *,
    images_FYXC: NDArray[np.uint8],
    actions_FA: NDArray[np.float32],
    instruction: str | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
) -> None:
    """Write one episode of F frames: RGB ``images_FYXC``, ``actions_FA`` in m/s, m/s, rad/s, and its event types.

    One frame is one chunk, so that reading a frame decompresses that frame alone. The same arguments give the same
    bytes: no time stamps are stored, and gzip is reproducible where lzf is not (the same frames gave other bytes).
    """
    num_frames = len(images_FYXC)
    moving = np.any(actions_FA != 0, axis=1)
    events = ["start_action" if is_moving else "stop_action" for is_moving in moving]
    events[0] = "episode_start"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images",
            data=images_FYXC,
            chunks=(1, *images_FYXC.shape[1:]),
            compression="gzip",
            compression_opts=1,
            track_times=False,
        )
        file.create_dataset("actions", data=actions_FA.astype(np.float32), track_times=False)
        file.create_dataset("action_event_types", data=events, dtype=h5py.string_dtype("utf-8"), track_times=False)
        if instruction is not None:
            text = instruction.encode("utf-8")
            dtype = f"S{max(256, len(text))}"
            file.create_dataset("language_instruction", data=np.array([text], dtype=dtype), track_times=False)
        file.attrs["episode_name"] = path.stem
        file.attrs["num_frames"] = num_frames
        for key, value in (attributes or {}).items():
            file.attrs[key] = value
