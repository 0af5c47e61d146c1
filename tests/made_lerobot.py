"""Write small LeRobot folders by hand, v2.1 and v3.0, so that each part can be as odd as in real sets."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FPS = 10
SIDE = 64
KEY = "observation.images.front"
TASK = "Go to the door"


def level(episode: int, frame: int) -> int:
    """Return the grey level of a frame: neighbours differ by 8 and more, which no codec here blurs."""
    return 16 + (episode * 88 + frame * 8) % 224


def write_video(
    path: Path, levels: Sequence[int], *, codec: str = "mpeg4", gop: int = 12, side: int = SIDE, b_frames: int = 0
) -> None:
    """Write a video with one plain grey frame for each of ``levels``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec.removesuffix("-open"), rate=Fraction(FPS))
        if codec.endswith("-open"):  # frames before a key frame in time need frames before it in the file
            stream.options = {"x264-params": "open-gop=1"}
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.bit_rate = 4_000_000
        for grey in levels:
            frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    # Run by root, libsvtav1 makes this process a real-time one, which starves all others of the machine.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def png(grey: int, *, side: int = SIDE) -> bytes:
    """Return a plain grey PNG."""
    content = io.BytesIO()
    Image.new("RGB", (side, side), (grey, grey, grey)).save(content, "PNG")
    return content.getvalue()


def actions_of(episode: int, length: int) -> np.ndarray:
    """Return the actions [F, 2] of a written episode; no two are equal."""
    return (np.arange(2 * length).reshape(length, 2) / 100 + episode).astype(np.float32)


def rows_of(episode: int, length: int, *, first: int = 0) -> dict[str, Any]:
    """Return the columns of an episode as arrow arrays, by name."""
    actions = actions_of(episode, length)
    return {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(actions.ravel()), 2),
        "observation.state": pa.array((actions * 2).tolist(), pa.list_(pa.float32())),
        "timestamp": pa.array((np.arange(length) / FPS).astype(np.float32)),
        "frame_index": pa.array(range(length), pa.int64()),
        "episode_index": pa.array([episode] * length, pa.int64()),
        "index": pa.array(range(first, first + length), pa.int64()),
        "task_index": pa.array([0] * length, pa.int64()),
    }


def features(*, dtype: str = "video", keys: Sequence[str] = (KEY,)) -> dict[str, Any]:
    """Return the ``features`` of ``info.json`` as lerobot writes them."""
    camera = {"dtype": dtype, "shape": [SIDE, SIDE, 3], "names": ["height", "width", "channels"]}
    return {
        "action": {"dtype": "float32", "shape": [2], "names": ["vx", "wz"]},
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
        **{key: {**camera, "info": {"video.codec": "mpeg4"}} for key in keys},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }


def write_v21(
    folder: Path,
    *,
    lengths: Sequence[int] = (6, 7, 5),
    columns: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    videos: str = "videos",
    codec: str = "mpeg4",
    keys: Sequence[str] = (KEY,),
) -> Path:
    """Write a folder of v2.1 with videos; ``columns`` replaces columns by name (None: leaves one out)."""
    for index, length in enumerate(lengths):
        table = _replaced(rows_of(index, length), columns, length)
        path = folder / f"data/chunk-000/episode_{index:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        for key in keys:
            video = folder / videos / f"chunk-000/{key}/episode_{index:06d}.mp4"
            write_video(video, [level(index, frame) for frame in range(length)], codec=codec)
    (folder / "meta").mkdir()
    content = {
        "codebase_version": "v2.1",
        "fps": FPS,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features(keys=keys),
        **(info or {}),
    }
    (folder / "meta/info.json").write_text(json.dumps(content))
    lines = [{"episode_index": i, "tasks": [TASK], "length": length} for i, length in enumerate(lengths)]
    (folder / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": TASK}) + "\n")
    return folder


def write_v30(
    folder: Path,
    *,
    lengths: Sequence[int] = (6, 7, 5),
    columns: Mapping[str, Any] | None = None,
    codec: str = "mpeg4",
    gop: int = 12,
    b_frames: int = 0,
    images: bool = False,
    task_column: str = "task",
    spans: Mapping[int, tuple[float, float]] | None = None,
) -> Path:
    """Write a folder of v3.0 whose episodes share one table and one video, or hold their images in the table."""
    tables, levels, entries, first = [], [], [], 0
    for index, length in enumerate(lengths):
        rows = rows_of(index, length, first=first)
        greys = [level(index, frame) for frame in range(length)]
        if images:
            rows[KEY] = pa.array([{"bytes": png(grey), "path": f"frame-{i:06d}.png"} for i, grey in enumerate(greys)])
        tables.append(_replaced(rows, columns, length))
        start, end = (spans or {}).get(index, (first / FPS, (first + length) / FPS))
        entries.append(
            {
                "episode_index": index,
                "tasks": [TASK],
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": 0,
                **(
                    {}
                    if images
                    else {
                        f"videos/{KEY}/chunk_index": 0,
                        f"videos/{KEY}/file_index": 0,
                        f"videos/{KEY}/from_timestamp": start,
                        f"videos/{KEY}/to_timestamp": end,
                    }
                ),
                "stats/action/mean": [0.0, 0.0],
            }
        )
        levels += greys
        first += length
    for path in ("data/chunk-000", "meta/episodes/chunk-000"):
        (folder / path).mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), folder / "data/chunk-000/file-000.parquet", row_group_size=4)
    pq.write_table(pa.Table.from_pylist(entries), folder / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], task_column: [TASK]}), folder / "meta/tasks.parquet")
    if not images:
        path = folder / f"videos/{KEY}/chunk-000/file-000.mp4"
        write_video(path, levels, codec=codec, gop=gop, b_frames=b_frames)
    content = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None if images else "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features(dtype="image" if images else "video"),
        "splits": {"train": "0:2", "val": "2:3"},
    }
    (folder / "meta/info.json").write_text(json.dumps(content))
    return folder


def _replaced(rows: Mapping[str, Any], columns: Mapping[str, Any] | None, length: int) -> pa.Table:
    """Return a table of ``rows``; of ``columns``, functions get the columns and a length."""
    found = dict(rows)
    for name, values in (columns or {}).items():
        found[name] = values(rows, length) if callable(values) else values
    return pa.table({name: values for name, values in found.items() if values is not None})
