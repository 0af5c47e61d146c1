"""What is remembered of a bag's messages while it is read: times, values and sizes, but no pixels."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.bags.alignment import implausible_stamps
from mobile_vla.data.sources.bags.images import expected_encodings, size_of, unreadable_encoding
from mobile_vla.data.sources.bags.values import MAX_VALUES, values_of
from mobile_vla.errors import DataError

_MAX_NUMBERS = 2**25
"""Maximum number of values of one topic that are kept: 256 MiB, two hours of 30 joints at 100 Hz are 2^24.4."""

_MAX_TEXTS, _MAX_TEXT_CHARACTERS = 10_000, 2**16


@dataclass(kw_only=True)
class Times:
    """The log times and header stamps of one topic's messages, in recorded order and in nanoseconds."""

    logged: array[int] = field(default_factory=lambda: array("q"))
    stamps: array[int] = field(default_factory=lambda: array("q"))

    def add(self, log_ns: int, message: Any) -> None:
        """Remember one message; the stamp of one without a header is 0."""
        header = getattr(message, "header", None)
        stamp = getattr(header, "stamp", None)
        self.logged.append(log_ns)
        self.stamps.append(0 if stamp is None else int(stamp.sec) * 10**9 + int(stamp.nanosec))

    def chosen(self) -> tuple[NDArray[np.int64], str | None]:
        """Return the times of the messages, and why they are log times; None where they are header stamps."""
        logged_N, stamps_N = (np.array(values, np.int64) for values in (self.logged, self.stamps))
        reason = implausible_stamps(stamps_N, logged_N)
        return (stamps_N if reason is None else logged_N), reason


@dataclass(kw_only=True)
class ValueTrack:
    """The values of one topic, a row a message. Values that were not sent yet, such as of some joints, are NaN."""

    topic: str
    type: str
    times: Times = field(default_factory=Times)
    current: dict[str, float] = field(default_factory=dict)
    blocks: list[array[float]] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        """The number of messages so far."""
        return len(self.times.logged)

    def add(self, log_ns: int, message: Any, path: Path) -> None:
        """Remember one message; raises ``DataError`` for NaN or too many, ``ValueError`` as ``values_of`` does."""
        values = values_of(message, self.type)
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise DataError(
                f"{path}: topic {self.topic} holds NaN or infinity in {bad[0][:80]}, first in message "
                f"{self.num_rows}. Remove the bag or mend the recording."
            )
        self.current |= values
        if not self.widths or self.widths[-1] != len(self.current):
            self.blocks.append(array("d"))
            self.widths.append(len(self.current))
        self.blocks[-1].extend(self.current.values())
        self.times.add(log_ns, message)
        if len(self.current) > MAX_VALUES or self.num_rows * len(self.current) > _MAX_NUMBERS:
            raise DataError(f"{path}: topic {self.topic} holds more values than can be kept. Cut the bag.")

    def table(self) -> tuple[list[str], NDArray[np.float64]]:
        """Return the names and the values [messages, names].

        No column is left out for its values, such as the height of a Twist that is always 0: the bags of one set must
        have the same signals. What is 0 in all of them is known only later (``Recording.optional``).

        Where several nodes send parts of the joints, the names are sorted: their order is that of the first messages,
        which is by chance.
        """
        names = list(self.current)
        values_NV = self._values()
        order = sorted(range(len(names)), key=names.__getitem__) if len(self.widths) > 1 else range(len(names))
        return [names[i] for i in order], values_NV[:, list(order)]

    def is_complete(self) -> NDArray[np.bool_]:
        """Return for each message whether all values have been sent by then."""
        return np.asarray(np.isfinite(self._values()).all(axis=1))

    def _values(self) -> NDArray[np.float64]:
        parts = []
        for width, block in zip(self.widths, self.blocks, strict=True):
            values_NV = np.array(block).reshape(-1, width) if width else np.zeros((0, 0))
            missing = np.full((len(values_NV), len(self.current) - width), np.nan)
            parts.append(np.concatenate([values_NV, missing], axis=1))
        return np.concatenate(parts)


@dataclass(kw_only=True)
class ImageTrack:
    """The times of one camera's images and their size (rows, columns); ``refused`` names an encoding not read."""

    camera: str
    topic: str
    type: str
    times: Times = field(default_factory=Times)
    size: tuple[int, int] = (0, 0)
    refused: str | None = None

    def add(self, log_ns: int, message: Any, path: Path) -> None:
        """Remember one message; the first gives the size. Raises ``DataError`` where that is not plausible."""
        if not len(self.times.logged):
            self.refused = unreadable_encoding(message, self.type)
            if self.refused is None:
                self.size = size_of(message, self.type, place=f"{path}: topic {self.topic}: image 0")
        self.times.add(log_ns, message)

    def check_order(self, path: Path) -> None:
        """Raise ``DataError`` where the images were not recorded in the order of time: frames are read in order."""
        if (np.diff(np.array(self.times.logged, np.int64)) < 0).any():
            raise DataError(
                f"{path}: the images of {self.topic} are not in the order of time. Write the bag again (`ros2 bag "
                "convert`), which sorts it."
            )

    def refusal(self, path: Path) -> DataError:
        """Return the error for a camera whose encoding is not read."""
        return DataError(
            f"{path}: topic {self.topic} has the encoding {self.refused!r}; expected {expected_encodings()}. Leave it "
            "out of dataset.bag.image_topic, or convert it when it is recorded."
        )


@dataclass(kw_only=True)
class TextTrack:
    """The texts of the instruction topic, with their log times."""

    texts: list[tuple[int, str]] = field(default_factory=list)

    def add(self, log_ns: int, message: Any, path: Path) -> None:
        """Remember one text; empty ones are left out, and the same one again is the same. Raises ``DataError``."""
        text = str(message.data).strip()
        if len(text) > _MAX_TEXT_CHARACTERS or len(self.texts) >= _MAX_TEXTS:
            raise DataError(
                f"{path}: holds too long or too many texts for an instruction. Name another topic in "
                "dataset.bag.instruction_topic, or null."
            )
        if text and (not self.texts or self.texts[-1][1] != text):
            self.texts.append((log_ns, text))

    def during(self, first_ns: int, last_ns: int) -> list[str]:
        """Return the texts of an episode in order: the last one at or before its first frame, and those within it."""
        before = [text for log_ns, text in self.texts if log_ns <= first_ns][-1:]
        within = [text for log_ns, text in self.texts if first_ns < log_ns <= last_ns]
        return list(dict.fromkeys([*before, *within]))
