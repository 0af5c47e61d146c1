"""The reader of one HDF5 recording, which is checked before its data are read.

It is called in a reading process, because hostile bytes can crash HDF5. Two layouts are recognised by their keys: flat
(``images``) and nested (``observations/images``). Both have ``actions`` and, where recorded, ``language_instruction``
at the top level.
"""

from __future__ import annotations

import difflib
import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.hdf5.chunks import check_chunks, read_rows
from mobile_vla.data.sources.hdf5.errors import describe, report_damage
from mobile_vla.data.sources.hdf5.extents import (
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    check_apart,
    check_filters,
    check_length,
    check_stored,
    is_allocated_early,
    is_writing_recorded,
)
from mobile_vla.data.sources.hdf5.instruction import INSTRUCTION_KEY, read_instruction
from mobile_vla.data.sources.hdf5.links import find_object, list_keys
from mobile_vla.errors import DataError
from mobile_vla.spec import Camera, Spec, known_signal
from mobile_vla.untrusted.files import open_regular

CAMERA = "camera"
"""The name of the only camera of these layouts."""

ACTION_NAMES = ("linear_x", "linear_y", "angular_z")
"""The columns of ``actions`` in these layouts, in order: forward, to the left, counter-clockwise."""

IMAGE_KEYS = {"flat": "images", "nested": "observations/images"}

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
            if raw.read(40).startswith(b"version https://git-lfs"):
                raise DataError(
                    f"{path}: is a Git LFS pointer, not the episode. Run `git lfs pull` where it came from."
                )
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


def read_recording(path: Path, order: Sequence[str]) -> Recording:
    """Return the content of the file except the pixels.

    ``order`` lists the sources of the instruction. Raises ``DataError``, which names the file, the key, what was found
    and what to do.
    """
    with open_recording(path) as file:
        key, images = image_dataset(file, path)
        actions = action_dataset(file, path)
        text = _text_dataset(file, path) if "file" in order else None
        found = {key: images, "actions": actions} | ({} if text is None else {INSTRUCTION_KEY: text})
        _check_claims(found, path)
        _check_not_blank(images, f"{path}: key '{key}'")
        actions_FA = _read_actions(actions, path)
        texts = read_instruction(file, path, order=order)
        image_shape = images.shape
        doubtful_row = _doubtful_row(actions_FA, images, f"{path}: key '{key}'")
    num_frames, num_rows, num_columns, _ = image_shape
    if len(actions_FA) != num_frames:
        raise DataError(
            f"{path}: key 'actions' has {len(actions_FA)} rows but '{key}' has {num_frames} frames; "
            "expected one action a frame. Record the episode again or cut both to the same length."
        )
    if num_frames < 2:
        raise DataError(f"{path}: key '{key}' holds {num_frames} frame(s); expected 2 or more. Remove the file.")
    return Recording(
        name=path.stem,
        path=path,
        files=(path,),
        spec=Spec(
            actions=tuple(known_signal(name) for name in ACTION_NAMES[: actions_FA.shape[1]]),
            cameras=(Camera(name=CAMERA, rows=num_rows, columns=num_columns),),
        ),
        actions=actions_FA,
        state=np.zeros((num_frames, 0), np.float32),
        texts=texts,
        doubtful_row=doubtful_row,
    )


def read_blocks(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield all frames of one episode in blocks, [frames of the block, Y, X, 3] uint8, in the file's channel order."""
    with open_recording(path) as file:
        key, images = image_dataset(file, path)
        _check_claims({key: images}, path)  # again: the file may have changed since `read_recording`
        with report_damage(f"{path}: key '{key}' cannot be decoded"):
            yield from read_rows(images, f"{path}: key '{key}'")


def image_dataset(file: h5py.File, path: Path) -> tuple[str, h5py.Dataset]:
    """Return the key and the data set of the images, [F, Y, X, 3] uint8; type and shape are checked.

    Raises ``DataError`` where the file has no layout that is known, or both.
    """
    nodes = {key: find_object(file, key, path) for key in IMAGE_KEYS.values()}
    present = [key for key, node in nodes.items() if node is not None]
    if not present:
        raise DataError(f"{path}: {_missing_key(IMAGE_KEYS.values(), list_keys(file))}")
    if len(present) > 1:
        raise DataError(f"{path}: holds both keys {' and '.join(map(repr, present))}. Keep one of them.")
    key = present[0]
    images = nodes[key]
    assert images is not None
    with report_damage(f"{path}: key '{key}' cannot be read"):
        is_image = (
            isinstance(images, h5py.Dataset)
            and images.ndim == 4
            and images.shape[-1] == 3
            and 0 not in images.shape[1:3]
            and images.dtype == np.uint8
        )
        found = describe(images)
    if not is_image or not isinstance(images, h5py.Dataset):
        raise DataError(
            f"{path}: key '{key}' is {found}; expected [frames, rows, columns, 3] uint8. "
            "Convert the images to 8-bit colour, frames first."
        )
    num_frames, num_rows, num_columns, _ = images.shape
    if num_frames > MAX_FRAMES or num_rows * num_columns > MAX_FRAME_PIXELS:
        raise DataError(
            f"{path}: key '{key}' is {found}; expected at most {MAX_FRAMES} frames of {MAX_FRAME_PIXELS} pixels. "
            "Cut the episode, or remove the file where it is none."
        )
    return key, images


def action_dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    """Return the data set of the actions: [F, 2 or 3] floating point, checked but not read."""
    actions = find_object(file, "actions", path)
    if actions is None:
        raise DataError(f"{path}: {_missing_key(['actions'], list_keys(file))}")
    with report_damage(f"{path}: key 'actions' cannot be read"):
        is_action = (
            isinstance(actions, h5py.Dataset)
            and actions.ndim == 2
            and actions.shape[1] in (2, 3)
            and actions.dtype.kind == "f"
        )
        found = describe(actions)
    if not is_action or not isinstance(actions, h5py.Dataset):
        raise DataError(
            f"{path}: key 'actions' is {found}; expected [frames, 2 or 3] floating point. "
            f"Convert it to the columns {', '.join(ACTION_NAMES)}."
        )
    if len(actions) > MAX_FRAMES:
        raise DataError(f"{path}: key 'actions' is {found}; expected at most {MAX_FRAMES} rows. Cut the episode.")
    return actions


def _text_dataset(file: h5py.File, path: Path) -> h5py.Dataset | None:
    text = find_object(file, INSTRUCTION_KEY, path)
    if not isinstance(text, h5py.Dataset):
        return None
    with report_damage(f"{path}: key '{INSTRUCTION_KEY}' cannot be read"):
        num_bytes = text.size * text.id.get_type().get_size() if text.shape is not None else 0
    if num_bytes > _MAX_TEXT_BYTES:
        raise DataError(
            f"{path}: key '{INSTRUCTION_KEY}' is {num_bytes} bytes long; expected one text. Remove the key or the file."
        )
    return text


def _check_claims(found: dict[str, h5py.Dataset], path: Path) -> None:
    """Raise ``DataError`` where one of the data sets is not stored completely in this file."""
    file_size = path.stat().st_size
    extents = {}
    for key, dataset in found.items():
        with report_damage(f"{path}: key '{key}' cannot be read"):
            check_filters(dataset, f"{path}: key '{key}'")
            extents[key] = check_stored(dataset, f"{path}: key '{key}'", file_size=file_size)
    with report_damage(f"{path}: is damaged"):
        check_apart(extents, [next(iter(found.values())).file["/"], *found.values()], path)


def _check_not_blank(images: h5py.Dataset, place: str) -> None:
    """Raise ``DataError`` where the last frames are all zero and the file does not show that they were written.

    A recorder that was killed leaves such frames; a camera does not, because its black is not exactly zero. A chunk is
    allocated when its first row is written, so the other rows of the last chunk may be unwritten. Actions are not
    checked here, because a robot may stand still at the end.
    """
    num_good, chunk = len(images), images.chunks
    last = (num_good - 1) // chunk[0] * chunk[0] if chunk is not None and is_writing_recorded(images) else 0
    with report_damage(f"{place} cannot be read"):
        while num_good > last and not images[num_good - 1].any():
            num_good -= 1
    if num_good < len(images) and (num_good > last or last == 0):
        with report_damage(f"{place} cannot be decoded"):
            check_chunks(images, num_good, place)  # what a short chunk leaves undefined may happen to be zero
        raise DataError(
            f"{place} is zero in every pixel of the rows {num_good}..{len(images) - 1}, up to the last: they were "
            "allocated and, most likely, never written. Copy the file again, cut those rows, or remove it."
        )


def _doubtful_row(actions_FA: NDArray[np.float32], images: h5py.Dataset, place: str) -> int | None:
    """Return the first row from which all actions are zero and may never have been written; None without such doubt.

    HDF5 cannot distinguish lost rows from a robot that stands still at the end. The camera can: if the robot stands
    still, so does the image. Where all actions are zero, they are doubtful without this check.
    """
    first = int(np.max(np.flatnonzero(actions_FA.any(axis=1)), initial=-1)) + 1
    if first == 0 and len(actions_FA):
        return 0
    second = first + 1  # a robot that was stopped may still roll for a frame
    if len(actions_FA) - second < _LEAST_ZERO_ROWS or len(images) != len(actions_FA):
        return None
    with report_damage(f"{place} cannot be read"):
        change = np.abs(images[second].astype(np.int16) - images[-1]).mean()
    return first if change > _MOVED_GREY_LEVELS else None


def _read_actions(actions: h5py.Dataset, path: Path) -> NDArray[np.float32]:
    # over="ignore": float64 values beyond float32 become infinity, which the check below reports with its frame.
    with report_damage(f"{path}: key 'actions' cannot be read"), np.errstate(over="ignore"):
        blocks = list(read_rows(actions, f"{path}: key 'actions'"))
        values = np.concatenate([np.zeros((0, actions.shape[1]), actions.dtype), *blocks]).astype(np.float32)
    if not values.any() and is_allocated_early(actions):
        raise DataError(
            f"{path}: key 'actions' is zero in all rows, 0..{len(values) - 1}, and was allocated before it was "
            "written: most likely it never was. Copy the file again or remove it."
        )
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{path}: key 'actions' holds NaN or infinity in {int((~finite).sum())} row(s), first in frame "
            f"{int(np.argmin(finite))}. Remove the episode or mend the recording."
        )
    return values


def _missing_key(expected: Collection[str], found: Sequence[str]) -> str:
    close = [match for key in expected for match in difflib.get_close_matches(key, found, n=1, cutoff=0.6)]
    hint = f" Did the collector mean '{close[0]}'?" if close else ""
    options = " or ".join(f"'{key}'" for key in expected)
    return f"has no key {options}; found {', '.join(found) or 'no key at all'}.{hint} Rename the key in the file."
