"""``meta/info.json`` of a LeRobot folder: what it says about the recordings, none of which is believed unchecked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobile_vla.errors import DataError, UserError
from mobile_vla.untrusted.files import open_regular, parse_json, read_limited

INFO = "meta/info.json"

_MAX_FEATURES = 1000

_PARQUET = b"PAR1"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One entry of ``features``: what ``info.json`` says about a column or a camera.

    ``names`` are those of the vector's elements, flat. ``details`` has the keys units, kinds, rest and flips, each a
    list with one entry for each element, which ``export-data`` writes and lerobot does not. ``codec`` is that of a
    camera's video.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    details: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    is_depth: bool = False
    codec: str | None = None


@dataclass(frozen=True, kw_only=True)
class Info:
    """The content of ``info.json``, checked; all of it is missing where the file is empty or not there.

    ``data_path`` and ``video_path`` are templates of paths inside the folder. ``splits`` are names with the first
    episode of each and the first after it.
    """

    version: str | None = None
    fps: float | None = None
    features: Mapping[str, Feature] = field(default_factory=dict)
    data_path: str | None = None
    video_path: str | None = None
    chunks_size: int = 1000
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_v3(self) -> bool:
        """Whether it says that many episodes share a table and a video."""
        return self.version is not None and self.version.removeprefix("v").startswith("3.")

    def split_of(self, episode: int) -> str | None:
        """Return the name of the split that holds ``episode``; None where none does, or several do."""
        found = [name for name, (first, end) in self.splits.items() if first <= episode < end]
        return found[0] if len(found) == 1 else None


def is_lerobot(folder: Path) -> bool:
    """Return whether ``folder`` holds a LeRobot data set: its ``info.json``, or parquet files in ``data/chunk-*``."""
    try:
        if b'"codebase_version"' in read_limited(folder / INFO):
            return True
    except (OSError, UserError):
        pass
    try:
        return any(_is_parquet(path) for path in folder.glob("data/chunk-*/*.parquet"))
    except OSError:
        return False


def _is_parquet(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except (OSError, UserError):  # another file tells; where none does, reading gives the cause
        return False


def read_info(folder: Path) -> Info | None:
    """Return the content of the folder's ``info.json``, or None where it is empty or not there.

    Raises ``DataError`` where it is something else than what lerobot writes, or of a version before 2.0.
    """
    path = folder / INFO
    try:
        text = read_limited(path)
        if not text.strip():
            return None
        content = parse_json(text, place=str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give the permission, or mount the disk."
        ) from error
    except UserError as error:
        raise DataError(f"{error}. Copy the file again.") from error
    return parse_info(content, place=str(path)) if content else None


def parse_info(content: Any, *, place: str) -> Info:
    """Return what the JSON ``content`` of an ``info.json`` says; raises ``DataError`` that begins with ``place``."""
    if not isinstance(content, dict):
        raise DataError(f"{place}: is a {type(content).__name__}; expected an object as lerobot writes it.")
    version = content.get("codebase_version")
    if isinstance(version, str) and version.startswith(("v1.", "1.")):
        raise DataError(
            f"{place}: is of LeRobot {version}; versions 2.0 to 3.0 are read. Convert it with lerobot's own scripts."
        )
    features = content.get("features") or {}
    if not isinstance(features, dict) or len(features) > _MAX_FEATURES:
        raise DataError(f"{place}: 'features' is no object of at most {_MAX_FEATURES} entries, as lerobot writes it.")
    chunks_size = content.get("chunks_size")
    return Info(
        version=_text(version),
        fps=_positive(content.get("fps")),
        features={key: _feature(value, f"{place}: feature '{key[:80]}'") for key, value in features.items()},
        data_path=_text(content.get("data_path")),
        video_path=_text(content.get("video_path")),
        chunks_size=chunks_size if type(chunks_size) is int and chunks_size > 0 else 1000,
        splits=_splits(content.get("splits")),
    )


def _feature(content: Any, place: str) -> Feature:
    if not isinstance(content, dict) or not isinstance(content.get("dtype"), str):
        raise DataError(f"{place} has no 'dtype'; expected an object with dtype, shape and names.")
    shape = content.get("shape") or ()
    if not isinstance(shape, Sequence) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise DataError(f"{place} has the shape {str(shape)[:80]}; expected a list of whole numbers.")
    info = content.get("info") or content.get("video_info") or {}
    info = info if isinstance(info, dict) else {}
    details = {
        key: tuple(values) if isinstance(values, list) else (values,) * math.prod(shape or (1,))
        for key in ("units", "kinds", "rest", "flips")
        if (values := content.get(key, info.get(key))) is not None and math.prod(shape or (1,)) < 2**16
    }
    return Feature(
        dtype=content["dtype"],
        shape=tuple(shape),
        names=tuple(_flat_names(content.get("names"))),
        details=details,
        is_depth=any(info.get(key, content.get(key)) is True for key in ("is_depth_map", "video.is_depth_map")),
        codec=_text(info.get("video.codec")),
    )


def _flat_names(names: Any) -> list[str]:
    """Return the names as a flat list.

    Real sets nest them once more (``[["a", "b"]]``), group them (``{"motors": ["a", "b"]}``) or map them to the column
    (``{"a": 0, "b": 1}``).
    """
    if isinstance(names, str):
        return [names]
    if isinstance(names, dict):
        if names and all(type(value) is int for value in names.values()):
            return sorted(names, key=lambda name: names[name])
        names = list(names.values())
    if not isinstance(names, list):
        return []
    inner = [name for part in names for name in (part if isinstance(part, list) else [part])]
    return [str(name)[:200] for name in inner] if all(isinstance(name, str | int) for name in inner) else []


def _splits(content: Any) -> dict[str, tuple[int, int]]:
    splits = {}
    for name, text in content.items() if isinstance(content, dict) else ():
        first, _, end = text.partition(":") if isinstance(text, str) else ("", "", "")
        if first.isdecimal() and end.isdecimal() and len(text) < 20:
            splits[str(name)[:80]] = (int(first), int(end))
    return splits


def _text(value: Any) -> str | None:
    return value[:500] if isinstance(value, str) and value else None


def _positive(value: Any) -> float | None:
    is_rate = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if is_rate else None
