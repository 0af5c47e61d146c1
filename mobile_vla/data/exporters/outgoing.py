"""What every exporter writes: episodes with all that was recorded of them, and their frames.

Reading processes import this module: nothing heavy (torch) may come with it, as their memory is limited.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.frames import WRITTEN_MEANWHILE
from mobile_vla.data.sources.contract import Recording, Source
from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.spec import Spec

_PROGRESS_S = 0.3
"""Processor time after which a reading process reports progress: it is ended when it is silent for 2.5 s."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One episode to write: its recording, whose columns ``spec`` describes, its name, and the texts about it.

    ``spec`` has all recorded signals and cameras, with what the user stated of them. ``instruction`` is empty where
    none was recorded or stated.
    """

    recording: Recording
    spec: Spec
    name: str
    instruction: str
    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Outgoings:
    """All episodes to write, in order, and how their frames are read.

    ``problems`` are the errors of recordings that cannot be used, ``warnings`` the oddities that were tolerated,
    ``digests`` the content of the recordings by name. ``is_bgr`` is whether the recorded channel order is BGR.
    """

    source: Source
    episodes: Sequence[Outgoing]
    problems: Sequence[DataError]
    warnings: Sequence[str]
    digests: Mapping[str, str]
    is_bgr: bool


def rgb_frames(
    source: Source, recording: Recording, camera: str, *, is_bgr: bool
) -> Iterator[NDArray[np.uint8] | None]:
    """Yield the RGB frames [Y, X, 3] of ``camera`` one by one, and None now and then to report progress.

    It is called in a reading process. Raises ``DataError`` where they cannot be decoded, or are not one a row.
    """
    num_done, reported = 0, time.process_time()
    for block in source.frames(recording, camera):
        for image in block:
            num_done += 1
            if num_done > recording.num_frames:
                break
            yield np.ascontiguousarray(image[..., ::-1] if is_bgr else image)
            if time.process_time() - reported > _PROGRESS_S:
                yield None
                reported = time.process_time()
        yield None
    if num_done != recording.num_frames:
        raise UnreadableNowError(f"{recording.path}: {WRITTEN_MEANWHILE}")


def work_folder(folder: Path) -> Path:
    """Return a new folder beside ``folder``, the one that is written, for files that are needed only for a while."""
    place = folder.with_name("work")
    place.mkdir()
    return place
