"""The choice of topics: which are cameras, commands, states and the instruction of a bag."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobile_vla.data.sources.bags.bag import Topic
from mobile_vla.data.sources.bags.options import AUTO, BagOptions
from mobile_vla.errors import DataError
from mobile_vla.process.typed_commands import override, typed
from mobile_vla.text import in_series, shortened

RAW_IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TEXT = "std_msgs/msg/String"
_IMAGES = (RAW_IMAGE, COMPRESSED_IMAGE)
_TWISTS = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")

_IMAGE_WORDS = {
    *("compressed", "image", "image_raw", "image_rect", "image_rect_color", "image_rect_raw", "image_color"),
    *("image_mono",),
}
"""Last parts of image topics that say nothing about which camera it is."""

_COPIES = ("compressed", "compressedDepth", "theora")
"""Last parts of topics that hold the images of the topic above them once more."""

_NO_WORD = re.compile(r"[^\w.-]+")

_INSTRUCTION_NAMES = ("instruction", "language_instruction")
"""Last parts of a topic that is an instruction whatever other texts there are."""

_INSTRUCTION_WORDS = {
    *("instruction", "instructions", "task", "prompt", "goal", "command", "text", "lang", "language"),
}
_OTHER_WORDS = {
    *("description", "urdf", "srdf", "semantic", "status", "state", "mode", "log", "rosout", "error", "errors"),
    *("event", "events", "diagnostics", "info", "config", "version", "id", "frame", "map", "result", "feedback"),
}
"""Words in the names of texts that tell a robot nothing to do: ``/robot_description`` is in most bags of a whole robot.

They count more than ``_INSTRUCTION_WORDS``: ``/task_status`` is no instruction.
"""

_STATE_TYPES = (
    *("sensor_msgs/msg/JointState", "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu"),
    *("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/WrenchStamped", "sensor_msgs/msg/BatteryState"),
    *("std_msgs/msg/Float64MultiArray", "std_msgs/msg/Float32MultiArray"),
    *("std_msgs/msg/Float64", "std_msgs/msg/Float32"),
)
"""Types of messages in which a state of the robot usually is; any other with numbers can be named as well."""

_OF_ROS_ITSELF = ("/rosout", "/rosout_agg", "/parameter_events", "/clock", "/diagnostics", "/tf", "/tf_static")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The topics that are read: ``cameras`` by camera name, the clock first; ``similar`` may hold an instruction.

    ``notes`` say which topics are not read, and how those that may be a state would be.
    ``is_free`` is whether the cameras were chosen automatically, so that one which cannot be shown is left out.
    """

    cameras: Mapping[str, str]
    commands: Sequence[str]
    states: Sequence[str]
    instruction: str | None
    similar: Sequence[str]
    is_free: bool
    notes: Sequence[str]

    @property
    def all(self) -> set[str]:
        """All topics that are read."""
        texts = [] if self.instruction is None else [self.instruction]
        return {*self.cameras.values(), *self.commands, *self.states, *texts}


def choose_topics(topics: Mapping[str, Topic], options: BagOptions, path: Path) -> Chosen:
    """Return the topics to read; raise ``DataError`` where one is missing, empty, ambiguous or of another type."""
    is_free = options.image_topic == AUTO
    images = _images(topics, path) if is_free else _named(options.image_topic, topics, path, "image_topic", _IMAGES)
    if options.command_topic == AUTO:
        commands = _only_twist(topics, path)
    else:
        commands = _named(options.command_topic, topics, path, "command_topic")
    states = _named(options.state_topics, topics, path, "state_topics")
    texts = [topic for topic in topics.values() if topic.type == TEXT and topic.num_messages > 0]
    instruction = options.instruction_topic
    if instruction == AUTO:
        instruction = _instruction_among([topic.name for topic in texts])
    elif instruction is not None:
        # It may be absent from a bag, or never sent: other sources of an instruction come after it.
        instruction = instruction if instruction in topics else None
        if instruction is not None and topics[instruction].type != TEXT:
            raise DataError(f"{path}: dataset.bag.instruction_topic={topics[instruction]}: expected {TEXT}.")
    similar = [
        f"topic '{topic.name[:40]}'" for topic in texts if topic.name != instruction and _may_instruct(topic.name)
    ]
    chosen = Chosen(
        cameras=_camera_names(images),
        commands=commands,
        states=states,
        instruction=instruction,
        similar=() if instruction else tuple(sorted(similar)),
        is_free=is_free,
        notes=(),
    )
    return replace(chosen, notes=_unread(topics, chosen))


def _instruction_among(names: Sequence[str]) -> str | None:
    """Return the topic of ``names``, which all hold texts, that is the instruction; None where it is not clear.

    It is the only one called ``instruction`` or ``language_instruction``, or else the only one with a word such as task
    or language in its name, or else the only one at all that is not named as something else.
    """
    other = [name for name in names if not _words(name) & _OTHER_WORDS]
    for found in (
        [name for name in names if _last_part(name) in _INSTRUCTION_NAMES],
        [name for name in other if _words(name) & _INSTRUCTION_WORDS],
        other,
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _may_instruct(name: str) -> bool:
    words = _words(name)
    return _last_part(name) in _INSTRUCTION_NAMES or bool(words & _INSTRUCTION_WORDS and not words & _OTHER_WORDS)


def _unread(topics: Mapping[str, Topic], chosen: Chosen) -> tuple[str, ...]:
    """Return notes on the topics with messages that are not read; those of ROS itself are left out."""
    copies = {f"{name}/{kind}" for name in chosen.cameras.values() for kind in _COPIES}
    unread = [
        topic
        for name, topic in sorted(topics.items())
        if topic.num_messages > 0 and name not in {*chosen.all, *copies, *_OF_ROS_ITSELF}
    ]
    if not unread:
        return ()
    states = [topic.name for topic in unread if topic.type in _STATE_TYPES]
    order = sorted(unread, key=lambda topic: topic.name not in states)
    listed = shortened([f"{topic.name} ({topic.type.replace('/msg/', '/')})" for topic in order], limit=8)
    if not states:
        return (f"topics that are not read: {listed}",)
    remedy = typed([override("dataset.bag.state_topics", [*chosen.states, *states]), "model.state=all"])
    return (f"topics that are not read (as state some would be: {remedy} ): {listed}",)


def _images(topics: Mapping[str, Topic], path: Path) -> list[str]:
    """Return the image topics by name; of a raw one and its compressed copy only the raw one."""
    found = [name for name, topic in topics.items() if topic.type in _IMAGES and topic.num_messages > 0]
    if not found:
        raise DataError(
            f"{path}: holds no topic of {' or '.join(_IMAGES)}; found {_listed(topics.values())}. Record a camera, or "
            "name its topic in dataset.bag.image_topic."
        )
    copies = {f"{name}/{kind}" for name in found for kind in _COPIES}
    return sorted(set(found) - copies)


def _only_twist(topics: Mapping[str, Topic], path: Path) -> list[str]:
    found = [topic for topic in topics.values() if topic.type in _TWISTS and topic.num_messages > 0]
    if len(found) == 1:
        return [found[0].name]
    listed = _listed(found or topics.values())
    finding = f"holds {len(found)} topics" if found else "holds no topic"
    raise DataError(
        f"{path}: {finding} of {' or '.join(_TWISTS)}; found {listed}. Name the commands' topic in "
        "dataset.bag.command_topic."
    )


def _named(
    names: str | Sequence[str],
    topics: Mapping[str, Topic],
    path: Path,
    option: str,
    types: Sequence[str] | None = None,
) -> list[str]:
    """Return the named topics; each must have messages, of one of ``types`` where those are given."""
    named = [names] if isinstance(names, str) else list(names)
    for name in named:
        if name not in topics or topics[name].num_messages == 0:
            finding = "has no messages" if name in topics else "is not in the bag"
            raise DataError(
                f"{path}: dataset.bag.{option}: {name} {finding}; found {_listed(topics.values())}. Name another topic."
            )
        topic = topics[name]
        if topic.type == "several types" or (types is not None and topic.type not in types):
            expected = "messages of one type" if types is None else " or ".join(types)
            raise DataError(f"{path}: dataset.bag.{option}: {topic}: expected {expected}. Name another topic.")
    return named


def _camera_names(topics: Sequence[str]) -> dict[str, str]:
    """Return the topics by the names of their cameras: ``/front/image_raw/compressed`` is ``front``."""
    short = []
    for topic in topics:
        parts = [part for part in topic.split("/") if part]
        while len(parts) > 1 and parts[-1] in _IMAGE_WORDS:
            parts.pop()
        short.append("_".join(parts) if parts[-1:] and parts[-1] not in _IMAGE_WORDS else "camera")
    names = short if len(set(short)) == len(short) else [topic.strip("/").replace("/", "_") for topic in topics]
    # Not `clean_names`, which is for signals: "camera_front" is a good name of a camera.
    clean = [_NO_WORD.sub("_", name)[:150] or "camera" for name in names]
    unique = [name if clean.index(name) == i else f"{name}_{i}" for i, name in enumerate(clean)]
    return dict(zip(unique, topics, strict=True))


def _last_part(topic: str) -> str:
    return topic.rsplit("/", 1)[-1].lower()


def _words(topic: str) -> set[str]:
    return set(re.split(r"[/_\W]+", topic.lower()))


def _listed(topics: object) -> str:
    listed = [str(topic) for topic in topics]  # pyright: ignore[reportGeneralTypeIssues]
    return in_series(listed, limit=12) if listed else "no topic at all"
