"""The contract of sources: how the recordings of one format are found and read, whatever the format is.

A source is a small object that can be pickled, because ``read`` and ``frames`` are called in a reading process
(``mobile_vla.data.reading``): no file can crash, block or fill the training process. Behind a source, nothing knows a
format.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import DataError
from mobile_vla.spec import Spec

MAX_FRAMES = 1_000_000
"""Maximum number of frames of one episode."""

MAX_FRAME_PIXELS = 2**25
"""Rows times columns of one frame, as many as 8K video has."""


@dataclass(frozen=True, kw_only=True)
class RecordedTexts:
    """The instructions in a recording: that of the format's own place and that of an attribute; names not read.

    ``place`` is the format's own place where ``key`` was found, for people: its kind, then its name, such as
    ``topic /instruction``. ``similar_names`` are keys, attributes and topics whose names suggest an instruction and
    that were not read.
    """

    key: str | None = None
    place: str = ""
    attribute: str | None = None
    similar_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RecordingFile:
    """Recordings that are read together: ``path`` is the file or folder that errors name.

    ``files`` are all files whose content counts. ``arguments`` is what else the source needs to read it, made of JSON
    values.
    """

    path: Path
    files: tuple[Path, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recorded episode of F frames without its pixels.

    ``actions`` [F, A] and ``state`` [F, S] are float32, with one column for each signal of ``spec``, in its order and
    in the signals' units. ``fields`` are texts about the episode that the format stores, by name (attributes, the
    task, a mask): scenarios may be made of them. ``files`` are the files with its content; ``part`` is its place in
    them, made of JSON values, and empty where the files hold nothing else. ``doubtful_row`` is the first row from which
    the actions may never have been written; None where there is no such doubt. ``notes`` are oddities that the user
    should know, such as dropped frames. ``optional`` are the names of signals that the format has for every robot,
    such as the vertical velocity of a Twist: one that is 0 in all recordings is used only where it is asked for.
    ``digest`` is that of its content; sources leave it empty.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    part: Mapping[str, Any] = field(default_factory=dict)
    spec: Spec
    actions: NDArray[np.float32]
    state: NDArray[np.float32]
    texts: RecordedTexts = RecordedTexts()
    fields: Mapping[str, str] = field(default_factory=dict)
    doubtful_row: int | None = None
    notes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    digest: str = ""

    @property
    def num_frames(self) -> int:
        """The number of frames, which is that of the actions."""
        return len(self.actions)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a source found: files in the order of their episodes, one error for each that cannot be used, warnings."""

    files: Sequence[RecordingFile]
    problems: Sequence[DataError] = ()
    warnings: Sequence[str] = ()


class Source(Protocol):
    """The recordings of one format in one folder; see the module.

    ``states_channel_order`` is whether each image says the order of its colours itself, so that ``frames`` gives RGB.
    """

    states_channel_order: ClassVar[bool]

    def find(self) -> Found:
        """Return the files of the recordings. Their content is not read; raises ``DataError`` where there is none."""
        ...

    def read(self, file: RecordingFile) -> Generator[None, None, list[Recording | DataError]]:
        """Return the recordings of ``file`` in order, with an error in place of each that cannot be used.

        Each yield reports progress. Raises ``DataError`` where nothing of the file can be used. Pixels are not decoded,
        but the number of frames of every camera is checked.
        """
        ...

    def frames(self, recording: Recording, camera: str) -> Iterator[NDArray[np.uint8]]:
        """Yield all frames of ``camera`` in blocks [frames of the block, Y, X, 3], in the recorded channel order.

        The memory does not grow with the number of frames. Raises ``DataError`` where they cannot be decoded.
        """
        ...
