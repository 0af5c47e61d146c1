"""Bags of every format give the frames, commands, states and instructions that their messages hold."""

from __future__ import annotations

import math
import pickle
import random
import shlex
import sqlite3
import struct
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from made_bags import (
    KINDS,
    START_NS,
    Message,
    compressed_image,
    drive,
    encoded,
    joints,
    odometry,
    picture,
    raw_image,
    text,
    twist,
    twist_stamped,
    write_drive,
)
from PIL import Image
from shared_data import shared

from mobile_vla.data.episodes import read_recordings
from mobile_vla.data.sources.bags.options import BagOptions
from mobile_vla.data.sources.bags.source import BagSource
from mobile_vla.data.sources.contract import Recording
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.spec import known_signal

pytest.importorskip("rosbags")


_folder = tempfile.TemporaryDirectory()
CACHE = Path(_folder.name)

TWIST = ("linear_x", "linear_y", "linear_z", "angular_x", "angular_y", "angular_z")


def options(**changes: Any) -> BagOptions:
    values: dict[str, Any] = {
        "image_topic": "auto",
        "command_topic": "auto",
        "state_topics": [],
        "instruction_topic": "auto",
        "max_command_age_s": 0.5,
        "max_state_age_s": 0.5,
        "max_gap_s": 1.0,
    }
    return BagOptions(**(values | changes))


def source_of(path: Path, **changes: Any) -> BagSource:
    return BagSource(folder=path, options=options(**changes))


def recordings_of(path: Path, **changes: Any) -> list[Recording]:
    scanned = read_recordings(source_of(path, **changes), cache_dir=CACHE, num_workers=1)
    assert list(scanned.problems) == []
    return list(scanned.recordings)


def read_one(path: Path, **changes: Any) -> Recording:
    (recording,) = recordings_of(path, **changes)
    return recording


def problem_of(path: Path, **changes: Any) -> str:
    scanned = read_recordings(source_of(path, **changes), cache_dir=CACHE, num_workers=1)
    assert list(scanned.recordings) == []
    (problem,) = scanned.problems
    assert str(problem).startswith(f"{path}: ")
    assert "this is a bug" not in str(problem)
    return str(problem)


def images_of(path: Path, recording: Recording, camera: str = "camera", **changes: Any) -> np.ndarray:
    return np.concatenate(list(source_of(path, **changes).frames(recording, camera)))


def write(path: Path, messages: list[Message], kind: str = "mcap") -> Path:
    return KINDS[kind](path / "bag", messages)


def frames_at(*times_ms: float) -> list[Message]:
    return [compressed_image(at, picture(i), stamp_ms=at) for i, at in enumerate(times_ms)]


# The examples, against readers of this test's own: sqlite3 and the layout of CDR, or rosbags' reader without its types.


def raw_messages(bag: Path) -> list[tuple[str, int, bytes]]:
    if found := list(bag.glob("*.db3")):
        query = (
            "select topics.name, timestamp, data from messages join topics on topics.id = topic_id order by timestamp"
        )
        return list(sqlite3.connect(f"file:{found[0]}?immutable=1", uri=True).execute(query))
    from rosbags.rosbag2 import Reader

    with Reader(bag) as reader:
        return [(connection.topic, at, bytes(content)) for connection, at, content in reader.messages()]


@pytest.mark.parametrize("name", ["rosbag2_mcap", "rosbag2_sqlite3", "mcap_ros2"])
def test_the_examples_agree_with_another_reader(name: str):
    folder = shared("formats") / name
    for recording in recordings_of(folder):
        messages = raw_messages(recording.path)
        # CDR: 4 bytes of encapsulation, then the stamp, or the six components.
        stamps = [struct.unpack_from("<iI", raw, 4) for topic, _, raw in messages if topic.endswith("compressed")]
        pictures = [raw[raw.index(b"\xff\xd8") :] for topic, _, raw in messages if topic.endswith("compressed")]
        commands = [(at, struct.unpack_from("<6d", raw, 4)) for topic, at, raw in messages if topic == "/cmd_vel"]
        texts = [raw[8:-1].split(b"\0")[0].decode() for topic, _, raw in messages if topic == "/instruction"]
        times = [sec * 10**9 + nanosec for sec, nanosec in stamps]
        expected = [[values for at, values in commands if at <= time] for time in times]
        kept = [i for i, values in enumerate(expected) if values]
        np.testing.assert_array_equal(recording.actions, np.array([expected[i][-1] for i in kept], np.float32))
        assert recording.texts.key == (texts[0] if texts else None)
        images = images_of(folder, recording)
        assert len(images) == recording.num_frames == len(kept) == 27
        for frame in random.Random(0).sample(range(len(kept)), 6):
            np.testing.assert_array_equal(images[frame], np.asarray(Image.open(BytesIO(pictures[kept[frame]]))))


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_drive(tmp_path: Path, kind: str):
    bag = write_drive(tmp_path / "episode_1", kind)
    recording = read_one(bag)
    assert recording.name == "episode_1"
    # The stamps are 20 ms before the recording, and the commands 30 ms after it: frame i has command i - 1.
    expected = [[i / 10, 0, 0, 0, 0, -i / 20] for i in range(9)]
    np.testing.assert_array_equal(recording.actions, np.array(expected, np.float32))
    np.testing.assert_array_equal(images_of(bag, recording), [picture(i) for i in range(1, 10)])
    assert recording.spec.action_names == TWIST
    assert [recording.spec.actions[i] for i in (0, 1, 5)] == [known_signal(TWIST[i]) for i in (0, 1, 5)]
    assert recording.spec.rate_hz == pytest.approx(10)
    assert recording.spec.camera_names == ("camera",)
    assert recording.texts.key == "Go left"
    assert recording.fields == {}
    assert recording.notes == ("1 of 10 frames are left out: before the first of /cmd_vel",)
    assert pickle.loads(pickle.dumps(source_of(bag))) == source_of(bag)


def test_no_command_is_from_the_future_or_too_old(tmp_path: Path):
    bag = write(tmp_path, [*frames_at(0, 100, 200, 300, 400, 500), twist(100, 1), twist(100.001, 2), twist(450, 3)])
    assert read_one(bag, max_command_age_s=None).actions[:, 0].tolist() == [1, 2, 2, 2, 3]
    recording = read_one(bag, max_command_age_s=0.2)
    assert recording.actions[:, 0].tolist() == [1, 2, 2, 3]
    assert recording.notes == (
        "1 of 6 frames are left out: before the first of /cmd_vel",
        "1 of 6 frames are left out: the newest of /cmd_vel is older than 0.2 s (dataset.bag.max_command_age_s)",
    )
    np.testing.assert_array_equal(images_of(bag, recording), [picture(i) for i in (1, 2, 3, 5)])
    assert "of 2 frames of /camera/image_raw/compressed none has all it needs" in problem_of(
        write(tmp_path / "late", [*frames_at(0, 100), twist(150, 1)])
    )


def test_header_stamps_are_used_where_they_are_of_the_recorders_clock(tmp_path: Path):
    def times(*stamps: float | None) -> tuple[list[float], str]:
        images = [compressed_image(100 * i, picture(i), stamp_ms=stamp) for i, stamp in enumerate(stamps)]
        commands = [twist(i, i) for i in range(-300, 300)]
        place = tmp_path / "_".join(map(str, stamps))
        recording = read_one(write(place, [*images, *commands]), max_command_age_s=None)
        return recording.actions[:, 0].tolist(), " ".join(recording.notes)

    assert times(-50, 60, 170) == ([-50, 60, 170], "")
    assert times(None, None, None) == ([0, 100, 200], "")  # no stamps at all are no oddity
    actions, notes = times(-2000, -1900, -1800)
    assert actions == [0, 100, 200]
    assert "are 2 to 2 s before their recording: another clock; the times of recording are used" in notes
    assert "go back" in times(0, 99, 98)[1]
    assert "another clock" in times(0, 100, 250)[1]


def test_stamped_commands_count_by_their_stamps(tmp_path: Path):
    commands = [twist_stamped(100 * i + 60, 100 * i, i) for i in range(3)]
    assert read_one(write(tmp_path, [*frames_at(0, 100, 200), *commands])).actions[:, 0].tolist() == [0, 1, 2]


def test_an_episode_ends_where_the_camera_or_the_commands_pause(tmp_path: Path):
    times = [0, 100, 200, 2000, 2100, 4000, 6000, 6100, 6200]
    commands = [twist(at - 10, at) for at in times if at != 6100]
    bag = write(tmp_path, [*frames_at(*times), *commands, text(0, "one"), text(5990, "two"), text(6150, "three")])
    recordings = recordings_of(bag, max_command_age_s=0.1)
    assert [recording.name for recording in recordings] == ["bag_000", "bag_001", "bag_002"]
    assert [recording.actions[:, 0].tolist() for recording in recordings] == [[0, 100, 200], [2000, 2100], [6000, 6200]]
    assert [recording.texts.key for recording in recordings] == ["one", "one", "two"]
    assert "the instruction changes within the episode: two; three" in recordings[2].notes
    assert "1 frames stand alone between two gaps (dataset.bag.max_gap_s) and are left out" in recordings[0].notes
    for recording, numbers in zip(recordings, [(0, 1, 2), (3, 4), (6, 8)], strict=True):
        np.testing.assert_array_equal(images_of(bag, recording), [picture(i) for i in numbers])
    assert len({str(recording.part) for recording in recordings}) == 3
    assert read_one(bag, max_command_age_s=None, max_gap_s=None).num_frames == 9


@pytest.mark.parametrize("num_lost", [1, 2, 3, 5])
def test_no_window_reaches_over_a_hole_of_frames_that_were_dropped(tmp_path: Path, num_lost: int):
    with_command = [*range(5), *range(5 + num_lost, 10 + num_lost)]
    commands = [twist(100 * i - 1, i) for i in with_command]
    bag = write(tmp_path, [*frames_at(*range(0, 100 * (10 + num_lost), 100)), *commands])
    recordings = recordings_of(bag, max_command_age_s=0.05)
    numbers = [recording.actions[:, 0].tolist() for recording in recordings]
    assert numbers == ([with_command] if num_lost <= 2 else [with_command[:5], with_command[5:]])
    notes = " ".join(recordings[0].notes)
    assert ("a new episode begins after each hole of more than 2 frames that are left out (1)" in notes) == (
        num_lost > 2
    )
    assert ("in 1 places two frames of an episode are up to 0.3 s apart, and mostly 0.1 s" in notes) == (num_lost == 2)
    whole = read_one(bag, max_command_age_s=0.05, max_gap_s=None)
    assert whole.num_frames == 10
    assert ("places two frames of an episode are up to" in " ".join(whole.notes)) == (num_lost > 1)


def test_the_first_text_within_an_episode_counts_where_none_was_before_it(tmp_path: Path):
    messages = [*frames_at(0, 100, 200), twist(-1, 1), text(50, " "), text(150, "Go")]
    assert read_one(write(tmp_path, messages)).texts.key == "Go"
    assert read_one(write(tmp_path / "none", messages), instruction_topic=None).texts.key is None
    assert "expected std_msgs/msg/String" in problem_of(tmp_path / "none" / "bag", instruction_topic="/cmd_vel")


@pytest.mark.parametrize(
    ("topics", "chosen"),
    [
        (["/task_text"], "/task_text"),
        (["/operator"], "/operator"),
        (["/chatter", "/ui/task"], "/ui/task"),
        (["/task", "/robot/instruction"], "/robot/instruction"),
        (["/task_status", "/current_task"], "/current_task"),
        (["/task", "/language"], None),
        (["/robot_description"], None),
        (["/robot_description", "/say"], "/say"),
        (["/task/status"], None),
    ],
)
def test_the_topic_of_the_instruction_is_found_where_it_is_clear(tmp_path: Path, topics: list[str], chosen: str | None):
    texts = [text(0, f"On {topic}", topic=topic) for topic in topics]
    bag = write(tmp_path, [*frames_at(0, 100), twist(-1, 1), *texts])
    found = read_one(bag)
    assert (found.texts.key, found.texts.place) == ((f"On {chosen}", f"topic {chosen}") if chosen else (None, ""))
    similar = ("topic '/language'", "topic '/task'") if topics == ["/task", "/language"] else ()
    assert found.texts.similar_names == similar
    assert read_one(bag, instruction_topic=topics[0]).texts.key == f"On {topics[0]}"
    unread = [topic for topic in sorted(topics) if topic != chosen]
    assert [note for note in found.notes if "not read" in note] == [
        f"topics that are not read: {' and '.join(f'{topic} (std_msgs/String)' for topic in unread)}"
    ] * bool(unread)


def test_topics_that_may_be_a_state_are_named_with_the_option_that_reads_them(tmp_path: Path):
    moving = [joints(-1, {"a": 1.0}, topic="/robot/joint_states"), odometry(-1, 0, 0, 0, topic="/my-robot/odom")]
    unused = "/drive (my_msgs/Drive)"
    bag = write(tmp_path, [*frames_at(0, 100), twist(-1, 1), drive(-1, 0, [1, 2]), *moving])
    [note] = read_one(bag).notes
    before, _, rest = note.partition(" (as state some would be: ")
    remedy, _, listed = rest.partition(" ): ")
    assert before == "topics that are not read"
    assert listed == "/my-robot/odom (nav_msgs/Odometry), /robot/joint_states (sensor_msgs/JointState) and " + unused
    option, state = shlex.split(remedy)
    assert state == "model.state=all"
    [parsed] = OverridesParser.create().parse_overrides([option])
    assert parsed.key_or_group == "dataset.bag.state_topics"
    value = [str(topic) for topic in cast("list[str]", parsed.value())]
    recording = read_one(bag, state_topics=value)
    assert recording.spec.state_names[-1] == "a"
    assert recording.notes == (f"topics that are not read: {unused}",)
    assert not read_one(bag, state_topics=["/drive", *value]).notes


def test_further_cameras_give_the_newest_image_at_or_before_each_frame(tmp_path: Path):
    rear = [
        raw_image(at, picture(100 + i)[..., ::-1], "bgr8", topic="/rear/image_raw", stamp_ms=at)
        for i, at in enumerate([-60, 90, 110, 210])
    ]
    messages = [*rear, twist(-100, 1)]
    messages += [compressed_image(100 * i, picture(i), topic="/front/image", stamp_ms=100 * i) for i in range(5)]
    bag = write(tmp_path, messages)
    recording = read_one(bag)
    assert recording.spec.camera_names == ("front", "rear")
    np.testing.assert_array_equal(images_of(bag, recording, "front"), [picture(i) for i in range(5)])
    np.testing.assert_array_equal(images_of(bag, recording, "rear"), [picture(100 + i) for i in (0, 1, 2, 3, 3)])
    recording = read_one(bag, image_topic=["/rear/image_raw", "/front/image"], max_state_age_s=0.05)
    assert recording.spec.camera_names == ("rear", "front")
    np.testing.assert_array_equal(images_of(bag, recording, "rear"), [picture(100 + i) for i in (2, 3)])
    np.testing.assert_array_equal(images_of(bag, recording, "front"), [picture(i) for i in (1, 2)])
    assert read_one(bag, image_topic="/rear/image_raw").spec.camera_names == ("rear",)


COLOURS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2, 0), "bgra8": (2, 1, 0, 1)}


@pytest.mark.parametrize("encoding", COLOURS)
@pytest.mark.parametrize("padding", [0, 5])
def test_raw_images_are_rgb_whatever_their_encoding(tmp_path: Path, encoding: str, padding: int):
    images = [raw_image(100 * i, picture(i)[..., list(COLOURS[encoding])], encoding, padding=padding) for i in range(3)]
    bag = write(tmp_path, [*images, twist(-1, 1)])
    np.testing.assert_array_equal(images_of(bag, read_one(bag)), [picture(i) for i in range(3)])
    assert BagSource.states_channel_order


@pytest.mark.parametrize("kind", ["mcap", "ros1"])
def test_grey_and_compressed_images_are_rgb_too(tmp_path: Path, kind: str):
    grey = picture(0)[..., 0]
    bag = write(tmp_path / "grey", [*(raw_image(100 * i, grey, "mono8") for i in range(2)), twist(-1, 1)], kind)
    np.testing.assert_array_equal(images_of(bag, read_one(bag))[1], np.repeat(grey[..., None], 3, axis=2))
    jpeg = encoded(picture(1), "JPEG")
    for format_text, order in [
        ("jpeg", (0, 1, 2)),
        ("bgr8; jpeg compressed bgr8", (0, 1, 2)),
        ("rgb8; jpeg compressed bgr8", (0, 1, 2)),
        ("rgb8; jpeg compressed rgb8", (2, 1, 0)),  # what was given to OpenCV as BGR was RGB
    ]:
        messages = [compressed_image(100 * i, jpeg, format_text=format_text) for i in range(2)]
        bag = write(tmp_path / format_text.replace(" ", ""), [*messages, twist(-1, 1)], kind)
        np.testing.assert_array_equal(
            images_of(bag, read_one(bag))[0], np.asarray(Image.open(BytesIO(jpeg)))[..., order]
        )


def test_images_that_are_not_read_are_named(tmp_path: Path):
    depth = [raw_image(100 * i, picture(i)[..., :2], "16UC1", topic="/depth/image_raw") for i in range(3)]
    packed = [compressed_image(100 * i, b"123", format_text="16UC1; compressedDepth", topic="/d/c") for i in range(3)]
    messages = [*frames_at(0, 100, 200), *depth, *packed, twist(-1, 1)]
    bag = write(tmp_path, messages)
    recording = read_one(bag)
    assert recording.spec.camera_names == ("camera",)
    assert "topic /depth/image_raw is left out: its encoding '16UC1' is not read" in recording.notes
    assert "topic /d/c is left out: its encoding '16UC1; compressedDepth' is not read" in recording.notes
    message = problem_of(bag, image_topic=["/camera/image_raw/compressed", "/depth/image_raw"])
    assert "topic /depth/image_raw has the encoding '16UC1'; expected rgb8, bgr8, rgba8, bgra8, mono8, or a" in message
    assert "has the encoding" in problem_of(write(tmp_path / "alone", [*depth, twist(-1, 1)]))
    sixteen = encoded((picture(1)[..., 0].astype(np.uint16) * 257), "PNG")
    bag = write(tmp_path / "png", [*(compressed_image(100 * i, sixteen) for i in range(2)), twist(-1, 1)])
    assert "image 0 has 16 or more bits a channel" in problem_of(bag)


def test_a_raw_image_and_its_compressed_copy_are_one_camera(tmp_path: Path):
    raw = [raw_image(100 * i, picture(i), "rgb8", topic="/camera/image_raw") for i in range(2)]
    bag = write(tmp_path, [*raw, *frames_at(0, 100), twist(-1, 1)])
    assert list(read_one(bag).part["cameras"]) == ["camera"]
    assert read_one(bag).part["cameras"]["camera"]["topic"] == "/camera/image_raw"


def test_an_image_that_is_not_whole_is_named(tmp_path: Path):
    jpeg = encoded(picture(1), "JPEG")
    bad = [compressed_image(0, jpeg), compressed_image(100, jpeg[:-40]), compressed_image(200, jpeg)]
    bag = write(tmp_path / "cut", [*bad, twist(-1, 1)])
    with pytest.raises(DataError, match="bag: topic /camera/image_raw/compressed: image 1 is not a readable image"):
        images_of(bag, read_one(bag))
    short = raw_image(100, picture(1), "rgb8")
    images = [raw_image(0, picture(0), "rgb8"), Message(short.topic, 100, short.type, lambda s: _cut(short.make(s)))]
    bag = write(tmp_path / "short", [*images, twist(-1, 1)])
    with pytest.raises(DataError, match=r"image 1 holds 500 bytes with 48 a row; a 16x12 image of rgb8 has 576"):
        images_of(bag, read_one(bag))
    sizes = [raw_image(0, picture(0), "rgb8"), raw_image(100, picture(0, (6, 8)), "rgb8")]
    bag = write(tmp_path / "sizes", [*sizes, twist(-1, 1)])
    with pytest.raises(DataError, match="image 1 of the episode is 8x6, but the bag began with 16x12 px"):
        images_of(bag, read_one(bag))


def _cut(message: Any) -> Any:
    message.data = message.data[:500]
    return message


@pytest.mark.parametrize("kind", ["sqlite3", "ros1"])
def test_states_are_joined_by_name(tmp_path: Path, kind: str):
    messages = [*frames_at(0, 100, 200), twist(-1, 1)]
    messages += [joints(100 * i - 5, {"hip": i, "knee/left": -i}) for i in range(3)]
    messages += [odometry(100 * i - 7, i, math.pi / 2, 0.25) for i in range(3)]
    recording = read_one(write(tmp_path, messages, kind), state_topics=["/joint_states", "/odom"])
    names = ("hip", "knee_left", "x", "y", "yaw", "linear_x", "linear_y", "angular_z")
    assert recording.spec.state_names == names
    expected = [[i, -i, i, 2, math.pi / 2, 0.25, 0, 0.5] for i in range(3)]
    np.testing.assert_allclose(recording.state, expected, rtol=1e-6)
    hip, knee, _, y, yaw, *_ = recording.spec.state
    assert (hip.kind, hip.unit, hip.rest, knee.flips) == ("position", None, None, None)
    assert (y.unit, y.flips, yaw.unit, yaw.kind) == ("m", True, "rad", "position")
    assert recording.actions.shape == (3, 6)


def test_joints_that_several_nodes_send_are_put_together(tmp_path: Path):
    messages = [
        *frames_at(0, 100, 200),
        twist(-1, 1),
        joints(-2, {"b": 1}),
        joints(50, {"a": 5}),
        joints(150, {"b": 2}),
    ]
    recording = read_one(write(tmp_path, messages), state_topics=["/joint_states"])
    assert recording.spec.state_names == ("a", "b")
    assert recording.state.tolist() == [[5, 1], [5, 2]]
    assert recording.notes == ("1 of 3 frames are left out: before the first of /joint_states",)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3", "ros1"])
def test_commands_of_a_type_that_only_the_bag_defines(tmp_path: Path, kind: str):
    messages = [*frames_at(0, 100), drive(-1, 0.5, (1, 2)), drive(90, 0.25, (3, 4)), twist(-2, 7)]
    bag = write(tmp_path, messages, kind)
    recording = read_one(bag, command_topic="/drive")
    assert recording.spec.action_names == ("speed", "wheels_0", "wheels_1", "brake")
    assert recording.actions.tolist() == [[0.5, 1, 2, 1], [0.25, 3, 4, 1]]
    assert {(signal.unit, signal.kind) for signal in recording.spec.actions} == {(None, "unknown")}
    both = read_one(bag, command_topic=["/cmd_vel", "/drive"])
    assert both.spec.action_names == (*TWIST, "speed", "wheels_0", "wheels_1", "brake")


def test_equal_names_of_two_topics_get_that_of_their_topic(tmp_path: Path):
    messages = [*frames_at(0, 100), twist(-1, 1, z=0.5), twist(-1, 2, topic="/arm/cmd_vel")]
    recording = read_one(write(tmp_path, messages), command_topic=["/cmd_vel", "/arm/cmd_vel"])
    assert recording.spec.action_names == tuple(
        f"{topic}_{name}" for topic in ("cmd_vel", "arm_cmd_vel") for name in TWIST
    )
    assert recording.spec.actions[6].unit == "m/s"
    assert recording.actions[0].tolist() == [1, 0, 0.5, 0, 0, 0, 2, 0, 0, 0, 0, 0]


def test_bags_of_one_set_have_the_same_signals_whatever_their_values(tmp_path: Path):
    for number, height in enumerate((0.0, 0.25, 0.0)):
        KINDS["mcap"](tmp_path / f"bag_{number}", [*frames_at(0, 100), twist(-1, 1, z=height)])
    recordings = recordings_of(tmp_path)
    assert {recording.spec.action_names for recording in recordings} == {TWIST}
    assert {recording.optional for recording in recordings} == {TWIST[1:5]}
    assert [recording.actions[0, 2] for recording in recordings] == [0, 0.25, 0]
    assert [recording.fields for recording in recordings] == [{"bag": f"bag_{number}"} for number in range(3)]


def test_what_cannot_be_chosen_is_listed(tmp_path: Path):
    two = write(tmp_path / "two", [*frames_at(0, 100), twist(-1, 1), twist(-1, 2, topic="/nav/cmd_vel")])
    message = problem_of(two)
    assert "holds 2 topics of geometry_msgs/msg/Twist or geometry_msgs/msg/TwistStamped" in message
    assert "/nav/cmd_vel (geometry_msgs/msg/Twist, 1)" in message
    assert "dataset.bag.command_topic" in message
    assert read_one(two, command_topic="/nav/cmd_vel").actions[0, 0] == 2
    none = write(tmp_path / "none", [*frames_at(0, 100), text(0, "Go")])
    assert "holds no topic of geometry_msgs/msg/Twist" in problem_of(none)
    assert "holds no topic of sensor_msgs/msg/Image" in problem_of(write(tmp_path / "blind", [twist(0, 1)]))
    message = problem_of(two, command_topic="/cmd_vel", state_topics=["/odom"])
    assert "dataset.bag.state_topics: /odom is not in the bag; found /camera" in message
    assert "expected sensor_msgs/msg/Image or" in problem_of(two, image_topic="/cmd_vel")


def test_nan_is_refused_with_its_place(tmp_path: Path):
    bag = write(tmp_path, [*frames_at(0, 100), twist(-1, 1), twist(50, math.nan)])
    assert "topic /cmd_vel holds NaN or infinity in linear_x, first in message 1" in problem_of(bag)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_command_age_s": 0}, "max_command_age_s=0: expected a number of seconds above 0, or null"),
        ({"max_gap_s": math.nan}, "max_gap_s=nan"),
        ({"image_topic": []}, "image_topic: is empty"),
        ({"state_topics": ["/a", "/a"]}, "expected each topic once"),
    ],
)
def test_options_that_cannot_work_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        options(**changes)


def test_the_log_time_of_the_start_is_that_of_the_bag(tmp_path: Path):
    recording = read_one(write_drive(tmp_path / "a"))
    assert recording.part["first_ns"] == START_NS + 80_000_000
