"""What the meta files of a LeRobot v3.0 data set say: its features, paths, totals, and the types of its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_vla.data.exporters.statistics import NAMES, Statistics
from mobile_vla.data.sources.lerobot.declared import FIELD_PREFIX
from mobile_vla.spec import Camera, Signal, Spec

if TYPE_CHECKING:
    import pyarrow as pa

ACTION, STATE = "action", "observation.state"

CHUNKS_SIZE, DATA_MB, VIDEO_MB = 1000, 100, 200
"""Files a folder, and the size from which a new file begins, of tables and videos: those of lerobot itself."""

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

_OWN_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""The columns that lerobot writes for itself, with their types."""


def camera_key(name: str) -> str:
    """Return the key of a camera's feature."""
    return f"observation.images.{name}"


def features_of(spec: Spec, *, video: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return ``features`` of info.json; ``video`` says how videos are encoded, None: images are in the tables.

    Units, kinds, rest and flips are keys of our own, and left out where nothing is known; lerobot passes over them.
    """
    vectors = {STATE: spec.state, ACTION: spec.actions} if spec.state else {ACTION: spec.actions}
    return {
        **{key: _vector(signals) for key, signals in vectors.items()},
        **{camera_key(camera.name): _images(camera, video) for camera in spec.cameras},
        **{key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in _OWN_COLUMNS.items()},
    }


def _vector(signals: Sequence[Signal]) -> dict[str, Any]:
    details = {
        "units": [signal.unit for signal in signals],
        "kinds": [signal.kind for signal in signals],
        "rest": [signal.rest for signal in signals],
        "flips": [signal.flips for signal in signals],
    }
    return {
        "dtype": "float32",
        "shape": [len(signals)],
        "names": [signal.name for signal in signals],
        **{key: values for key, values in details.items() if any(value not in (None, "unknown") for value in values)},
    }


def _images(camera: Camera, video: Mapping[str, Any] | None) -> dict[str, Any]:
    size = {"shape": [camera.rows, camera.columns, 3], "names": ["height", "width", "channels"]}
    if video is None:
        return {"dtype": "image", **size}
    return {"dtype": "video", **size, "info": {"video.height": camera.rows, "video.width": camera.columns, **video}}


def info_of(
    features: Mapping[str, Any], *, fps: float, num_episodes: int, num_frames: int, num_tasks: int, is_video: bool
) -> dict[str, Any]:
    """Return the content of info.json."""
    return {
        "codebase_version": "v3.0",
        "fps": int(fps) if fps == int(fps) else fps,
        "features": features,
        "total_episodes": num_episodes,
        "total_frames": num_frames,
        "total_tasks": num_tasks,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if is_video else None,
        "robot_type": None,
        "splits": {"train": f"0:{num_episodes}"},
    }


def data_schema(features: Mapping[str, Any]) -> pa.Schema:
    """Return the columns of the data tables: vectors of fixed length, single values, and PNG images.

    The schema says to the package ``datasets``, with which lerobot reads, what the columns are.
    """
    import pyarrow as pa

    columns, told = [], {}
    for key, feature in features.items():
        dtype, width = feature["dtype"], feature["shape"][0]
        if dtype == "video":
            continue
        if dtype == "image":
            columns.append(pa.field(key, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
            told[key] = {"_type": "Image"}
            continue
        plain = pa.float32() if dtype == "float32" else pa.int64()
        value = {"dtype": dtype, "_type": "Value"}
        # lerobot stores a vector of one element as a single value.
        columns.append(pa.field(key, plain if width == 1 else pa.list_(plain, width)))
        told[key] = value if width == 1 else {"feature": value, "length": width, "_type": "List"}
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": told}})})


def episodes_schema(features: Mapping[str, Any], *, is_video: bool, fields: Sequence[str]) -> pa.Schema:
    """Return the columns of meta/episodes; ``fields`` are the names of the texts about an episode."""
    import pyarrow as pa

    columns: list[tuple[str, Any]] = [
        ("episode_index", pa.int64()),
        ("tasks", pa.list_(pa.string())),
        ("length", pa.int64()),
        ("data/chunk_index", pa.int64()),
        ("data/file_index", pa.int64()),
        ("dataset_from_index", pa.int64()),
        ("dataset_to_index", pa.int64()),
    ]
    images = [key for key, feature in features.items() if feature["dtype"] in ("video", "image")]
    for key in images if is_video else ():
        columns += [(f"videos/{key}/{part}_index", pa.int64()) for part in ("chunk", "file")]
        columns += [(f"videos/{key}/{part}_timestamp", pa.float64()) for part in ("from", "to")]
    numbers, levels = pa.list_(pa.float64()), pa.list_(pa.list_(pa.list_(pa.float64())))
    for key in features:
        for name in NAMES:
            kind = pa.list_(pa.int64()) if name == "count" else levels if key in images else numbers
            columns.append((f"stats/{key}/{name}", kind))
    columns += [("meta/episodes/chunk_index", pa.int64()), ("meta/episodes/file_index", pa.int64())]
    columns += [(f"{FIELD_PREFIX}{name}", pa.string()) for name in fields]
    return pa.schema(columns)


def statistics_row(statistics: Mapping[str, Statistics]) -> dict[str, Any]:
    """Return the columns ``stats/...`` of one row of meta/episodes."""
    return {
        f"stats/{key}/{name}": values.tolist() for key, found in statistics.items() for name, values in found.items()
    }


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write meta/tasks.parquet: a pandas table whose index is the text of each task."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}
        for name, kind, numpy_kind in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    index = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [{**index, "metadata": {"encoding": "UTF-8"}}],
        "columns": columns,
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",  # the version whose format this is; pandas itself is not needed to write it
    }
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())], metadata={"pandas": json.dumps(pandas)})
    table = pa.table({"task_index": list(range(len(tasks))), "task": list(tasks)}, schema=schema)
    pq.write_table(table, path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as lerobot does, with an indent of 4."""
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")
