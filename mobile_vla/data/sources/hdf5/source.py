"""The source of HDF5 files, one episode a file."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Found, Recording, RecordingFile
from mobile_vla.data.sources.hdf5.episode_files import find_episode_files
from mobile_vla.data.sources.hdf5.recording import read_blocks, read_recording
from mobile_vla.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Hdf5Source:
    """The HDF5 files of ``folder``; ``order`` lists the places of a file that are searched for an instruction."""

    folder: Path
    order: tuple[str, ...]

    def find(self) -> Found:
        """See ``Source``."""
        found = find_episode_files(self.folder)
        files = [RecordingFile(path=path, files=(path,)) for path in found.paths]
        return Found(files=files, problems=found.problems, warnings=found.warnings)

    def read(self, file: RecordingFile) -> Generator[None, None, list[Recording | DataError]]:
        """See ``Source``."""
        yield from ()
        return [read_recording(file.path, self.order)]

    def frames(self, recording: Recording, camera: str) -> Iterator[NDArray[np.uint8]]:
        """See ``Source``."""
        return read_blocks(recording.path)
