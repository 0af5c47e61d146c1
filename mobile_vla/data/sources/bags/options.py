"""The options of reading bags: which topics are what, and how they are aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobile_vla.errors import ConfigError

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class BagOptions:
    """Which topics of a bag are read as what, and when a message is too old for a frame.

    ``image_topic`` is one topic, several, or ``auto``: all of sensor_msgs/Image and CompressedImage, by name. The first
    is the clock: each of its images is a frame. ``command_topic`` is one topic, several (their columns are joined), or
    ``auto``: the only geometry_msgs/Twist or TwistStamped. ``state_topics`` become the state, in this order.
    ``instruction_topic`` is a std_msgs/String, None, or ``auto``: the only one called ``instruction`` or
    ``language_instruction``, else the only one with a word such as task or language in its name, else the only one at
    all whose name does not say that it is something else (``/robot_description``, ``/status``).

    A frame gets the newest command at or before its time, and is dropped where that is older than
    ``max_command_age_s``; ``max_state_age_s`` is the same for states and for the images of further cameras (None: any
    age). A new episode begins where two frames are more than ``max_gap_s`` apart, and where more than two frames in a
    row were dropped, as no window may reach over such a hole (None: one episode a bag, with all its holes).
    """

    image_topic: str | Sequence[str]
    command_topic: str | Sequence[str]
    state_topics: Sequence[str]
    instruction_topic: str | None
    max_command_age_s: float | None
    max_state_age_s: float | None
    max_gap_s: float | None

    def __post_init__(self) -> None:
        for name in ("max_command_age_s", "max_state_age_s", "max_gap_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise ConfigError(f"dataset.bag.{name}={value}: expected a number of seconds above 0, or null.")
        for name in ("image_topic", "command_topic", "state_topics"):
            topics = getattr(self, name)
            if name != "state_topics" and not topics:
                raise ConfigError(f"dataset.bag.{name}: is empty; expected a topic, a list of topics, or {AUTO}.")
            if not isinstance(topics, str) and len(set(topics)) < len(topics):
                raise ConfigError(f"dataset.bag.{name}={list(topics)}: expected each topic once.")
