"""LeRobot folders are read as other readers read them, and odd ones as they are or not at all."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_lerobot import FPS, KEY, SIDE, TASK, actions_of, features, level, png, write_v21, write_v30, write_video
from PIL import Image
from reading_causes import as_nobody
from shared_data import shared

from mobile_vla.data.digests import digest_recordings
from mobile_vla.data.episodes import Scanned, read_recordings
from mobile_vla.data.frames import ImageOptions, open_frames
from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.contract import Found, Recording, RecordingFile
from mobile_vla.data.sources.lerobot.images import pictures_in_table
from mobile_vla.data.sources.lerobot.info import is_lerobot
from mobile_vla.data.sources.lerobot.source import LeRobotSource
from mobile_vla.errors import DataError, UnreadableNowError


def drained(generator: Any) -> Any:
    """Return what a generator returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def read_here(folder: Path, **options: Any) -> tuple[Found, list[Recording], list[DataError]]:
    """Return what is found, and all recordings and errors, read in this process."""
    source = LeRobotSource(folder=folder, **options)
    found = source.find()
    entries = [entry for file in found.files for entry in drained(source.read(file))]
    recordings = [entry for entry in entries if isinstance(entry, Recording)]
    return found, recordings, [*found.problems, *(entry for entry in entries if isinstance(entry, DataError))]


def frames_of(folder: Path, recording: Recording, camera: str = "front") -> np.ndarray:
    return np.concatenate(list(LeRobotSource(folder=folder).frames(recording, camera)))


def greys_of(folder: Path, recording: Recording, camera: str = "front") -> list[float]:
    return frames_of(folder, recording, camera).mean(axis=(1, 2, 3)).tolist()


def check_made(folder: Path, recordings: Sequence[Recording], lengths: Sequence[int] = (6, 7, 5)) -> None:
    """Check names, actions and that each frame is that of its episode and row."""
    assert [recording.name for recording in recordings] == [f"episode_{i:06d}" for i in range(len(lengths))]
    for index, (recording, length) in enumerate(zip(recordings, lengths, strict=True)):
        np.testing.assert_array_equal(recording.actions, actions_of(index, length))
        expected = [level(index, frame) for frame in range(length)]
        assert greys_of(folder, recording) == pytest.approx(expected, abs=3)


def scan(folder: Path, cache: Path) -> Scanned:
    """Return the folder's recordings as a run reads them, in reading processes."""
    return read_recordings(LeRobotSource(folder=folder), cache_dir=cache, num_workers=2)


def edit_info(folder: Path, **changes: Any) -> None:
    path = folder / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- against foreign readers, on recordings that others made ---


def foreign_tables(folder: Path) -> dict[int, Mapping[str, np.ndarray]]:
    """Return action and state of each episode with pyarrow alone."""
    found = {}
    for path in sorted((folder / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        for index in sorted(set(table["episode_index"].to_pylist())):
            rows = table.filter(pa.compute.equal(table["episode_index"], index))  # pyright: ignore[reportAttributeAccessIssue]
            found[index] = {key: np.array(rows[key].to_pylist(), np.float32) for key in ("action", "observation.state")}
            if KEY in table.column_names:
                found[index]["pictures"] = rows[KEY].to_pylist()
    return found


def foreign_frames(path: Path, *, first: int, wanted: Sequence[int]) -> list[np.ndarray]:
    """Return the frames ``first + wanted`` of a video with PyAV alone, decoded from its beginning."""
    with av.open(str(path)) as container:
        chosen = {}
        for number, frame in enumerate(container.decode(video=0)):
            if number - first in wanted:
                chosen[number - first] = frame.to_ndarray(format="rgb24")
            if number - first == max(wanted):
                break
    return [chosen[number] for number in wanted]


@pytest.mark.parametrize("name", ["lerobot_v21_video", "lerobot_v30_video", "lerobot_v30_image"])
def test_written_folders_agree_with_foreign_readers(name: str) -> None:
    folder = shared(f"formats/{name}")
    found, recordings, problems = read_here(folder)
    assert problems == []
    assert list(found.warnings) == []
    tables = foreign_tables(folder)
    assert [recording.name for recording in recordings] == [f"episode_{index:06d}" for index in tables]
    first = 0
    for recording, (index, table) in zip(recordings, tables.items(), strict=True):
        np.testing.assert_array_equal(recording.actions, table["action"])
        np.testing.assert_array_equal(recording.state, table["observation.state"])
        assert recording.spec.action_names == ("linear_x", "linear_y", "angular_z")
        assert recording.spec.state_names == ("travel_x", "travel_y", "last_linear_x", "last_linear_y")
        assert recording.spec.rate_hz == 10
        assert recording.texts.key is not None
        assert "bottle" in recording.texts.key
        assert {signal.unit for signal in recording.spec.actions} == {None}, "nobody stated a unit"
        for camera in recording.spec.cameras:
            ours = frames_of(folder, recording, camera.name)
            assert ours.shape == (recording.num_frames, camera.rows, camera.columns, 3)
            wanted = [0, 1, 5, recording.num_frames - 1]
            if name.endswith("image"):
                theirs = [
                    np.asarray(av.VideoFrame.from_image(picture_of(table["pictures"][i]["bytes"])).to_ndarray())
                    for i in wanted
                ]
            elif name.startswith("lerobot_v21"):
                path = folder / f"videos/chunk-000/observation.images.{camera.name}/episode_{index:06d}.mp4"
                theirs = foreign_frames(path, first=0, wanted=wanted)
            else:
                path = folder / f"videos/observation.images.{camera.name}/chunk-000/file-000.mp4"
                theirs = foreign_frames(path, first=first, wanted=wanted)
            np.testing.assert_array_equal(ours[wanted], np.stack(theirs))
        first += recording.num_frames


def picture_of(content: bytes) -> Any:
    return Image.open(io.BytesIO(content)).convert("RGB")


def test_the_two_cameras_of_a_folder_keep_their_sizes() -> None:
    _, recordings, _ = read_here(shared("formats/lerobot_v30_video"))
    assert [(c.name, c.rows, c.columns) for c in recordings[0].spec.cameras] == [("front", 96, 96), ("rear", 48, 48)]


def test_a_real_humanoid_agrees_with_foreign_readers() -> None:
    folder = shared("unitree_g1_lerobot_v21")
    _, recordings, problems = read_here(folder)
    assert len(recordings) == 8
    assert [str(problem) for problem in problems] == [
        f"{folder}: 92 of the 100 episodes that its meta files declare are not there: 0..9, 11..18, 20..21, 23, "
        "26..27, 31..99. Copy their files."
    ]
    tables = foreign_tables(folder)
    for recording, (index, table) in zip(recordings, tables.items(), strict=True):
        assert recording.name == f"episode_{index:06d}"
        np.testing.assert_array_equal(recording.actions, table["action"])
        np.testing.assert_array_equal(recording.state, table["observation.state"])
        assert recording.actions.shape[1] == recording.state.shape[1] == 26
    recording = recordings[6]
    assert recording.spec.action_names[:2] == ("kLeftShoulderPitch", "kLeftShoulderRoll"), "nested names are flat"
    assert (recording.spec.cameras[0].name, recording.spec.rate_hz) == ("cam_high", 30)
    path = folder / f"videos/chunk-000/observation.images.cam_high/{recording.name}.mp4"
    wanted = [0, 1, 40, recording.num_frames - 1]
    ours = frames_of(folder, recording, "cam_high")
    assert len(ours) == recording.num_frames
    np.testing.assert_array_equal(ours[wanted], np.stack(foreign_frames(path, first=0, wanted=wanted)))


def test_a_folder_is_decoded_into_the_cache_by_reading_processes(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set")
    scanned = scan(folder, tmp_path / "cache")
    assert scanned.problems == []
    check_made(folder, scanned.recordings)
    store, problems = open_frames(
        pickle.loads(pickle.dumps(LeRobotSource(folder=folder))),
        scanned.recordings,
        cameras=["front"],
        options=ImageOptions(size=(16, 16), resize="direct", channel_order="rgb"),
        digests=digest_recordings(scanned.recordings, cache_dir=tmp_path / "cache"),
        cache_dir=tmp_path / "cache",
        num_workers=2,
    )
    assert problems == {}
    row = store.first_row["episode_000001"]
    assert store.cameras["front"][row].mean() == pytest.approx(level(1, 0), abs=3)
    # A second time, from the cache: what was read is what is known.
    again = scan(folder, tmp_path / "cache")
    assert [r.part for r in again.recordings] == [r.part for r in scanned.recordings]


# --- many episodes in a video ---


@pytest.mark.parametrize(
    ("codec", "gop", "b_frames"),
    [
        ("mpeg4", 12, 0),
        ("libx264", 250, 3),
        ("libx264", 4, 2),
        ("libx265", 8, 3),
        ("libsvtav1", 2, 0),
        ("libx264-open", 6, 3),
    ],
)
def test_episodes_are_cut_exactly_out_of_a_video(tmp_path: Path, codec: str, gop: int, b_frames: int) -> None:
    lengths = (6, 23, 5, 40, 2)
    folder = write_v30(tmp_path / "set", lengths=lengths, codec=codec, gop=gop, b_frames=b_frames)
    _, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings, lengths)


def test_rounded_times_lose_no_frame(tmp_path: Path) -> None:
    # lerobot adds durations up: 8.899999999999999 for 8.9.
    spans = {0: (0.0, 0.6000000000000001), 1: (0.5999, 1.2999999), 2: (1.3000001, 1.8)}
    folder = write_v30(tmp_path / "set", spans=spans)
    _, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings)


def test_an_episode_whose_span_holds_other_frames_is_an_error_by_name(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set", spans={1: (0.6, 1.1), 2: (7.0, 7.5)})
    _, recordings, problems = read_here(folder)
    assert [recording.name for recording in recordings] == ["episode_000000"]
    assert "episode 1: " in str(problems[0])
    assert "has 5 frames between 0.600 and 1.100 s for 7 rows" in str(problems[0])
    assert "has 0 frames" in str(problems[1])


def test_a_video_with_another_number_of_frames_is_an_error_by_name(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set")
    write_video(folder / f"videos/chunk-000/{KEY}/episode_000001.mp4", [50] * 6)
    _, recordings, problems = read_here(folder)
    assert [recording.name for recording in recordings] == ["episode_000000", "episode_000002"]
    assert "episode_000001.mp4: has 6 frames for 7 rows" in str(problems[0])


def test_a_video_that_changes_after_it_was_read_is_an_error(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set")
    _, recordings, _ = read_here(folder)
    path = folder / f"videos/chunk-000/{KEY}/episode_000001.mp4"
    for number, message in ((6, "6 frames can be decoded for 7 rows"), (9, "more than 7 frames")):
        write_video(path, [50] * number)
        with pytest.raises(DataError, match=message):
            frames_of(folder, recordings[1])


def test_a_frame_that_is_missing_in_the_middle_is_an_error(tmp_path: Path) -> None:
    times = (np.array([0, 1, 2, 3, 4, 5, 6]) / FPS).astype(np.float32)
    folder = write_v21(tmp_path / "set", columns={"timestamp": lambda rows, n: pa.array(times[:n])})
    path = folder / f"videos/chunk-000/{KEY}/episode_000001.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = SIDE
        for number in (0, 1, 2, 5, 6, 7, 8):  # two frames were lost, and two too many follow
            frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), 90, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, _, problems = read_here(folder)
    assert "its frame 3 is at 0.500 s and the row at 0.300 s: frames are missing" in str(problems[0])


# --- what real sets do ---


def test_missing_and_grouped_names(tmp_path: Path) -> None:
    names = {
        "nested": ([["a", "b"]], ("a", "b")),
        "grouped": ({"motors": ["a", "b"]}, ("a", "b")),
        "mapped": ({"b": 1, "a": 0}, ("a", "b")),
        "none": (None, ("action_0", "action_1")),
        "other": (["only one"], ("action_0", "action_1")),
        "equal": (["arm/x", "arm/x"], ("arm_x", "arm_x_2")),
    }
    folder = write_v21(tmp_path / "set", lengths=(3,))
    for given, expected in names.values():
        content = features()
        content["action"]["names"] = given
        edit_info(folder, features=content)
        _, recordings, _ = read_here(folder)
        assert recordings[0].spec.action_names == expected
    edit_info(folder, features={})
    shutil.rmtree(folder / "videos")
    with pytest.raises(DataError, match="has no frames of a camera"):
        read_here(folder)


def test_other_keys_types_and_more_state(tmp_path: Path) -> None:
    def effort(rows: Mapping[str, Any], length: int) -> pa.Array:
        return pa.array([[0.5, frame] for frame in range(length)], pa.list_(pa.float64()))

    columns = {
        "action": None,
        "actions": lambda rows, n: pa.array(actions_of(0, n).astype(float).tolist(), pa.list_(pa.float64())),
        "observation.state": None,
        "state": lambda rows, n: pa.array(range(n), pa.int64()),
        "observation.effort": effort,
        "observation.speed": lambda rows, n: pa.array([1.5] * n, pa.float32()),
        "next.reward": lambda rows, n: pa.array([0.0] * n),
        "comment": lambda rows, n: pa.array(["x"] * n),
    }
    folder = write_v21(tmp_path / "set", lengths=(4,), columns=columns, keys=("image",))
    _, recordings, problems = read_here(folder)
    assert problems == []
    spec = recordings[0].spec
    assert spec.action_names == ("action_0", "action_1")
    assert spec.state_names == ("state", "effort_0", "effort_1", "speed")
    assert spec.camera_names == ("image",)
    np.testing.assert_array_equal(recordings[0].state[2], [2, 0.5, 2, 1.5])
    assert recordings[0].notes == ("columns that are not read: comment",)


def test_units_and_kinds_are_read_where_a_feature_states_them(tmp_path: Path) -> None:
    content = features()
    content["action"] |= {"units": ["m/s", "rad/s"], "kinds": ["velocity", "velocity"]}
    content["action"] |= {"rest": [0.0, 0.0], "flips": [False, True]}
    folder = write_v21(tmp_path / "set", lengths=(3,), info={"features": content})
    _, recordings, _ = read_here(folder)
    first, second = recordings[0].spec.actions
    assert (first.unit, first.kind, first.rest, first.flips) == ("m/s", "velocity", 0.0, False)
    assert (second.unit, second.flips) == ("rad/s", True)
    content["action"]["kinds"] = ["velocity", "fast"]
    edit_info(folder, features=content)
    _, recordings, problems = read_here(folder)
    assert recordings == []
    assert "kind='fast'" in str(problems[0])


def test_a_wrong_folder_of_videos_and_a_wrong_codec_are_noted(tmp_path: Path) -> None:
    content = features()
    content[KEY]["info"]["video.codec"] = "h264"
    folder = write_v21(tmp_path / "set", videos="video", info={"features": content})
    found, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings)
    assert "info.json says that videos are in videos/, and they are in video/" in found.warnings
    assert recordings[0].notes == ("info.json says that 'front' is h264, and the video is mpeg4",)


@pytest.mark.parametrize("column", ["task", "__index_level_0__"])
def test_the_task_is_the_instruction(tmp_path: Path, column: str) -> None:
    folder = write_v30(tmp_path / "set", task_column=column)
    entries = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").drop_columns(["tasks"])
    pq.write_table(entries, folder / "meta/episodes/chunk-000/file-000.parquet")
    _, recordings, _ = read_here(folder)
    assert {recording.texts.key for recording in recordings} == {TASK}
    assert [dict(recording.fields) for recording in recordings] == [
        {"split": split} for split in ("train", "train", "val")
    ]
    _, recordings, _ = read_here(folder, order=("constant",))
    assert {recording.texts.key for recording in recordings} == {None}


def test_two_tasks_in_one_episode_are_an_error_unless_they_are_not_asked_for(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", columns={"task_index": lambda rows, n: pa.array([0] * (n - 1) + [1])})
    with (folder / "meta/tasks.jsonl").open("a") as file:
        file.write(json.dumps({"task_index": 1, "task": "Turn around"}) + "\n")
    _, recordings, problems = read_here(folder)
    assert recordings == []
    assert "has 2 tasks, such as 'Go to the door' and 'Turn around'" in str(problems[0])
    _, recordings, problems = read_here(folder, order=("constant",))
    assert len(recordings) == 3
    assert problems == []


def test_a_camera_without_any_video_is_left_out_and_an_episode_without_its_video_is_an_error(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", keys=(KEY, "observation.images.rear"))
    for path in (folder / "videos/chunk-000/observation.images.rear").iterdir():
        path.unlink()
    (folder / f"videos/chunk-000/{KEY}/episode_000001.mp4").unlink()
    found, recordings, problems = read_here(folder)
    assert [recording.name for recording in recordings] == ["episode_000000", "episode_000002"]
    assert recordings[0].spec.camera_names == ("front",)
    assert any("the camera 'rear' is left out" in warning for warning in found.warnings)
    assert "episode_000001.parquet: has no video of the camera 'front'" in str(problems[0])
    (folder / f"videos/chunk-000/{KEY}/episode_000000.mp4").unlink()
    (folder / f"videos/chunk-000/{KEY}/episode_000002.mp4").unlink()
    with pytest.raises(DataError, match=r"has no frames of a camera; the camera 'front' is left out.*'rear'"):
        read_here(folder)


def chunks(rows: Mapping[str, Any], length: int) -> pa.Array:
    """Return, in each row, the actions of this and the next two rows."""
    actions = np.concatenate([actions_of(0, length), np.zeros((2, 2), np.float32)])
    return pa.array([actions[row : row + 3].tolist() for row in range(length)], pa.list_(pa.list_(pa.float32())))


def test_videos_of_v3_without_meta_episodes_name_what_is_lacking(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set")
    shutil.rmtree(folder / "meta" / "episodes")
    with pytest.raises(
        DataError, match=r"meta/episodes is empty or not there, and in LeRobot v3\.0 only it says which"
    ):
        read_here(folder)


def test_missing_episodes_are_counted_as_episodes(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", lengths=(6, 7, 5, 6))
    for index in (1, 3):
        (folder / f"data/chunk-000/episode_{index:06d}.parquet").unlink()
    problems = read_here(folder)[0].problems
    assert [problem.num_episodes for problem in problems] == [2]
    assert pickle.loads(pickle.dumps(problems[0])).num_episodes == 2


def test_empty_meta_files_and_actions_in_chunks(tmp_path: Path) -> None:
    pictures = {KEY: lambda rows, n: pa.array([{"bytes": png(level(0, i)), "path": None} for i in range(n)])}
    folder = write_v21(tmp_path / "set", lengths=(4,), columns={"action": chunks, **pictures})
    for path in (folder / "meta").iterdir():
        path.write_text("")
    found, recordings, problems = read_here(folder)
    assert problems == []
    assert "meta/info.json is empty or not there" in found.warnings[0]
    check_made(folder, recordings, (4,))
    assert recordings[0].notes == (
        "'action' is a chunk of 3 actions in each row: the first is read",
        "no task is recorded: meta/tasks.* is empty or absent, or has no text for the episode",
    )
    assert recordings[0].spec.rate_hz == pytest.approx(FPS)
    assert recordings[0].texts.key is None


@pytest.mark.parametrize("lacking", [("info.json",), ("info.json", "episodes.jsonl", "tasks.jsonl")])
def test_the_cameras_of_videos_are_found_without_info_json(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    folder = write_v21(tmp_path / "set", keys=(KEY, "observation.images.rear"))
    for name in lacking:
        (folder / "meta" / name).write_text("")
    found, recordings, problems = read_here(folder)
    assert problems == []
    assert [warning.partition(": ")[2] for warning in found.warnings] == [
        "meta/info.json is empty or not there; what the files themselves show is taken",
        "meta/info.json declares no camera; those of the files are read: front, rear",
    ]
    check_made(folder, recordings)
    assert {recording.spec.camera_names for recording in recordings} == {("front", "rear")}
    assert [recording.spec.rate_hz for recording in recordings] == pytest.approx([FPS] * 3)


@pytest.mark.parametrize("images", [False, True])
def test_a_folder_of_v3_is_read_without_info_json(tmp_path: Path, images: bool) -> None:
    folder = write_v30(tmp_path / "set", images=images)
    (folder / "meta/info.json").write_text("")
    _, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings)


def test_videos_that_episodes_share_name_what_is_lacking_without_any_meta_file(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set")
    shutil.rmtree(folder / "meta")
    with pytest.raises(DataError, match="meta/episodes is empty or not there, and in LeRobot v3 only it says which"):
        read_here(folder)


def test_pictures_beside_the_table_are_found_without_info_json(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", lengths=(4,), keys=())
    (folder / "meta/info.json").unlink()
    for frame in range(4):
        path = folder / f"images/{KEY}/episode_000000/frame_{frame:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(level(0, frame)))
    _, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings, (4,))


def test_a_folder_of_one_table_and_no_meta_shows_its_episodes(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set", images=True)
    for path in (folder / "meta").rglob("*.*"):
        path.unlink()
    _, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings)


@pytest.mark.parametrize("separator", ["_", "-"])
def test_pictures_beside_the_table(tmp_path: Path, separator: str) -> None:
    empty = {KEY: lambda rows, n: pa.array([{"bytes": None, "path": "/home/me/x.png"}] * n)}
    folder = write_v21(tmp_path / "set", columns=empty, info={"features": features(dtype="image"), "video_path": None})
    for index, length in enumerate((6, 7, 5)):
        place = folder / f"images/{KEY}/episode{separator}{index:06d}"
        place.mkdir(parents=True)
        for frame in range(length):
            (place / f"frame{separator}{frame:06d}.png").write_bytes(png(level(index, frame)))
    for path in folder.rglob("*.mp4"):
        path.unlink()
    _, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings)
    assert len(recordings[1].files) == 8
    (folder / f"images/{KEY}/episode{separator}000002" / f"frame{separator}000003.png").unlink()
    _, recordings, problems = read_here(folder)
    assert len(recordings) == 2
    assert "has no picture of frame 3 of episode 2" in str(problems[0])


def test_missing_episodes_are_one_error_and_the_others_are_read(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", lengths=(4, 4, 4, 4, 4))
    for index in (0, 1, 3):
        (folder / f"data/chunk-000/episode_{index:06d}.parquet").unlink()
    _, recordings, problems = read_here(folder)
    assert [recording.name for recording in recordings] == ["episode_000002", "episode_000004"]
    assert [str(p).split(": ")[1] for p in problems] == [
        "3 of the 5 episodes that its meta files declare are not there"
    ]


def test_a_table_that_nothing_declares_is_named(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set")
    (folder / "data/chunk-000/episode_000007.parquet").write_bytes(b"PAR1")
    found, recordings, _ = read_here(folder)
    assert len(recordings) == 3
    assert any("hold no declared episode and are left out: data/chunk-000/episode_000007" in w for w in found.warnings)


def test_recordings_at_another_rate_than_info_json_says(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", info={"fps": 30})
    _, recordings, problems = read_here(folder)
    assert problems == []
    assert recordings[0].spec.rate_hz == pytest.approx(FPS)
    assert recordings[0].notes == ("info.json says 30 frames a second, the times of the rows 10",)


# --- bad files ---


def nan_in(rows: Mapping[str, Any], length: int) -> pa.Array:
    values = actions_of(0, length)
    values[3, 1] = np.nan
    return pa.array(values.tolist(), pa.list_(pa.float32()))


def null_in(rows: Mapping[str, Any], length: int) -> pa.Array:
    return pa.array([None if row == 2 else [0.0, 1.0] for row in range(length)], pa.list_(pa.float32()))


def ragged(rows: Mapping[str, Any], length: int) -> pa.Array:
    return pa.array([[0.0] * (3 if row == 4 else 2) for row in range(length)], pa.list_(pa.float32()))


def with_gap(rows: Mapping[str, Any], length: int) -> pa.Array:
    return pa.array([row + 3 * (row > 2) for row in range(length)])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"action": nan_in}, r"column 'action' holds NaN or infinity in 1 row\(s\), first in frame 3"),
        ({"action": null_in}, "column 'action' has no value in row 2"),
        ({"action": ragged}, "column 'action' has 3 values in row 4 and 2 before"),
        ({"frame_index": with_gap}, "frame_index goes from 2 to 6 in row 3: rows are missing"),
        ({"action": None}, "has no column of numbers called action or actions; found observation.state, timestamp"),
        ({"action": lambda rows, n: pa.array([1e60] * n)}, "column 'action' holds NaN or infinity"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, columns: Mapping[str, Any], message: str) -> None:
    folder = write_v21(tmp_path / "set", lengths=(6,), columns=columns)
    scanned = scan(folder, tmp_path / "cache")
    assert scanned.recordings == []
    with pytest.raises(DataError, match=f"episode_000000.parquet: {message}"):
        raise scanned.problems[0]


@pytest.mark.parametrize(
    "kind", ["data/chunk-000/episode_000001.parquet", f"videos/chunk-000/{KEY}/episode_000001.mp4"]
)
def test_damaged_files_are_errors_by_name_and_the_others_are_read(tmp_path: Path, kind: str) -> None:
    folder = write_v21(tmp_path / "set")
    path = folder / kind
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    damages = [b"", bytes(len(content)), content[: len(content) // 2], b"version https://git-lfs.github.com/spec/v1\n"]
    for _ in range(5):
        changed = np.frombuffer(content, np.uint8).copy()
        changed[rng.integers(len(changed), size=20)] = rng.integers(256, size=20)
        damages.append(changed.tobytes())
    for number, damage in enumerate(damages):
        path.write_bytes(damage)
        scanned = scan(folder, tmp_path / f"cache{number}")
        names = [recording.name for recording in scanned.recordings]
        assert names[0] == "episode_000000"
        assert names[-1] == "episode_000002"
        if number < 4:
            assert len(names) == 2
            assert path.name in str(scanned.problems[0])
            assert not isinstance(scanned.problems[0], UnreadableNowError)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264", "libsvtav1"])
def test_damaged_pixels_are_not_made_up(tmp_path: Path, codec: str) -> None:
    folder = write_v21(tmp_path / "set", lengths=(20,), codec=codec)
    path = folder / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    _, [recording], _ = read_here(folder)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    end = content.rindex(b"moov") if b"moov" in content[start:] else len(content)
    place = start + (end - start) * 9 // 10  # the first part is text of the encoder
    content[place : place + 20] = bytes(range(100, 120))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"episode_000000.mp4"):
        frames_of(folder, recording)


def test_a_file_without_permission_may_be_good(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", lengths=(4,))
    source = LeRobotSource(folder=folder)
    [file] = source.find().files
    drained(source.read(file))  # imports what reading needs, which nobody may read in some environments
    path = folder / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    path.chmod(0)
    for place in (*folder.parents, folder):
        if place.is_relative_to(tmp_path.parents[2]):
            place.chmod(place.stat().st_mode | 0o755)
    [problem] = ask(read_as_nobody, folder, source, file)
    assert isinstance(problem, UnreadableNowError)
    assert "may not be read by this user" in str(problem)


def read_as_nobody(path: Path, source: LeRobotSource, file: RecordingFile) -> object:
    return as_nobody(path, partial(_read_all, source, file))


def _read_all(source: LeRobotSource, file: RecordingFile, path: Path) -> object:
    return drained(source.read(file))


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    other = write_v21(tmp_path / "other")
    folder = write_v21(tmp_path / "set")
    edit_info(folder, data_path="../other/data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet")
    (folder / "data/chunk-000/episode_000001.parquet").unlink()
    (folder / "data/chunk-000/episode_000002.parquet").unlink()
    (folder / "data/chunk-000/episode_000002.parquet").symlink_to(other / "data/chunk-000/episode_000002.parquet")
    _, recordings, problems = read_here(folder)
    assert [recording.name for recording in recordings] == ["episode_000000"]
    assert "lies outside of it" in str(problems[0])
    assert "are not there: 1..2" in str(problems[1])
    edit_info(folder, data_path="{episode_index:>999999999}{0.__class__}")
    _, recordings, _ = read_here(folder)
    assert [recording.name for recording in recordings] == ["episode_000000"]


def test_a_snapshot_of_the_hub_is_made_of_links_that_are_inside(tmp_path: Path) -> None:
    written = write_v21(tmp_path / "written")
    folder = tmp_path / "datasets--me--doors/snapshots/0123abc"
    blobs = tmp_path / "datasets--me--doors/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in written.rglob("*") if p.is_file())):
        path.rename(blobs / str(number))
        link = folder / path.relative_to(written)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    _, recordings, problems = read_here(folder)
    assert problems == []
    check_made(folder, recordings)


def test_a_playlist_that_names_other_files_is_no_video(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", lengths=(4,))
    path = folder / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    secret = path.rename(tmp_path / "secret.mp4")
    for text in (f"ffconcat version 1.0\nfile '{secret}'\n", f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"):
        path.write_text(text)
        _, recordings, problems = read_here(folder)
        assert recordings == []
        assert "so it is no MP4, Matroska or AVI file" in str(problems[0])


def test_a_picture_with_another_size_or_without_content_is_named(tmp_path: Path) -> None:
    for odd, message in ((png(9, side=20), "in row 8 has 20x20 px, and the first 64x64"), (b"", "in row 8 is empty")):

        def pictures(rows: Mapping[str, Any], length: int, odd: bytes = odd) -> pa.Array:
            first = rows["index"][0].as_py()
            return pa.array([{"bytes": odd if first + i == 8 else png(7), "path": None} for i in range(length)])

        folder = write_v30(tmp_path / message[:12].replace(" ", "_"), images=True, columns={KEY: pictures})
        _, recordings, _ = read_here(folder)
        frames_of(folder, recordings[0])
        with pytest.raises(DataError, match=message):
            frames_of(folder, recordings[1])


def test_recognition_by_content(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set")
    assert is_lerobot(folder)
    (folder / "meta/info.json").write_text("")
    assert is_lerobot(folder), "by its tables"
    assert not is_lerobot(folder / "data")
    assert not is_lerobot(tmp_path)
    assert not is_lerobot(tmp_path / "none")


def memory_of(path: Path, rows: tuple[int, int]) -> tuple[int, int]:
    """Return the bytes of all pictures of a table, and by how much reading them made this process larger."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    num_bytes = sum(len(content) for content, _ in pictures_in_table(path, KEY, rows))
    return num_bytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def noise_table(path: Path, *, length: int, rows_in_page: int) -> None:
    noise = [np.random.default_rng(seed).bytes(900_000) for seed in range(3)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({KEY: pa.array([{"bytes": noise[row % 3], "path": None} for row in range(length)], kind)})
    pq.write_table(table, path, use_dictionary=False, write_batch_size=rows_in_page)


def test_memory_does_not_grow_with_the_pictures_of_a_row_group(tmp_path: Path) -> None:
    noise_table(tmp_path / "t.parquet", length=200, rows_in_page=8)
    num_bytes, growth = ask(memory_of, tmp_path / "t.parquet", (0, 200))
    assert num_bytes == 200 * 900_000
    assert growth < 100 * 2**20, "a page of 8 pictures, and pyarrow itself"


@pytest.mark.slow
def test_a_page_that_is_too_large_for_a_reading_process_is_an_error_that_says_so(tmp_path: Path) -> None:
    noise_table(tmp_path / "t.parquet", length=700, rows_in_page=1024)
    with pytest.raises(DataError, match="as one page holds too many rows"):
        ask(memory_of, tmp_path / "t.parquet", (0, 700))


def test_a_named_pipe_among_the_tables_is_not_waited_for(tmp_path: Path) -> None:
    chunk = tmp_path / "data/chunk-000"
    chunk.mkdir(parents=True)
    os.mkfifo(chunk / "episode_000000.parquet")
    assert not is_lerobot(tmp_path)
    (chunk / "episode_000001.parquet").write_bytes(b"PAR1")
    assert is_lerobot(tmp_path)
