"""Write odd recordings by hand, export them as the command does, and read exports back, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.commands.arguments import data_config
from mobile_vla.data.dataset import Dataset, Scan
from mobile_vla.data.exporters.export import ExportReport, export_data
from mobile_vla.data.formats import find_formats
from mobile_vla.run.build import build_dataset
from mobile_vla.spec import Camera, Signal, Spec

ARM = Spec(
    actions=(
        Signal(name="shoulder", unit="rad", kind="position", flips=True),
        Signal(name="gripper", unit="normalised", kind="binary", rest=1.0, flips=False),
        Signal(name="drive", unit="m/s", kind="velocity", rest=0.0),
        Signal(name="unknown_one"),
    ),
    state=(Signal(name="shoulder", unit="rad", kind="position"), Signal(name="load", kind="effort", rest=-0.5)),
    cameras=(Camera(name="front", rows=6, columns=8), Camera(name="wrist-left", rows=5, columns=3)),
    rate_hz=12.5,
)
"""Two cameras of odd sizes, and signals of which something, or nothing, is known."""


def write_arm(
    folder: Path,
    *,
    lengths: Sequence[int] = (5, 7, 4),
    spec: Spec = ARM,
    attributes: Mapping[str, str] | None = None,
    tasks: Sequence[str] = ("Pick the cup", "Öffne die Tür", "Pick the cup"),
) -> Path:
    """Write flat HDF5 episodes that state ``spec``, of random values and frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, length in enumerate(lengths):
        rng = np.random.default_rng(index)
        with h5py.File(folder / f"run_left_{index:03d}.h5", "w") as file:
            file["actions"] = rng.normal(size=(length, len(spec.actions))).astype(np.float32)
            if spec.state:
                file["state"] = rng.normal(size=(length, len(spec.state))).astype(np.float32)
            file["language_instruction"] = np.array([tasks[index % len(tasks)].encode()], "S256")
            for camera in spec.cameras:
                key = "images" if len(spec.cameras) == 1 else f"images/{camera.name}"
                frames = rng.integers(0, 256, (length, camera.rows, camera.columns, 3), dtype=np.uint8)
                file.create_dataset(key, data=frames, chunks=(1, *frames.shape[1:]), compression="gzip")
            file.attrs["mobile_vla_spec"] = json.dumps(spec.to_json())
            file.attrs["room"] = f"kitchen {index}"
            for name, text in (attributes or {}).items():
                file.attrs[name] = text
    return folder


def dataset_of(path: Path, cache: Path, *overrides: str) -> Dataset:
    """Return the data set at ``path`` in whatever format, with all of its signals and cameras."""
    of_tubs = ["dataset.tub.min_frames=2"] if path.is_dir() and find_formats(path)["tub"] else []
    dataset = build_dataset(data_config(path, [f"dataset.cache_dir={cache}", *of_tubs, *overrides]))
    return replace(dataset, state="all")


def export(path: Path, out: Path, *overrides: str, format: str, **options: Any) -> ExportReport:
    """Export the recordings at ``path`` to ``out``; the cache lies beside ``out``."""
    dataset = dataset_of(path, out.parent / "cache", *overrides)
    return export_data(dataset, out, format=format, **options)  # pyright: ignore[reportArgumentType]


def scan_of(path: Path, cache: Path, *overrides: str) -> Scan:
    """Return what is read at ``path``, without a problem."""
    scan = dataset_of(path, cache, *overrides).scan()
    assert scan.problems == []
    return scan


def frames_of(scan: Scan) -> list[dict[str, NDArray[np.uint8]]]:
    """Return all frames [F, Y, X, 3] of each episode, by camera."""
    return [
        {c.name: np.concatenate(list(scan.source.frames(recording, c.name))) for c in recording.spec.cameras}
        for recording in scan.recordings.values()
    ]
