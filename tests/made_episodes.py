"""Make episodes for tests: in memory, where every pixel and action tells whose it is, or as odd files by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import settings
from numpy.typing import NDArray
from tiny_runs import compose_config

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.dataset import Dataset
from mobile_vla.data.digests import digest_recordings
from mobile_vla.data.episodes import read_recordings
from mobile_vla.data.frames import FrameStore, ImageOptions, open_frames
from mobile_vla.data.sources.contract import Recording, RecordingFile
from mobile_vla.data.sources.hdf5.layout import shipped_layout
from mobile_vla.data.sources.hdf5.source import Hdf5Source
from mobile_vla.data.windows import Padding, build_windows
from mobile_vla.errors import DataError
from mobile_vla.run import build
from mobile_vla.schema import Episode
from mobile_vla.spec import Camera, Spec, known_signal

law = settings(max_examples=60)

ACTION_NAMES = ("linear_x", "linear_y", "angular_z")
"""The columns of the episodes that ``made_episode`` makes."""

NAME = "episode_20251204_101000_1box_hori_left_core_medium"


def made_episode(
    index: int,
    *,
    num_frames: int,
    scenario: str = "1box_hori_left",
    fields: Mapping[str, str] | None = None,
    actions: NDArray[np.float32] | None = None,
) -> Episode:
    """Return episode ``index``; frame f of it has the actions (index, f, -f) unless ``actions`` are given."""
    frame = np.arange(num_frames, dtype=np.float32)
    return Episode(
        name=f"episode_{index:03d}",
        path=Path(f"episode_{index:03d}.h5"),
        num_frames=num_frames,
        actions=np.stack([np.full(num_frames, index, np.float32), frame, -frame], 1) if actions is None else actions,
        state=np.zeros((num_frames, 0), np.float32),
        instruction=f"instruction {index}",
        scenario=scenario,
        fields=fields or {},
        image_sizes=((2, 2),),
    )


def with_actions(episode: Episode, names: Sequence[str]) -> Episode:
    """Return ``episode`` with the action columns ``names`` only, as a data set reads it that asks for these."""
    return replace(episode, actions=episode.actions[:, [ACTION_NAMES.index(name) for name in names]])


def made_spec(names: Sequence[str] = ACTION_NAMES) -> Spec:
    """Return the spec of data with the actions ``names`` and one camera."""
    return Spec(actions=tuple(map(known_signal, names)), cameras=(Camera(name="camera", rows=2, columns=2),))


def made_reader(
    episodes: Sequence[Episode],
    *,
    window_size: int = 8,
    fwd_pred_next_n: int = 10,
    padding: Padding = "both",
    action_names: Sequence[str] = ACTION_NAMES,
) -> WindowReader:
    """Return a reader of all windows of ``episodes``, cut to ``action_names``.

    A frame has the colour (1 + its episode, 1 + its number, 255).
    """
    windows = build_windows(episodes, window_size=window_size, fwd_pred_next_n=fwd_pred_next_n, padding=padding)
    pixels = [(1 + index, 1 + f, 255) for index, e in enumerate(episodes) for f in range(e.num_frames)]
    first_rows = np.cumsum([0, *(e.num_frames for e in episodes)])
    return WindowReader(
        windows=windows,
        episodes={e.name: with_actions(e, action_names) for e in episodes},
        frames=FrameStore(
            cameras={"camera": np.tile(np.array(pixels, np.uint8)[:, None, None], (1, 2, 2, 1))},
            first_row={e.name: int(row) for e, row in zip(episodes, first_rows, strict=False)},
            key="made",
        ),
        window_size=window_size,
        fwd_pred_next_n=fwd_pred_next_n,
    )


def write_h5(path: Path, **datasets: Any) -> Path:
    """Write a file of ``datasets`` by key, ``__`` standing for ``/``; None makes a group."""
    with h5py.File(path, "w") as file:
        for key, value in datasets.items():
            name = key.replace("__", "/")
            if value is None:
                file.create_group(name)
            else:
                file.create_dataset(name, data=value)
    return path


def images(num_frames: int = 4, *, size: tuple[int, int] = (6, 8), seed: int = 0) -> NDArray[np.uint8]:
    """Return random frames [F, Y, X, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (num_frames, *size, 3), dtype=np.uint8)


def actions(num_frames: int = 4, *, num_columns: int = 3, seed: int = 0) -> NDArray[np.float32]:
    """Return random keyboard actions [F, A]."""
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([-1.15, 0, 1.15], np.float32), (num_frames, num_columns))


def h5_source(path: Path, *, layout: str = "flat", order: Sequence[str] = ("file",)) -> Hdf5Source:
    """Return the source of the HDF5 files in the folder ``path``, or of the file ``path``."""
    return Hdf5Source(folder=path, layout=shipped_layout(layout), order=tuple(order))


def read_h5(path: Path, *, layout: str = "flat", order: Sequence[str] = ("file",)) -> list[Recording | DataError]:
    """Return the recordings of one HDF5 file, read in this process, with the error of each that cannot be used."""
    reading = h5_source(path, layout=layout, order=order).read(RecordingFile(path=path, files=(path,)))
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def read_images(path: Path, *, layout: str = "flat") -> NDArray[np.uint8]:
    """Return all frames of an episode file with one camera [F, Y, X, 3], as the file stores them."""
    [recording] = read_h5(path, layout=layout)
    assert isinstance(recording, Recording)
    [camera] = recording.spec.camera_names
    return np.concatenate(list(h5_source(path, layout=layout).frames(recording, camera)))


def open_h5_frames(
    folder: Path, *, options: ImageOptions, cache_dir: Path, num_workers: int = 0
) -> tuple[FrameStore, dict[str, DataError]]:
    """Return the frames of the flat or nested files in ``folder``, decoded into ``cache_dir``, and errors by name."""
    source = h5_source(folder)
    scanned = read_recordings(source, cache_dir=cache_dir, num_workers=num_workers)
    assert not scanned.problems
    return open_frames(
        source,
        scanned.recordings,
        cameras=["camera"],
        options=options,
        digests=digest_recordings(scanned.recordings, cache_dir=cache_dir),
        cache_dir=cache_dir,
        num_workers=num_workers,
    )


def h5_dataset(folder: Path, *overrides: str) -> Dataset:
    """Return the data set of ``folder`` under conf/dataset/h5.yaml, with 16 px images and a cache beside it."""
    return build.build_dataset(
        compose_config(
            [
                "dataset=h5",
                f"dataset.path='{folder}'",
                f"dataset.cache_dir='{folder.parent / 'cache'}'",
                "dataset.num_workers=0",
                "dataset.image_size=16",
                *overrides,
            ]
        )
    )
