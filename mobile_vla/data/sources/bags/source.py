"""The source of ROS 1 bags, ROS 2 bags and MCAP files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.bags.alignment import from_runs
from mobile_vla.data.sources.bags.bag import open_bag
from mobile_vla.data.sources.bags.bag_files import find_bags, storage_files
from mobile_vla.data.sources.bags.images import image_of
from mobile_vla.data.sources.bags.options import BagOptions
from mobile_vla.data.sources.bags.recording import read_bag
from mobile_vla.data.sources.blocks import in_blocks
from mobile_vla.data.sources.contract import Found, Recording, RecordingFile
from mobile_vla.errors import DataError
from mobile_vla.extras import require


@dataclass(frozen=True, kw_only=True)
class BagSource:
    """The bags in ``folder`` and its subfolders; ``folder`` may be a bag itself.

    The images are always RGB, because each message names its encoding (``bgr8``): ``dataset.channel_order`` cannot
    apply and must be refused where it says otherwise (``states_channel_order``).
    """

    folder: Path
    options: BagOptions

    states_channel_order: ClassVar[bool] = True

    def find(self) -> Found:
        """See ``Source``. Raises ``ConfigError`` where the package ``rosbags`` is not installed."""
        found = find_bags(self.folder)
        require("rosbags", asked_by=f"{self.folder}: reading bags")
        is_one_of_several = len(found.bags) > 1
        files = [
            RecordingFile(
                path=bag,
                files=storage_files(bag),
                arguments={"name": name, "is_one_of_several": is_one_of_several},
            )
            for bag, name in zip(found.bags, _names(found.bags, self.folder), strict=True)
        ]
        return Found(files=files, problems=found.problems, warnings=found.warnings)

    def read(self, file: RecordingFile) -> Generator[None, None, list[Recording | DataError]]:
        """See ``Source``."""
        name, is_one_of_several = str(file.arguments["name"]), bool(file.arguments["is_one_of_several"])
        return (yield from read_bag(file.path, name, self.options, is_one_of_several=is_one_of_several))

    def frames(self, recording: Recording, camera: str) -> Iterator[NDArray[np.uint8]]:
        """See ``Source``; the channel order is RGB."""
        yield from in_blocks(_images_of(recording, camera))


def _images_of(recording: Recording, camera: str) -> Iterator[NDArray[np.uint8]]:
    place = recording.part["cameras"][camera]
    topic, (start_ns, last_ns) = place["topic"], place["log_ns"]
    wanted = Counter(from_runs(place["runs"]))  # an image may be the newest one of several frames
    shown = next(c for c in recording.spec.cameras if c.name == camera)
    with open_bag(recording.path) as bag:
        kind = bag.topics[topic].type if topic in bag.topics else ""
        messages = bag.messages([topic], start_ns=start_ns, stop_ns=last_ns + 1)
        for number, (_, _, content) in enumerate(messages):
            if number not in wanted:
                continue
            at = f"{recording.path}: topic {topic}: image {number}"
            message = bag.decode(topic, content)
            with bag.taking_apart(topic):
                image = image_of(message, kind, place=at)
            if image.shape[:2] != (shown.rows, shown.columns):
                raise DataError(
                    f"{at} of the episode is {image.shape[1]}x{image.shape[0]}, but the bag began with "
                    f"{shown.columns}x{shown.rows} px. Record the sizes as separate bags."
                )
            for _ in range(wanted[number]):
                yield image


def _names(bags: Sequence[Path], folder: Path) -> list[str]:
    """Return a name for each bag: that of its file or folder; with the folders above it where two have the same."""
    short = [bag.stem if not bag.is_dir() else bag.resolve().name for bag in bags]
    if len(set(short)) == len(short):
        return short
    parts = [bag.relative_to(folder) for bag in bags]
    return ["_".join((*part.parts[:-1], name)) for part, name in zip(parts, short, strict=True)]
