"""Write small bags of every format with the writers of ``rosbags``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rosbags import rosbag1, rosbag2
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

START_NS = 1_700_000_000_000_000_000
DRIVE_TYPE = "my_msgs/msg/Drive"
_DRIVE = "float32 speed\nfloat64[2] wheels\nbool brake\nstring note\n"

ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)
for _store in (ROS1, ROS2):
    _store.register(get_types_from_msg(_DRIVE, DRIVE_TYPE))


@dataclass(frozen=True)
class Message:
    """One message: its topic, when it was recorded in ms after the start, its type, and what it holds."""

    topic: str
    at_ms: float
    type: str
    make: Callable[[Any], Any]


def _header(store: Any, stamp_ms: float | None) -> Any:
    time_ns = 0 if stamp_ms is None else START_NS + round(stamp_ms * 1e6)
    stamp = store.types["builtin_interfaces/msg/Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    header = store.types["std_msgs/msg/Header"]
    return header(0, stamp, "base") if store is ROS1 else header(stamp, "base")


def _twist(store: Any, linear: Sequence[float], angular: Sequence[float]) -> Any:
    vector = store.types["geometry_msgs/msg/Vector3"]
    return store.types["geometry_msgs/msg/Twist"](vector(*map(float, linear)), vector(*map(float, angular)))


def twist(
    at_ms: float, x: float, y: float = 0.0, yaw: float = 0.0, *, topic: str = "/cmd_vel", z: float = 0.0
) -> Message:
    return Message(topic, at_ms, "geometry_msgs/msg/Twist", lambda store: _twist(store, (x, y, z), (0, 0, yaw)))


def twist_stamped(at_ms: float, stamp_ms: float, x: float, *, topic: str = "/cmd_vel") -> Message:
    name = "geometry_msgs/msg/TwistStamped"
    return Message(topic, at_ms, name, lambda s: s.types[name](_header(s, stamp_ms), _twist(s, (x, 0, 0), (0, 0, 0))))


def text(at_ms: float, content: str, *, topic: str = "/instruction") -> Message:
    return Message(topic, at_ms, "std_msgs/msg/String", lambda s: s.types["std_msgs/msg/String"](data=content))


def drive(at_ms: float, speed: float, wheels: Sequence[float], *, topic: str = "/drive") -> Message:
    return Message(
        topic, at_ms, DRIVE_TYPE, lambda s: s.types[DRIVE_TYPE](speed, np.array(wheels, np.float64), True, "a")
    )


def joints(at_ms: float, positions: Mapping[str, float], *, topic: str = "/joint_states") -> Message:
    name = "sensor_msgs/msg/JointState"
    values, none = np.array(list(positions.values()), np.float64), np.zeros(0)
    return Message(topic, at_ms, name, lambda s: s.types[name](_header(s, at_ms), list(positions), values, none, none))


def odometry(at_ms: float, x: float, yaw: float, speed: float, *, topic: str = "/odom") -> Message:
    name = "nav_msgs/msg/Odometry"

    def make(store: Any) -> Any:
        types = store.types
        point = types["geometry_msgs/msg/Point"](x, 2.0, 0.0)
        turn = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2)))
        pose = types["geometry_msgs/msg/PoseWithCovariance"](types["geometry_msgs/msg/Pose"](point, turn), np.zeros(36))
        moving = types["geometry_msgs/msg/TwistWithCovariance"](_twist(store, (speed, 0, 0), (0, 0, 0.5)), np.zeros(36))
        return types[name](_header(store, at_ms), "base", pose, moving)

    return Message(topic, at_ms, name, make)


def raw_image(
    at_ms: float,
    pixels: np.ndarray,
    encoding: str,
    *,
    topic: str = "/camera/image_raw",
    stamp_ms: float | None = None,
    padding: int = 0,
) -> Message:
    """An image whose ``pixels`` [Y, X, channels] are in the order of ``encoding``; ``padding`` ends each row."""
    name = "sensor_msgs/msg/Image"
    rows, columns = pixels.shape[:2]
    content = pixels.reshape(rows, -1).view(np.uint8)
    content = np.pad(content, ((0, 0), (0, padding)), constant_values=77)
    data, step = content.reshape(-1), content.shape[1]
    return Message(
        topic, at_ms, name, lambda s: s.types[name](_header(s, stamp_ms), rows, columns, encoding, 0, step, data)
    )


def compressed_image(
    at_ms: float,
    pixels: np.ndarray | bytes,
    *,
    kind: str = "PNG",
    format_text: str | None = None,
    topic: str = "/camera/image_raw/compressed",
    stamp_ms: float | None = None,
) -> Message:
    """An image of RGB ``pixels``, encoded as ``kind``; bytes are taken as they are."""
    name = "sensor_msgs/msg/CompressedImage"
    content = pixels if isinstance(pixels, bytes) else encoded(pixels, kind)
    data = np.frombuffer(content, np.uint8)
    said = kind.lower() if format_text is None else format_text
    return Message(topic, at_ms, name, lambda s: s.types[name](_header(s, stamp_ms), said, data))


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def picture(number: int, shape: tuple[int, int] = (12, 16)) -> np.ndarray:
    """Noise [Y, X, 3] in which every pixel differs from its neighbours, another one for each ``number``."""
    return np.random.default_rng(number).integers(0, 256, (*shape, 3)).astype(np.uint8)


def _write_ros2(path: Path, messages: Sequence[Message], storage: StoragePlugin, mode: CompressionMode | None) -> Path:
    writer = rosbag2.Writer(path, version=9, storage_plugin=storage)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        _write(writer, messages, ROS2, ROS2.serialize_cdr)
    return path


def _write(writer: Any, messages: Sequence[Message], store: Any, serialise: Callable[[Any, str], Any]) -> None:
    connections: dict[str, Any] = {}
    for message in sorted(messages, key=lambda message: message.at_ms):
        if message.topic not in connections:
            connections[message.topic] = writer.add_connection(message.topic, message.type, typestore=store)
        content = serialise(message.make(store), message.type)
        writer.write(connections[message.topic], START_NS + round(message.at_ms * 1e6), content)


def _write_ros1(path: Path, messages: Sequence[Message], fmt: Any = None) -> Path:
    path = path.with_suffix(".bag")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = rosbag1.Writer(path)
    if fmt is not None:
        writer.set_compression(fmt)
    with writer:
        _write(writer, messages, ROS1, ROS1.serialize_ros1)
    return path


def _write_mcap_alone(path: Path, messages: Sequence[Message]) -> Path:
    folder = _write_ros2(path.with_name(f"{path.name}_folder"), messages, StoragePlugin.MCAP, None)
    alone = path.with_suffix(".mcap")
    next(folder.glob("*.mcap")).rename(alone)
    (folder / "metadata.yaml").unlink()
    folder.rmdir()
    return alone


KINDS: dict[str, Callable[[Path, Sequence[Message]], Path]] = {
    "mcap": lambda path, messages: _write_ros2(path, messages, StoragePlugin.MCAP, None),
    "mcap zstd": lambda path, messages: _write_ros2(path, messages, StoragePlugin.MCAP, CompressionMode.STORAGE),
    "sqlite3": lambda path, messages: _write_ros2(path, messages, StoragePlugin.SQLITE3, None),
    "sqlite3 zstd": lambda path, messages: _write_ros2(path, messages, StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "mcap alone": _write_mcap_alone,
    "ros1": _write_ros1,
    "ros1 lz4": lambda path, messages: _write_ros1(path, messages, rosbag1.Writer.CompressionFormat.LZ4),
}
"""How a bag is written, by format: each takes a path without suffix and returns that of the bag."""


def write_drive(path: Path, kind: str = "mcap", *, num_frames: int = 10) -> Path:
    """Write a drive of one compressed camera at 10 Hz, with a command 30 ms after each frame and an instruction."""
    messages = [text(-5, "Go left")]
    for i in range(num_frames):
        messages.append(compressed_image(100 * i, picture(i), stamp_ms=100 * i - 20))
        messages.append(twist(100 * i + 30, i / 10, 0, -i / 20))
    return KINDS[kind](path, messages)
