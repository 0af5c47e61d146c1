"""The files of a LeRobot folder: where ``info.json`` says they are, or else where they really are."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from mobile_vla.errors import DataError, UnreadableNowError, UserError
from mobile_vla.untrusted.files import inside

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")

_CHUNK, _SHARED_FILE = re.compile(r"chunk-\d+"), re.compile(r"file-\d+")
_FIELD = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}")
_MAX_FILES = 1_000_000


@dataclass(kw_only=True)
class Files:
    """The parquet files under ``data`` and the videos of a folder, by their paths in it; errors of unreadable folders.

    ``by_stem`` has the paths of each file name without its suffix.
    """

    paths: set[str] = field(default_factory=set)
    by_stem: dict[str, list[str]] = field(default_factory=dict)
    problems: list[DataError] = field(default_factory=list)

    @cached_property
    def tables(self) -> list[str]:
        """All parquet files, in the order of their paths."""
        return sorted(path for path in self.paths if path.endswith(".parquet"))


def list_files(folder: Path) -> Files:
    """Return the files of ``folder`` and its subfolders. Links are followed, but not to a place outside.

    ``images`` is left out: it can hold a million files, and each is found by its name. Hidden files and folders too.
    """
    files = Files()
    waiting, read = [""], set()
    while waiting:
        name = waiting.pop()
        try:
            status = (folder / name).stat()
            if (status.st_dev, status.st_ino) in read:
                continue
            read.add((status.st_dev, status.st_ino))
            with os.scandir(folder / name) as entries:
                for entry in entries:
                    _add_entry(entry, f"{name}/{entry.name}" if name else entry.name, folder, files, waiting)
        except OSError as error:
            files.problems.append(
                UnreadableNowError(
                    f"{folder / name}: the folder cannot be read ({error.strerror}), so the episodes in it are "
                    "unknown. Give the permission (chmod u+rx), mount the disk, or move the folder away."
                )
            )
    return files


def _add_entry(entry: os.DirEntry[str], path: str, folder: Path, files: Files, waiting: list[str]) -> None:
    if entry.name.startswith(".") or path in ("meta", "images"):
        return
    stem, suffix = os.path.splitext(entry.name)  # not a Path: making one takes longer than all else here
    is_folder = entry.is_dir()
    is_file = not is_folder and suffix.lower() in (".parquet", *VIDEO_SUFFIXES)
    if (is_folder or is_file) and entry.is_symlink():
        try:
            place_in(folder, path)
        except DataError as problem:
            files.problems.append(problem)
            return
    if is_folder:
        waiting.append(path)
    elif is_file:
        files.paths.add(path)
        files.by_stem.setdefault(stem, []).append(path)
        if len(files.paths) > _MAX_FILES:
            raise DataError(f"{folder}: holds more than {_MAX_FILES:,} files. Give a folder with fewer of them.")


def place_in(folder: Path, name: str) -> Path:
    """Return ``folder / name``; raise ``DataError`` where that lies outside of the folder, by its name or by a link.

    A folder of the Hugging Face cache is a snapshot made of links to the files beside it; these are inside.
    """
    root = folder.resolve()
    # .../datasets--owner--name/snapshots/REVISION[/...], whose links lead to .../datasets--owner--name/blobs.
    hub = next(
        (p.parents[1] for p in (root, *root.parents) if len(p.parents) > 1 and p.parent.name == "snapshots"), None
    )
    try:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            inside(root, name)
        inside(hub if hub is not None and (hub / "blobs").is_dir() else root, root / name)
    except DataError:
        raise
    except UserError as error:
        raise DataError(str(error)) from error
    return folder / name


def filled(template: str, fields: Mapping[str, int | str]) -> str | None:
    """Return ``template`` with its fields filled in; None where it has others than ``fields``.

    ``str.format`` would fill in what a hostile template asks for: attributes of objects, and a gigabyte of spaces.
    """
    if {name for name, _ in _FIELD.findall(template)} - fields.keys():
        return None

    def value(match: re.Match[str]) -> str:
        return str(fields[match[1]]).zfill(int(match[2] or 0))

    text = _FIELD.sub(value, template)
    return None if "{" in text or "}" in text else text


def find_file(files: Files, template: str | None, *, fields: Mapping[str, int], key: str | None = None) -> str | None:
    """Return the path in the folder of an episode's parquet file, or of its video of the camera ``key``.

    The place is that of ``template``, or else that of the only file with the same name, chunk and camera. None where
    there is none. ``fields`` are those of the template: ``episode_index`` and ``episode_chunk`` (v2), or
    ``chunk_index`` and ``file_index`` (v3).
    """
    told = filled(template, fields if key is None else {**fields, "video_key": key}) if template is not None else None
    if told is not None and (path := posixpath.normpath(told)) in files.paths:
        return path
    if "episode_index" in fields:
        named = files.by_stem.get(f"episode_{fields['episode_index']:06d}", [])
    else:
        chunk = f"chunk-{fields['chunk_index']:03d}"
        named = [p for p in files.by_stem.get(f"file-{fields['file_index']:03d}", []) if chunk in p.split("/")]
    if key is None:
        found = [path for path in named if path.endswith(".parquet")]
    else:
        keys = {key, short_key(key)}
        found = [path for path in named if not path.endswith(".parquet") and keys & set(path.split("/")[:-1])]
    return found[0] if len(found) == 1 else None


def has_shared_videos(files: Files, keys: Sequence[str]) -> bool:
    """Return whether videos of the cameras ``keys`` are named, as in v3, by a number and not by their episode."""
    return any(
        _SHARED_FILE.fullmatch(PurePosixPath(path).stem) is not None and key_of_video(path) in keys
        for path in files.paths
    )


def key_of_video(path: str) -> str | None:
    """Return the key of the camera that the folder of a video is named after; None for other files."""
    folders = [name for name in path.split("/")[:-1] if not _CHUNK.fullmatch(name)]
    return folders[-1] if path.lower().endswith(VIDEO_SUFFIXES) and len(folders) > 1 else None


def short_key(key: str) -> str:
    """Return the name of a camera or signal without the part that all keys have."""
    for prefix in ("observation.images.", "observation.image.", "observation."):
        if key.startswith(prefix) and len(key) > len(prefix):
            return key.removeprefix(prefix)
    return key


def elsewhere(videos: Sequence[str], *, template: str | None) -> list[str]:
    """Return a warning where ``videos`` are in another folder than ``info.json`` says."""
    if template is None:
        return []
    said = posixpath.normpath(template).split("/")[0]
    found = sorted({file.split("/")[0] for file in videos} - {said})
    return [f"info.json says that videos are in {said}/, and they are in {found[0]}/"] if found else []


def status_of(paths: Sequence[Path]) -> str:
    """Return a text that changes when one of the files does.

    Caches of what was read depend on it. The files are not among those of each request, as asking for their status ten
    thousand times takes half a second.
    """
    found = [path.stat() for path in paths if path.is_file()]
    return " ".join(f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}" for status in found)
