"""The reader of the recordings in an HDF5 file, which are checked before their data are read.

It is called in a reading process, because hostile bytes can crash HDF5. A ``Layout`` says where the parts are.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import h5py.h5o
import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.hdf5.errors import report_damage
from mobile_vla.data.sources.hdf5.extents import Stored, check_apart, check_filters, check_length, check_stored
from mobile_vla.data.sources.hdf5.images import (
    ImageData,
    check_not_blank,
    check_rows_fit,
    image_at,
    image_data,
    image_size,
)
from mobile_vla.data.sources.hdf5.layout import Layout, keys_like, unread_note
from mobile_vla.data.sources.hdf5.links import find_object
from mobile_vla.data.sources.hdf5.places import CAMERA, Places
from mobile_vla.data.sources.hdf5.signals import (
    SPEC_ATTRIBUTE,
    action_signals,
    check_written,
    fitting_spec,
    numeric_data,
    own_spec,
    read_values,
    state_signals,
    unnamed_note,
)
from mobile_vla.data.sources.hdf5.texts import fields_of, full_key, json_at, read_instruction, texts_in, value_at
from mobile_vla.errors import DataError
from mobile_vla.spec import Camera, Spec
from mobile_vla.untrusted.files import lfs_pointer, open_regular

_MAX_TEXT_BYTES = 2**24

_LEAST_ZERO_ROWS, _MOVED_GREY_LEVELS = 4, 10.0
"""Zero rows and mean change of the image from which on zero actions are doubtful.

Noise, flicker and people who walk by change an image by less, on average over all pixels.
"""


@contextmanager
def open_recording(path: Path) -> Iterator[h5py.File]:
    """Open one episode file for reading; raise ``DataError`` for a non-file, a Git LFS pointer or a damaged file."""
    with report_damage(f"{path}: is truncated, corrupt or not HDF5"):
        _check_is_file(path)
        with open_regular(path) as raw:
            if pointer := lfs_pointer(raw.read(40), instead_of="the episode"):
                raise DataError(f"{path}: {pointer}")
        with h5py.File(path, "r") as file:
            check_length(path)
            yield file


def _check_is_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP):
            raise DataError(f"{path}: is a link to {os.readlink(path)}, which leads to no file. Remove it.") from error
        raise
    if not stat.S_ISREG(mode):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device or a folder"
        raise DataError(f"{path}: is {kind}, not a file. Remove it.")


@dataclass(frozen=True, kw_only=True)
class FileReader:
    """An open file that is read with ``layout``, and where the data sets that were read so far are stored in it.

    ``order`` lists the sources of the instruction; ``notes`` are those of all its recordings.
    """

    file: h5py.File
    path: Path
    layout: Layout
    order: Sequence[str]
    notes: tuple[str, ...]
    stored: dict[str, Stored] = field(default_factory=dict)

    def read(self, places: Places, *, name: str, mask: str | None) -> Recording:
        """Return the recording at ``places``; ``mask`` names the masks of the file that list it.

        Raises ``DataError``, which names the file, the key, what was found and what to do.
        """
        file, path, layout, episode = self.file, self.path, self.layout, places.episode
        spec = own_spec(file, episode, path)
        if spec is not None:
            places = _with_own_places(places, spec)
        images = {c: image_data(find_object(file, key, path), key, path) for c, key in places.cameras.items()}
        actions = {key: _numbers(file, key, path, "actions") for key in places.actions}
        state = {name: (key, _numbers(file, key, path, "state")) for name, key in places.state.items()}
        used = {key: images[camera].dataset for camera, key in places.cameras.items()}
        used |= actions | dict(state.values()) | self._texts(episode)
        self.stored.update(check_claims(used, path))
        for each in images.values():
            check_rows_fit(each)
            check_not_blank(each)
        values = {key: read_values(dataset, key, path) for key, dataset in actions.items()}
        for key, dataset in actions.items():
            check_written(values[key], dataset, key, path)
        texts = read_instruction(file, path, order=self.order, places=layout.instruction, episode=episode)
        actions_FA = _joined(values, path)
        self._check_lengths(len(actions_FA), next(iter(actions)), images, dict(state.values()))
        rows = slice(0, len(actions_FA))
        state_values = [read_values(dataset, key, path)[rows] for key, dataset in state.values()]
        sizes = {camera: image_size(each) for camera, each in images.items()}
        environment = json_at(file, layout.robosuite, path, episode=episode) if layout.robosuite else None
        found = Spec(
            actions=action_signals(
                actions, layout, path, environment=environment if isinstance(environment, Mapping) else None
            ),
            state=state_signals(state, layout, path),
            cameras=tuple(Camera(name=c, rows=rows, columns=columns) for c, (rows, columns) in sizes.items()),
            rate_hz=self._rate_hz(episode),
        )
        unnamed = unnamed_note(actions, layout) if spec is None and self.notes else []
        group = find_object(file, episode, path)
        fields = fields_of([file, group] if episode else [file], str(path))
        fields.pop(SPEC_ATTRIBUTE, None)
        fields |= {} if mask is None else {"mask": mask}
        return Recording(
            name=name,
            path=path,
            files=(path,),
            part=places.part,
            spec=found if spec is None else fitting_spec(spec, found, path),
            actions=actions_FA,
            state=np.concatenate([np.zeros((len(actions_FA), 0), np.float32), *state_values], axis=1),
            texts=texts,
            fields=fields,
            doubtful_row=_doubtful_row(actions_FA, next(iter(images.values()))),
            notes=(*self.notes, *unnamed, *self._unread(group, places, used, len(actions_FA))),
        )

    def _unread(self, group: object, places: Places, used: Collection[str], num_rows: int) -> list[str]:
        """Return a note of the arrays that are not read."""
        if not isinstance(group, h5py.Group):
            return []
        start = f"{places.episode}/" if places.episode else ""
        read = {key.removeprefix(start) for key in (*used, *([places.lengths] if places.lengths else []))}
        cameras = {name: key.removeprefix(start) for name, key in places.cameras.items()}
        return unread_note(group, self.layout, used=read, cameras=cameras, num_rows=num_rows)

    def _texts(self, episode: str) -> dict[str, h5py.Dataset]:
        """Return the data sets of the instruction by key."""
        found = {}
        for place in self.layout.instruction if "file" in self.order else ():
            key = full_key(place, episode)
            text = find_object(self.file, key, self.path) if "@" not in place else None
            if isinstance(text, h5py.Dataset):
                with report_damage(f"{self.path}: key '{key}' cannot be read"):
                    num_bytes = text.size * text.id.get_type().get_size() if text.shape is not None else 0
                if num_bytes > _MAX_TEXT_BYTES:
                    raise DataError(
                        f"{self.path}: key '{key}' is {num_bytes} bytes long; expected one text. Remove the key or the "
                        "file."
                    )
                found[key] = text
        return found

    def _check_lengths(
        self, num_rows: int, key: str, images: Mapping[str, ImageData], state: Mapping[str, h5py.Dataset]
    ) -> None:
        """Raise ``DataError`` where a camera or the state has not one row for each row of the actions."""
        extra = self.layout.extra_observations
        for each in images.values():
            if len(each) != num_rows + extra:
                name = each.place.removeprefix(f"{self.path}: key ")
                more = " and one frame after the last" if extra else ""
                raise DataError(
                    f"{self.path}: key '{key}' has {num_rows} rows but {name} has {len(each)} frames; expected one "
                    f"action a frame{more}. Record the episode again or cut both to the same length."
                )
            if num_rows < 2:
                raise DataError(f"{each.place} holds {len(each)} frame(s); expected 2 or more. Remove the file.")
        for of_state, dataset in state.items():
            if len(dataset) != num_rows + extra:
                raise DataError(
                    f"{self.path}: key '{of_state}' has {len(dataset)} rows and the actions {num_rows}; expected one "
                    "a frame. Record the episode again, or leave the key out of dataset.layout.state."
                )

    def _rate_hz(self, episode: str) -> float | None:
        given = self.layout.rate_hz
        rate = value_at(self.file, given, self.path, episode=episode) if isinstance(given, str) else given
        return float(rate) if isinstance(rate, int | float) and 0 < rate < 1e6 else None


def check_claims(found: Mapping[str, h5py.Dataset], path: Path) -> dict[str, Stored]:
    """Return where the data sets are stored.

    Raises ``DataError`` where one of them is not stored completely in this file, or two share bytes.
    """
    file_size = path.stat().st_size
    stored = {}
    for key, dataset in found.items():
        with report_damage(f"{path}: key '{key}' cannot be read"):
            check_filters(dataset, f"{path}: key '{key}'")
            parts = check_stored(dataset, f"{path}: key '{key}'", file_size=file_size)
            stored[key] = Stored(header=h5py.h5o.get_info(dataset.id).addr, parts=parts)
    with report_damage(f"{path}: is damaged"):
        check_apart(stored, path, userblock_size=next(iter(found.values())).file.userblock_size)
    return stored


def masks_of(file: h5py.File, layout: Layout, path: Path) -> dict[str, str]:
    """Return the names of the masks that list an episode, joined by commas, by the name of its group."""
    found: dict[str, list[str]] = {}
    for key, _ in keys_like(file, "", layout.masks, path) if layout.masks else ():
        mask = find_object(file, key, path)
        if isinstance(mask, h5py.Dataset):
            check_claims({key: mask}, path)
        for episode in texts_in(mask, f"{path}: key '{key}'"):
            found.setdefault(episode, []).append(key.rsplit("/", 1)[-1])
    return {episode: ", ".join(names) for episode, names in found.items()}


def _numbers(file: h5py.File, key: str, path: Path, what: str) -> h5py.Dataset:
    return numeric_data(find_object(file, key, path), key, path, what=what)


def _joined(values: Mapping[str, NDArray[np.float32]], path: Path) -> NDArray[np.float32]:
    """Return the columns of all data sets [F, A], which must have one number of rows."""
    rows = {key: len(each) for key, each in values.items()}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{number} in '{key}'" for key, number in rows.items())
        raise DataError(f"{path}: the actions have different numbers of rows: {listed}. Cut them to the same length.")
    return np.concatenate(list(values.values()), axis=1)


def _with_own_places(places: Places, spec: Spec) -> Places:
    """Return the places of a file that says its spec: an unnamed camera has its name, and ``state`` its state.

    The cameras are in the order of the spec, as HDF5 lists them by name.
    """
    if len(spec.cameras) == 1 and list(places.cameras) == [CAMERA]:
        places = replace(places, cameras={spec.cameras[0].name: places.cameras[CAMERA]})
    stated = [name for name in spec.camera_names if name in places.cameras]
    places = replace(places, cameras={name: places.cameras[name] for name in dict.fromkeys([*stated, *places.cameras])})
    if spec.state and not places.state:
        places = replace(places, state={"state": full_key("state", places.episode)})
    return places


def _doubtful_row(actions_FA: NDArray[np.float32], images: ImageData) -> int | None:
    """Return the first row from which all actions are zero and may never have been written; None without such doubt.

    HDF5 cannot distinguish lost rows from a robot that stands still at the end. The camera can: if the robot stands
    still, so does the image. Where all actions are zero, they are doubtful without this check.
    """
    first = int(np.max(np.flatnonzero(actions_FA.any(axis=1)), initial=-1)) + 1
    if first == 0 and len(actions_FA):
        return 0
    second = first + 1  # a robot that was stopped may still roll for a frame
    if len(actions_FA) - second < _LEAST_ZERO_ROWS:
        return None
    change = np.abs(image_at(images, second).astype(np.int16) - image_at(images, len(actions_FA) - 1)).mean()
    return first if change > _MOVED_GREY_LEVELS else None
