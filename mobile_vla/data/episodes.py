"""Read HDF5 episode files, told apart by their schema, and say exactly what is wrong with those that cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from re import Pattern
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.scenario import parse_name
from mobile_vla.errors import DataError
from mobile_vla.schema import ACTION_NAMES, Episode

IMAGE_KEYS = {"flat": "images", "nested": "observations/images"}
INSTRUCTION_KEY = "language_instruction"

InstructionSource = Literal["file", "template", "constant"]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Where an episode's instruction comes from: the first of ``order`` that yields a text.

    ``file`` is the file's own ``language_instruction``; ``template`` is filled with the fields of the file name and is
    passed over where one of its fields is missing; ``constant`` is the same text for all.
    """

    order: Sequence[InstructionSource]
    template: str
    constant: str

    def choose(self, *, in_file: str | None, fields: Mapping[str, str]) -> str | None:
        """Return the instruction, or None when no source has one."""
        for source in self.order:
            text = {"file": in_file or "", "template": _fill(self.template, fields), "constant": self.constant}[source]
            if text:
                return text
        return None


def _fill(template: str, fields: Mapping[str, str]) -> str:
    try:
        return template.format_map(fields)
    except KeyError:
        return ""


def find_episode_files(folder: Path) -> list[Path]:
    """Return the ``.h5`` and ``.hdf5`` files below ``folder``, sorted by name; ``DataError`` when there are none."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder. Give dataset.path the folder that holds the episode files (*.h5).")
    files = [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.suffix in (".h5", ".hdf5")]
    if not files:
        raise DataError(f"{folder}: holds no episode file (*.h5, *.hdf5). Give the folder the collector wrote to.")
    by_name: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: (p.stem, str(p))):
        if path.stem in by_name:
            raise DataError(f"{path}: has the same name as {by_name[path.stem]}. Names identify episodes: rename one.")
        by_name[path.stem] = path
    return list(by_name.values())


@contextmanager
def open_episode(path: Path) -> Iterator[h5py.File]:
    """Open one episode file for reading; ``DataError`` when it is an LFS pointer, truncated or corrupt."""
    with path.open("rb") as raw:
        if raw.read(40).startswith(b"version https://git-lfs"):
            raise DataError(f"{path}: is a Git LFS pointer, not the episode. Run `git lfs pull` where it came from.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: is truncated, corrupt or not HDF5 ({_one_line(error)}). Copy it again or remove it."
        ) from error
    with file:
        yield file


def image_dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    """Return the image data set of either layout: [F, Y, X, 3] uint8, checked."""
    present = [key for key in IMAGE_KEYS.values() if key in file]
    if not present:
        raise DataError(f"{path}: {_missing_key('images', IMAGE_KEYS.values(), _all_keys(file))}")
    images = file[present[0]]
    if not isinstance(images, h5py.Dataset) or images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise DataError(
            f"{path}: key '{present[0]}' is {_describe(images)}; expected [frames, rows, columns, 3] uint8. "
            "Convert the images to 8-bit colour, frames first."
        )
    return images


def read_episode(path: Path, *, grammars: Mapping[str, Pattern[str]], instruction: Instruction) -> Episode:
    """Read everything but the pixels of one episode; ``DataError`` names file, key, what was found and what to do."""
    with open_episode(path) as file:
        images = image_dataset(file, path)
        actions_FA = _read_actions(file, path)
        if len(actions_FA) != len(images):
            raise DataError(
                f"{path}: key 'actions' has {len(actions_FA)} rows but '{images.name.lstrip('/')}' has {len(images)} "
                "frames; expected one action a frame. Record the episode again or cut both to the same length."
            )
        if len(images) < 2:
            raise DataError(f"{path}: holds {len(images)} frame(s); an episode needs at least 2. Remove the file.")
        scenario, fields = parse_name(path.stem, grammars)
        text = instruction.choose(in_file=_read_instruction(file, path), fields=fields)
        if text is None:
            raise DataError(
                f"{path}: no instruction in key '{INSTRUCTION_KEY}', and dataset.instruction gives none for this name. "
                "Add 'constant' to dataset.instruction.order, or a template over the fields of the file name."
            )
        return Episode(
            name=path.stem,
            path=path,
            num_frames=len(images),
            actions=actions_FA,
            instruction=text,
            scenario=scenario,
            fields=fields,
            image_shape=tuple(images.shape[1:]),
        )


def read_images(path: Path) -> NDArray[np.uint8]:
    """Decode all frames of one episode: [F, Y, X, 3] uint8 in the file's own channel order."""
    with open_episode(path) as file:
        images = image_dataset(file, path)
        try:
            return images[:]
        except OSError as error:
            raise DataError(
                f"{path}: key '{images.name.lstrip('/')}' cannot be decoded ({_one_line(error)}). "
                "The file is corrupt: copy it again or remove it."
            ) from error


def scan_episodes(
    folder: Path, *, grammars: Mapping[str, Pattern[str]], instruction: Instruction, action_names: Sequence[str]
) -> tuple[list[Episode], list[DataError]]:
    """Read all episodes of a folder without their pixels: those that can be used, and one error for each that cannot."""
    episodes, problems = [], []
    for path in find_episode_files(folder):
        try:
            episode = read_episode(path, grammars=grammars, instruction=instruction)
            _check_action_names(episode, action_names)
            episodes.append(episode)
        except DataError as problem:
            problems.append(problem)
    return episodes, problems


def _read_actions(file: h5py.File, path: Path) -> NDArray[np.float32]:
    if "actions" not in file:
        raise DataError(f"{path}: {_missing_key('actions', ['actions'], _all_keys(file))}")
    actions = file["actions"]
    if (
        not isinstance(actions, h5py.Dataset)
        or actions.ndim != 2
        or actions.shape[1] not in (2, 3)
        or actions.dtype.kind != "f"
    ):
        raise DataError(
            f"{path}: key 'actions' is {_describe(actions)}; expected [frames, 2 or 3] floating point, the columns being "
            f"{', '.join(ACTION_NAMES)}."
        )
    values = actions[:].astype(np.float32)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{path}: key 'actions' holds NaN or infinity in {int((~finite).sum())} row(s), first in frame "
            f"{int(np.argmin(finite))}. Remove the episode or mend the recording."
        )
    return values


def _read_instruction(file: h5py.File, path: Path) -> str | None:
    if INSTRUCTION_KEY not in file:
        return None
    node = file[INSTRUCTION_KEY]
    values = np.asarray(node[()]).reshape(-1) if isinstance(node, h5py.Dataset) else np.array([])
    if len(values) != 1 or not isinstance(values[0], bytes | str):
        raise DataError(f"{path}: key '{INSTRUCTION_KEY}' is {_describe(node)}; expected one text, such as (1,) S256.")
    try:
        return values[0].decode("utf-8").strip() if isinstance(values[0], bytes) else values[0].strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: key '{INSTRUCTION_KEY}' is not UTF-8 ({error}). Write the text as UTF-8.") from error


def _check_action_names(episode: Episode, action_names: Sequence[str]) -> None:
    columns = ACTION_NAMES[: episode.actions.shape[1]]
    missing = [name for name in action_names if name not in columns]
    if missing:
        raise DataError(
            f"{episode.path}: key 'actions' has the columns {', '.join(columns)}, but dataset.actions asks for "
            f"{', '.join(missing)}. Leave it out of dataset.actions or record it."
        )


def _all_keys(file: h5py.File) -> list[str]:
    keys: list[str] = []
    file.visit(keys.append)
    return keys


def _missing_key(what: str, expected: Iterable[str], found: list[str]) -> str:
    close = difflib.get_close_matches(what, found, n=1, cutoff=0.6)
    hint = f" Did the collector mean '{close[0]}'?" if close else ""
    options = " or ".join(f"'{key}'" for key in expected)
    return f"has no key {options}; found {', '.join(found) or 'no key at all'}.{hint} Rename the key in the file."


def _describe(node: object) -> str:
    if isinstance(node, h5py.Dataset):
        return f"{list(node.shape)} {node.dtype}"
    return "a group, not a data set"


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0]
