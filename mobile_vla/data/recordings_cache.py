"""The cache of what was read of the recordings, so that an unchanged data set opens without reading an episode again.

One file a source holds the signals of all its recordings and what else is known of them. An entry is valid while the
status of its files (size, times, inode) is unchanged. Files with an error are not stored: they are read each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mobile_vla.data.sources.contract import RecordedTexts, Recording, RecordingFile, Source
from mobile_vla.spec import Spec, parse_spec
from mobile_vla.storage.disk import write_atomically

_log = logging.getLogger(__name__)

CACHE_VERSION = 6
"""Part of every cache's name. Increase it when a code change makes the same files give other recordings."""

_DIGEST_BYTES = 16

_ARGUMENTS = json.JSONEncoder(sort_keys=True, default=str)


class RecordingsCache:
    """The recordings of ``source`` that ``cache_dir`` knows; ``store`` replaces them.

    ``files`` are those that the source found: their paths are used again, as making a path takes longer than all else
    of a recording.
    """

    def __init__(self, source: Source, files: Sequence[RecordingFile], *, cache_dir: Path) -> None:
        key = hashlib.blake2b(f"{CACHE_VERSION} {source!r}".encode(), digest_size=8).hexdigest()
        self._path = cache_dir / f"recordings-{key}.bin"
        self._known = _load(self._path, {str(path): path for file in files for path in file.files})

    def known(self, status: str) -> Sequence[Recording] | None:
        """Return the recordings of the file that has this ``status_of``, or None where they are not known."""
        return self._known.get(status)

    def store(self, entries: Mapping[str, Sequence[Recording]]) -> None:
        """Store recordings by the ``status_of`` their files in place of all before.

        A failure is only logged, as it costs only time.
        """
        if entries.keys() == self._known.keys():
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, _packed(entries))
        except OSError as error:
            _log.warning("%s: cannot be written (%s). The next run reads all files again.", self._path, error.strerror)


def status_of(file: RecordingFile) -> str:
    """Return a text that changes when a file changes: the change time cannot be set back by a program.

    To be taken before the file is read: what a recorder writes meanwhile must not pass for what was read.
    """
    parts = [str(file.path), _ARGUMENTS.encode(dict(file.arguments))]
    try:
        for path in file.files:
            status = os.stat(path)  # a path's own method takes a third longer
            parts.append(f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}")
    except OSError:
        return ""  # reading it will give the cause
    return "\n".join(parts)


def _packed(entries: Mapping[str, Sequence[Recording]]) -> bytes:
    """Return the content of a cache: a digest of the rest, the length of the header, the header, all signals."""
    specs: dict[Spec, int] = {}
    listed: dict[str, list[dict[str, Any]]] = {}
    signals: list[bytes] = []
    for status, recordings in entries.items():
        if not status:
            continue
        listed[status] = []
        for recording in recordings:
            signals += [_bytes(recording.actions), _bytes(recording.state)]
            listed[status].append(
                {
                    "name": recording.name,
                    "path": str(recording.path),
                    "files": [str(path) for path in recording.files],
                    "part": dict(recording.part),
                    "spec": specs.setdefault(recording.spec, len(specs)),
                    "num_frames": recording.num_frames,
                    "texts": asdict(recording.texts),
                    "fields": dict(recording.fields),
                    "doubtful_row": recording.doubtful_row,
                    "notes": recording.notes,
                    "digest": recording.digest,
                    "optional": recording.optional,
                }
            )
    header = json.dumps({"specs": [spec.to_json() for spec in specs], "entries": listed}).encode()
    header += b" " * (-len(header) % 8)  # the signals begin at a multiple of their size
    content = b"".join([len(header).to_bytes(8, "little"), header, *signals])
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest() + content


def _bytes(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, np.float32).tobytes()


def _load(path: Path, paths: dict[str, Path]) -> dict[str, list[Recording]]:
    """Return the recordings by status, none where the cache is missing or damaged (which is logged)."""
    try:
        content = path.read_bytes()
        if hashlib.blake2b(content[_DIGEST_BYTES:], digest_size=_DIGEST_BYTES).digest() != content[:_DIGEST_BYTES]:
            raise ValueError("its digest differs")
        return _unpacked(content[_DIGEST_BYTES:], paths)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        _log.warning("%s: is damaged or of another version (%s). All files are read again.", path, error)
        return {}


def _unpacked(content: bytes, paths: dict[str, Path]) -> dict[str, list[Recording]]:
    """Return the recordings by status; ``paths`` are known ones by their text, and those that are made are added."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    specs = [parse_spec(spec) for spec in header["specs"]]
    signals, place = np.frombuffer(content, np.uint8, offset=end), 0
    entries: dict[str, list[Recording]] = {}
    for status, listed in header["entries"].items():
        entries[status] = []
        for entry in listed:
            spec, num_frames = specs[entry["spec"]], entry["num_frames"]
            for text in (entry["path"], *entry["files"]):
                if text not in paths:
                    paths[text] = Path(text)
            columns = []
            for names in (spec.actions, spec.state):
                num_bytes = 4 * num_frames * len(names)
                values = signals[place : place + num_bytes].view(np.float32).reshape(num_frames, len(names))
                columns.append(values)
                place += num_bytes
            entries[status].append(
                Recording(
                    name=entry["name"],
                    path=paths[entry["path"]],
                    files=tuple(paths[text] for text in entry["files"]),
                    part=entry["part"],
                    spec=spec,
                    actions=columns[0],
                    state=columns[1],
                    texts=RecordedTexts(**{**entry["texts"], "similar_names": tuple(entry["texts"]["similar_names"])}),
                    fields=entry["fields"],
                    doubtful_row=entry["doubtful_row"],
                    notes=tuple(entry["notes"]),
                    digest=entry["digest"],
                    optional=tuple(entry["optional"]),
                )
            )
    return entries
