"""The writer of episode files, in the flat HDF5 layout of the Mobile VLA collector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.spec import Spec
from mobile_vla.storage.disk import write_atomically

SPEC_ATTRIBUTE = "mobile_vla_spec"
"""The attribute of a file with what its columns and its camera are, as JSON of ``Spec.to_json``."""

CAMERA = "camera"
"""The name of the only camera of this layout."""


def write_episode(
    path: Path,
    *,
    images_FYXC: Iterable[NDArray[np.uint8]],
    actions_FA: NDArray[np.float32],
    instruction: str | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    spec: Spec | None = None,
) -> None:
    """Write one episode of F frames: RGB ``images_FYXC``, ``actions_FA``, and its event types.

    ``spec`` says what the actions are; without it they are linear_x, linear_y, angular_z in m/s, m/s, rad/s.
    ``images_FYXC`` is an array or an iterator over frames; with an iterator, only the compressed bytes are in memory
    (twice). One frame is one chunk, so that reading a frame decompresses only that frame. The same arguments give the
    same bytes: no time stamps are stored, and gzip is used because lzf is not reproducible (the same frames gave
    different bytes). After an error the path holds what was there before. Raises ``OSError`` where the disk does not
    accept the file.
    """
    # The file is composed in memory and written at once, because HDF5 crashes when the disk fills up while a file is
    # open (SIGSEGV when the process ends). The core driver gives the same bytes as a file on disk; h5py on a BytesIO
    # does not, because it allocates metadata without blocks.
    with h5py.File(path, "w", driver="core", backing_store=False, block_size=2**20) as file:
        _write_images(file, images_FYXC, num_frames=len(actions_FA))
        file.create_dataset("actions", data=actions_FA.astype(np.float32), track_times=False)
        events = _event_types(actions_FA)
        file.create_dataset("action_event_types", data=events, dtype=h5py.string_dtype("utf-8"), track_times=False)
        if instruction is not None:
            text = instruction.encode("utf-8")
            dtype = f"S{max(256, len(text))}"
            file.create_dataset("language_instruction", data=np.array([text], dtype=dtype), track_times=False)
        file.attrs["episode_name"] = path.stem
        file.attrs["num_frames"] = len(actions_FA)
        for key, value in (attributes or {}).items():
            file.attrs[key] = value
        if spec is not None:
            file.attrs[SPEC_ATTRIBUTE] = json.dumps(spec.to_json())
        file.flush()
        content = file.id.get_file_image()
    write_atomically(path, content)


def _write_images(file: h5py.File, images_FYXC: Iterable[NDArray[np.uint8]], *, num_frames: int) -> None:
    # The first frame is read before the data set is created, because an iterator does not state the image size.
    frames = iter(images_FYXC)
    first = next(frames)
    images = file.create_dataset(
        "images",
        shape=(num_frames, *first.shape),
        dtype=np.uint8,
        chunks=(1, *first.shape),
        compression="gzip",
        compression_opts=1,
        track_times=False,
    )
    for i, frame in zip(range(num_frames), chain([first], frames), strict=True):
        images[i] = frame


def _event_types(actions_FA: NDArray[np.float32]) -> list[str]:
    moving = np.any(actions_FA != 0, axis=1)
    return ["episode_start", *("start_action" if is_moving else "stop_action" for is_moving in moving[1:])]
