"""The source of HDF5 files, whose layout is described in YAML: one episode or many in each file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Found, Recording, RecordingFile
from mobile_vla.data.sources.hdf5.episode_files import find_episode_files
from mobile_vla.data.sources.hdf5.extents import check_apart
from mobile_vla.data.sources.hdf5.images import image_data, read_images
from mobile_vla.data.sources.hdf5.layout import AUTO, Layout, shipped_layouts
from mobile_vla.data.sources.hdf5.links import MissingKeyError, find_object
from mobile_vla.data.sources.hdf5.places import episode_groups, fitting_layout, places_of
from mobile_vla.data.sources.hdf5.recording import FileReader, check_claims, masks_of, open_recording
from mobile_vla.data.sources.names import name_in_folder
from mobile_vla.errors import DataError

PACKAGED = ("data/main_data.hdf5",)
"""The ends of paths whose folders a format makes: every Minari data set is in such a file."""


@dataclass(frozen=True, kw_only=True)
class Hdf5Source:
    """The HDF5 files of ``folder``, read with ``layout``.

    ``order`` lists the sources of an instruction: ``file`` and ``attribute`` are read from the files. ``tried`` is a
    digest of the layouts that ``auto`` chooses from: what was read is kept under the text of this object, so it must
    change with them.
    """

    folder: Path
    layout: Layout
    order: tuple[str, ...]
    tried: str = field(init=False, default="")

    states_channel_order: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.layout.name == AUTO:
            tried = hashlib.blake2b(repr(shipped_layouts()).encode(), digest_size=8).hexdigest()
            object.__setattr__(self, "tried", tried)

    def find(self) -> Found:
        """See ``Source``."""
        found = find_episode_files(self.folder)
        names = _names(found.paths, self.folder)
        # Nothing before the names of many episodes in a single file.
        prefixes = {path: f"{name}_" if len(names) > 1 else "" for path, name in names.items()}
        files = [
            RecordingFile(path=path, files=(path,), arguments={"name": name, "prefix": prefixes[path]})
            for path, name in names.items()
        ]
        return Found(files=files, problems=found.problems, warnings=found.warnings)

    def read(self, file: RecordingFile) -> Generator[None, None, list[Recording | DataError]]:
        """See ``Source``."""
        path = file.path
        with open_recording(path) as opened:
            layout, places = fitting_layout(opened, self.layout, path)
            notes = _note(self.layout, layout)
            reader = FileReader(file=opened, path=path, layout=layout, order=self.order, notes=notes)
            if not layout.episodes:
                return [reader.read(places, name=file.arguments.get("name", path.stem), mask=None)]
            masks, prefix = masks_of(opened, layout, path), file.arguments.get("prefix", "")
            results: list[Recording | DataError] = []
            for episode in episode_groups(opened, layout, path):
                name = episode.rsplit("/", 1)[-1]
                try:
                    places = places_of(opened, layout, episode, path)
                    results.append(reader.read(places, name=prefix + name, mask=masks.get(name)))
                except MissingKeyError as error:
                    text = f"'{episode}' {error}, which other episodes have. Remove the episode."
                    results.append(DataError(f"{path}: {text}"))
                except DataError as error:
                    results.append(error)
                yield
            check_apart(reader.stored, path, userblock_size=opened.userblock_size)  # of all episodes
            return results

    def frames(self, recording: Recording, camera: str) -> Iterator[NDArray[np.uint8]]:
        """See ``Source``."""
        path, part = recording.path, recording.part
        with open_recording(path) as file:
            if part:
                key, lengths_key = part["cameras"][camera], part["lengths"]
            else:
                _, places = fitting_layout(file, self.layout, path)
                [key], lengths_key = places.cameras.values(), places.lengths
            images = image_data(find_object(file, key, path), key, path)
            used = {key: images.dataset}
            lengths = find_object(file, lengths_key, path) if lengths_key else None
            if lengths_key and isinstance(lengths, h5py.Dataset):
                used[lengths_key] = lengths
            check_claims(used, path)  # again: the file may have changed since it was read
            yield from read_images(images, num_frames=recording.num_frames, lengths=used.get(lengths_key or ""))


def _note(asked: Layout, layout: Layout) -> tuple[str, ...]:
    """Return with which ``layout`` a file is read, where ``asked`` is another."""
    if layout is asked:
        return ()
    read_as = f"dataset/layout={layout.name}"
    if asked.is_own:
        return (f"read with your own keys, and as {read_as} otherwise",)
    return (f"read as {read_as}, which fits the content",)


def _names(paths: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Return the name of each file, without suffix; with its folders where two files have the same name.

    Every ALOHA task has its own ``episode_0.hdf5``, and every Minari data set is in ``data/main_data.hdf5``.
    """
    counts = Counter(path.stem for path in paths)
    return {path: path.stem if counts[path.stem] == 1 else name_in_folder(path, folder) for path in paths}
