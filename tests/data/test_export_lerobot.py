"""An exported LeRobot data set is one: the same files, keys, columns and statistics as lerobot's own writer makes."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_exports import ARM, export, frames_of, scan_of, write_arm
from made_lerobot import write_video
from PIL import Image
from shared_data import shared

from mobile_vla.data.exporters.lerobot_files import Numbering, Tables, Videos, episode_tables
from mobile_vla.data.exporters.lerobot_frames import EncodedCamera
from mobile_vla.data.exporters.statistics import ImageCounts, joined, of_values
from mobile_vla.data.sources.lerobot.declared import FIELD_PREFIX

TABLES = ("data/chunk-000/file-000.parquet", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet")


def json_of(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["lerobot_v30_image", "lerobot_v30_video"])
def test_files_keys_and_columns_are_those_of_lerobots_own_writer(name: str, tmp_path: Path) -> None:
    theirs, ours = shared(f"formats/{name}"), tmp_path / "out"
    export(theirs, ours, format="lerobot", is_video=name.endswith("video"))
    files = [sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()) for place in (theirs, ours)]
    assert files[0] == files[1]
    one, other = json_of(theirs / "meta/info.json"), json_of(ours / "meta/info.json")
    assert list(one) == list(other)
    for key in one.keys() - {"features", "robot_type"}:
        assert one[key] == other[key], key
    assert list(one["features"]) == list(other["features"])
    for key, feature in one["features"].items():
        mine = other["features"][key]
        assert {k: v for k, v in feature.items() if k != "info"} == {k: v for k, v in mine.items() if k != "info"}
        assert feature.get("info", {}).keys() - {"video.extra_options"} <= mine.get("info", {}).keys()
    for file in TABLES:
        schema, mine = pq.read_schema(theirs / file), pq.read_schema(ours / file)
        more = [column for column in mine.names if column not in schema.names]
        assert all(column.startswith(FIELD_PREFIX) for column in more)
        assert [mine.field(column) for column in schema.names] == list(schema)
        assert _told(schema) == _told(mine)
    assert pq.read_table(ours / TABLES[1]).equals(pq.read_table(theirs / TABLES[1]))
    for file in TABLES[::2]:
        left, right = pq.read_table(theirs / file).to_pylist(), pq.read_table(ours / file).to_pylist()
        assert len(left) == len(right)
        for row, mine in zip(left, right, strict=True):
            _check_row(row, mine)


def _told(schema: pa.Schema) -> dict[str, Any]:
    """Return what a table's metadata say; the fingerprint is that of a cache."""
    found = {key.decode(): json.loads(text) for key, text in (schema.metadata or {}).items()}
    found.get("huggingface", {}).pop("fingerprint", None)
    found.get("pandas", {}).pop("creator", None)
    return found


def _check_row(row: dict[str, Any], mine: dict[str, Any]) -> None:
    for key, value in row.items():
        if key.startswith("stats/"):
            # lerobot's quantiles are from a histogram. Its statistics of a video are of the frames before they were
            # encoded, ours of those that its video shows: single pixels differ by more.
            if "images" in key and key.endswith(("min", "max")):
                continue
            tolerance = 0.05 if "images" in key else 0.02
            np.testing.assert_allclose(mine[key], value, atol=tolerance, err_msg=key)
        elif key.endswith("timestamp"):
            assert mine[key] == pytest.approx(value, abs=1e-6), key
        elif isinstance(value, dict):
            assert mine[key]["path"] == value["path"]
            one, other = (np.asarray(Image.open(io.BytesIO(each[key]["bytes"]))) for each in (row, mine))
            np.testing.assert_array_equal(one, other)
        else:
            assert mine[key] == value, key


def test_statistics_of_the_data_set_are_those_of_lerobots_own_writer(tmp_path: Path) -> None:
    theirs = shared("formats/lerobot_v30_image")
    export(theirs, tmp_path / "out", format="lerobot")
    one, other = json_of(theirs / "meta/stats.json"), json_of(tmp_path / "out/meta/stats.json")
    assert one.keys() == other.keys()
    for key, found in one.items():
        assert found.keys() == other[key].keys()
        for name, value in found.items():
            assert np.shape(value) == np.shape(other[key][name])
            # Their bins: 1/5000 of the range, here at most 115 (`index`); their images' spread is in float32.
            np.testing.assert_allclose(other[key][name], value, atol=4e-3, err_msg=f"{key} {name}")


def test_statistics_of_parts_join_to_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 3)) for n in (2, 50, 7)]
    whole = None
    for part in parts:
        whole = joined(whole, {"x": of_values(part)})
    assert whole is not None
    expected = of_values(np.concatenate(parts))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(whole["x"][name], expected[name], rtol=1e-12)


def test_counted_levels_give_the_statistics_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(3, 200, (4, 7, 5, 3), dtype=np.uint8)
    counts = ImageCounts()
    for image in images:
        counts.add(image)
    found, expected = counts.statistics(), of_values(images.reshape(-1, 3) / 255)
    assert found["count"].tolist() == [4]
    for name in found.keys() - {"count"}:
        np.testing.assert_allclose(found[name][:, 0, 0], expected[name], atol=1e-12, err_msg=name)


def test_a_video_shows_each_frame_at_the_time_of_its_row(tmp_path: Path) -> None:
    path = shared("formats/lerobot_v30_image")
    export(path, tmp_path / "out", format="lerobot", is_video=True)
    export(path, tmp_path / "fast", format="lerobot", is_video=True, rate_hz=29.97)
    recorded = np.concatenate([each["front"] for each in frames_of(scan_of(path, tmp_path / "cache"))]).astype(float)
    for place, fps in ((tmp_path / "out", Fraction(10)), (tmp_path / "fast", Fraction(2997, 100))):
        [file] = place.rglob("*.mp4")
        with av.open(str(file)) as container:
            stream: Any = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", fps)
            frames = list(container.decode(stream))
        assert len(frames) == len(recorded)
        assert [frame.time for frame in frames] == pytest.approx([float(i / fps) for i in range(len(frames))], abs=1e-4)
        assert {row for row, frame in enumerate(frames) if frame.key_frame} == _key_frames(place)
        for index, frame in enumerate(frames):
            error = np.abs(recorded - frame.to_ndarray(format="rgb24")).mean((1, 2, 3))
            assert error[index] < 4
            assert error[index] <= error.min() + 0.5  # some neighbours are equal: the robot stands
        rows = pq.read_table(place / TABLES[2]).to_pylist()
        ends = np.cumsum([row["length"] for row in rows])
        assert [row["videos/observation.images.front/to_timestamp"] for row in rows] == pytest.approx(ends / float(fps))
        after = scan_of(place, tmp_path / "cache")
        assert len(after.episodes) == 4
        assert after.spec is not None
        assert after.spec.rate_hz == float(fps)
        read = np.concatenate([each["front"] for each in frames_of(after)])
        np.testing.assert_array_equal(read, [frame.to_ndarray(format="rgb24") for frame in frames])


def _key_frames(place: Path) -> set[int]:
    """Return the rows at which an episode begins, and every second one after it."""
    return {
        row
        for episode in pq.read_table(place / TABLES[2]).to_pylist()
        for row in range(episode["dataset_from_index"], episode["dataset_to_index"], 2)
    }


def test_a_foreign_reader_finds_every_value_and_image(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    export(path, tmp_path / "out", format="lerobot")
    table = pq.read_table(tmp_path / "out" / TABLES[0])
    scan = scan_of(path, tmp_path / "cache")
    actions = np.concatenate([recording.actions for recording in scan.recordings.values()])
    np.testing.assert_array_equal(np.array(table["action"].to_pylist(), np.float32), actions)
    for camera in ARM.cameras:
        frames = np.concatenate([each[camera.name] for each in frames_of(scan)])
        cells = table[f"observation.images.{camera.name}"].to_pylist()
        np.testing.assert_array_equal([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells], frames)
    assert table["frame_index"].to_pylist() == [*range(5), *range(7), *range(4)]
    assert table["index"].to_pylist() == list(range(16))
    assert table["task_index"].to_pylist() == [0] * 5 + [1] * 7 + [0] * 4
    assert table["timestamp"][6].as_py() == pytest.approx(1 / 12.5)
    feature = json_of(tmp_path / "out/meta/info.json")["features"]["action"]
    assert feature["units"] == ["rad", "normalised", "m/s", None]
    assert (feature["rest"], feature["flips"]) == ([None, 1.0, 0.0, None], [True, False, None, None])


def test_a_new_file_begins_at_the_limit_and_a_new_folder_after_a_thousand() -> None:
    numbering, places = Numbering(limit=100), []
    for size in (60, 60, 30, 500, 20):
        numbering.starts_new(size)
        numbering.num_bytes += size
        places.append(numbering.file)
    assert places == [0, 1, 1, 2, 3]  # an episode lies in one file, however large
    for _ in range(997):
        assert numbering.starts_new(100) or numbering.num_bytes == 0
        numbering.num_bytes = 100
    assert (numbering.chunk, numbering.file) == (1, 0)


def test_tables_and_videos_are_cut_into_files_of_limited_size(tmp_path: Path) -> None:
    schema = pa.schema([("episode_index", pa.int64()), ("image", pa.struct([("bytes", pa.binary())]))])
    tables = Tables(tmp_path, "c{chunk_index}/f{file_index}.parquet", schema=schema, limit=10_000)
    rng = np.random.default_rng(0)
    for episode in range(3):
        tables.start(6000)
        rows = [{"episode_index": episode, "image": {"bytes": rng.bytes(6000)}}]
        tables.write(pa.Table.from_pylist(rows, schema=schema))
    tables.close()
    assert [pq.read_table(tmp_path / f"c0/f{i}.parquet")["episode_index"].to_pylist() for i in range(3)] == [
        [0],
        [1],
        [2],
    ]

    levels = [list(range(16 + 40 * i, 16 + 40 * i + 30, 3)) for i in range(3)]
    for index, each in enumerate(levels):
        write_video(tmp_path / f"in{index}.mp4", each, codec="libx264", gop=2)
    size = max((tmp_path / f"in{i}.mp4").stat().st_size for i in range(3))
    videos = Videos(
        tmp_path, "{video_key}/{chunk_index}-{file_index}.mp4", "cam", limit=2 * size + 100, rate=Fraction(10)
    )
    spans = [videos.append(tmp_path / f"in{index}.mp4", num_frames=10) for index in range(3)]
    videos.close()
    assert spans == [(0.0, 1.0), (1.0, 2.0), (0.0, 1.0)]
    for file, expected in (("cam/0-0.mp4", levels[0] + levels[1]), ("cam/0-1.mp4", levels[2])):
        with av.open(str(tmp_path / file)) as container:
            found = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
        assert found == pytest.approx(expected, abs=2)


def test_a_long_episode_is_written_in_pieces_that_fit_into_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "pictures"
    with path.open("wb") as file:
        file.truncate(5 * 15 * 2**20)
    sizes = np.full(5, 15 * 2**20)
    camera = EncodedCamera(path=path, sizes=sizes, statistics={})
    schema = pa.schema([("x", pa.float32()), ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    pieces = episode_tables(schema, {"x": np.arange(5, dtype=np.float32)[:, None]}, {"image": camera}, 5)
    seen = [(piece["x"].to_pylist(), [row["path"] for row in piece["image"].to_pylist()]) for piece in pieces]
    assert [rows for rows, _ in seen] == [[0.0, 1.0, 2.0], [3.0, 4.0]]
    assert seen[1][1] == ["frame-000003.png", "frame-000004.png"]
