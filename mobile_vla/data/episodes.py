"""Read HDF5 episode files, told apart by their schema, and say exactly what is wrong with those that cannot be used."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from regex import Pattern

from mobile_vla.data.hdf5_errors import describe, report_damage
from mobile_vla.data.instruction import INSTRUCTION_KEY, Instruction, read_instruction
from mobile_vla.data.scenario import parse_name
from mobile_vla.errors import DataError
from mobile_vla.schema import ACTION_NAMES, Episode

IMAGE_KEYS = {"flat": "images", "nested": "observations/images"}


def find_episode_files(folder: Path) -> tuple[list[Path], list[DataError]]:
    """Return the ``.h5`` and ``.hdf5`` files below ``folder`` sorted by name, and one error for each repeated name.

    ``DataError`` when there is no file at all.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such folder. Give dataset.path the folder that holds the episode files (*.h5).")
    candidates = [folder] if folder.is_file() else folder.rglob("*")
    files = [p for p in candidates if p == folder or (p.suffix.lower() in (".h5", ".hdf5") and not p.is_dir())]
    if not files:
        raise DataError(f"{folder}: holds no episode file (*.h5, *.hdf5). Give the folder the collector wrote to.")
    by_name: dict[str, Path] = {}
    repeated = []
    for path in sorted(files, key=lambda p: (p.stem, str(p))):
        first = by_name.setdefault(path.stem, path)
        if first != path:
            repeated.append(DataError(f"{path}: has the same name as {first}. Names identify episodes: rename one."))
    return list(by_name.values()), repeated


@contextmanager
def open_episode(path: Path) -> Iterator[h5py.File]:
    """Open one episode file for reading; ``DataError`` when it is an LFS pointer, or found damaged while it is read."""
    with report_damage(f"{path}: is truncated, corrupt or not HDF5"):
        with path.open("rb") as raw:
            if raw.read(40).startswith(b"version https://git-lfs"):
                raise DataError(
                    f"{path}: is a Git LFS pointer, not the episode. Run `git lfs pull` where it came from."
                )
        with h5py.File(path, "r") as file:
            yield file


def image_dataset(file: h5py.File, path: Path) -> tuple[str, h5py.Dataset]:
    """Return key and data set of the images in the one layout that the file has: [F, Y, X, 3] uint8, checked."""
    present = [key for key in IMAGE_KEYS.values() if key in file]
    if not present:
        raise DataError(f"{path}: {_missing_key(IMAGE_KEYS.values(), _all_keys(file))}")
    if len(present) > 1:
        raise DataError(f"{path}: holds both keys {' and '.join(map(repr, present))}. Keep one of them.")
    key = present[0]
    with report_damage(f"{path}: key '{key}' cannot be read"):
        images = file[key]
    if (
        not isinstance(images, h5py.Dataset)
        or images.ndim != 4
        or images.shape[-1] != 3
        or 0 in images.shape[1:3]
        or images.dtype != np.uint8
    ):
        raise DataError(
            f"{path}: key '{key}' is {describe(images)}; expected [frames, rows, columns, 3] uint8. "
            "Convert the images to 8-bit colour, frames first."
        )
    return key, images


def read_episode(path: Path, *, grammars: Mapping[str, Pattern[str]], instruction: Instruction) -> Episode:
    """Read everything but the pixels of one episode; ``DataError`` names file, key, what was found and what to do."""
    with open_episode(path) as file:
        key, images = image_dataset(file, path)
        num_frames, num_rows, num_columns, num_channels = images.shape
        actions_FA = _read_actions(file, path)
        recorded = read_instruction(file, path, order=instruction.order)
    if len(actions_FA) != num_frames:
        raise DataError(
            f"{path}: key 'actions' has {len(actions_FA)} rows but '{key}' has {num_frames} frames; "
            "expected one action a frame. Record the episode again or cut both to the same length."
        )
    if num_frames < 2:
        raise DataError(f"{path}: key '{key}' holds {num_frames} frame(s); expected 2 or more. Remove the file.")
    scenario, fields = parse_name(path.stem, grammars)
    chosen = instruction.choose(recorded, fields=fields)
    if chosen is None:
        raise DataError(
            f"{path}: no instruction in key '{INSTRUCTION_KEY}', and dataset.instruction gives none for this name. "
            "Add 'constant' to dataset.instruction.order, or a template over the fields of the file name."
        )
    return Episode(
        name=path.stem,
        path=path,
        num_frames=num_frames,
        actions=actions_FA,
        instruction=chosen.text,
        instruction_source=chosen.source,
        similar_names=recorded.similar_names,
        scenario=scenario,
        fields=fields,
        image_shape=(num_rows, num_columns, num_channels),
    )


def read_images(path: Path) -> NDArray[np.uint8]:
    """Decode all frames of one episode: [F, Y, X, 3] uint8 in the file's own channel order."""
    with open_episode(path) as file:
        key, images = image_dataset(file, path)
        _check_all_written(images, f"{path}: key '{key}'")
        with report_damage(f"{path}: key '{key}' cannot be decoded"):
            return images[:]


def _check_all_written(images: h5py.Dataset, place: str) -> None:
    """HDF5 answers zeros for chunks that never reached the disk."""
    if images.chunks is None:
        return
    num_expected = math.prod(-(-size // chunk) for size, chunk in zip(images.shape, images.chunks, strict=True))
    num_written = images.id.get_num_chunks()
    if num_written < num_expected:
        raise DataError(
            f"{place} has only {num_written} of {num_expected} chunks: it was not saved to the end (a full disk?). "
            "Copy the file again or remove it."
        )


def scan_episodes(
    folder: Path, *, grammars: Mapping[str, Pattern[str]], instruction: Instruction, action_names: Sequence[str]
) -> tuple[list[Episode], list[DataError]]:
    """Read all episodes of a folder without their pixels: those that can be used, one error for each that cannot."""
    paths, problems = find_episode_files(folder)
    episodes = []
    for path in paths:
        try:
            episode = read_episode(path, grammars=grammars, instruction=instruction)
            _check_action_names(episode, action_names)
            episodes.append(episode)
        except DataError as problem:
            problems.append(problem)
    return episodes, problems


def _read_actions(file: h5py.File, path: Path) -> NDArray[np.float32]:
    if "actions" not in file:
        raise DataError(f"{path}: {_missing_key(['actions'], _all_keys(file))}")
    with report_damage(f"{path}: key 'actions' cannot be read"):
        actions = file["actions"]
    if (
        not isinstance(actions, h5py.Dataset)
        or actions.ndim != 2
        or actions.shape[1] not in (2, 3)
        or actions.dtype.kind != "f"
    ):
        raise DataError(
            f"{path}: key 'actions' is {describe(actions)}; expected [frames, 2 or 3] floating point. "
            f"Convert it to the columns {', '.join(ACTION_NAMES)}."
        )
    with report_damage(f"{path}: key 'actions' cannot be read"), np.errstate(over="ignore"):
        values = actions[:].astype(np.float32)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{path}: key 'actions' holds NaN or infinity in {int((~finite).sum())} row(s), first in frame "
            f"{int(np.argmin(finite))}. Remove the episode or mend the recording."
        )
    return values


def _check_action_names(episode: Episode, action_names: Sequence[str]) -> None:
    columns = ACTION_NAMES[: episode.actions.shape[1]]
    missing = [name for name in action_names if name not in columns]
    if missing:
        raise DataError(
            f"{episode.path}: key 'actions' has the columns {', '.join(columns)}, but dataset.actions asks for "
            f"{', '.join(missing)}. Leave it out of dataset.actions or record it."
        )


def _all_keys(file: h5py.File) -> list[str]:
    keys: list[str | bytes] = []
    file.visit(keys.append)
    return [key if isinstance(key, str) else repr(key) for key in keys]


def _missing_key(expected: Collection[str], found: Sequence[str]) -> str:
    close = [match for key in expected for match in difflib.get_close_matches(key, found, n=1, cutoff=0.6)]
    hint = f" Did the collector mean '{close[0]}'?" if close else ""
    options = " or ".join(f"'{key}'" for key in expected)
    return f"has no key {options}; found {', '.join(found) or 'no key at all'}.{hint} Rename the key in the file."
