"""Content digests of recordings and files; a file is read again only when its status changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobile_vla.data.sources.contract import Recording
from mobile_vla.process.progress_bar import track
from mobile_vla.storage.build_once import digest_of
from mobile_vla.storage.disk import write_atomically

_log = logging.getLogger(__name__)

_PART = json.JSONEncoder(sort_keys=True)


def digest_recordings(recordings: Sequence[Recording], *, cache_dir: Path) -> dict[str, str]:
    """Return the content digest of each recording, by its name."""
    names = (recording.name for recording in recordings)
    return dict(zip(names, digests_of(recordings, cache_dir=cache_dir), strict=True))


def digests_of(recordings: Sequence[Recording], *, cache_dir: Path) -> list[str]:
    """Return the content digest of each recording, in order."""
    by_file = digest_files(list(dict.fromkeys(path for r in recordings for path in r.files)), cache_dir=cache_dir)
    return [_digest_of(recording, by_file) for recording in recordings]


def _digest_of(recording: Recording, by_file: Mapping[Path, str]) -> str:
    parts = [by_file[path] for path in recording.files]
    if len(parts) == 1 and not recording.part:
        return parts[0]
    content = _PART.encode([*parts, recording.part])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def digest_files(paths: Sequence[Path], *, cache_dir: Path) -> dict[Path, str]:
    """Return the content digest of each file; a file is read again only when its status changed.

    The digests are stored in ``cache_dir``. If that store is damaged or cannot be written, the only cost is time: the
    files are read again.
    """
    if not paths:
        return {}
    memo_path = cache_dir / "file_digests.json"
    memo = _read_memo(memo_path)
    keys = {}
    folders: dict[str, str] = {}  # resolved once each, as it takes longer than all else here
    for path in paths:
        status = path.stat()
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        # The change time is part of the key because any program can set the modification time back, but not this one.
        keys[path] = (
            f"{folders[folder]}/{name}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
        )
    unread = [(key, path) for path, key in keys.items() if key not in memo]
    fresh = {key: digest_of(path) for key, path in track(unread, description="reading episode files")}
    if fresh:
        memo |= fresh
        _write_memo(memo_path, memo)
    return {path: memo[key] for path, key in keys.items()}


def _read_memo(path: Path) -> dict[str, str]:
    """Return the digests stored in ``path``, or none where the file is missing or damaged (which is logged)."""
    try:
        content = json.loads(path.read_bytes())
        memo = content["files"]
        is_whole = content["digest"] == _digest_memo(memo)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        is_whole, memo = False, {}
    if not is_whole:
        _log.warning("%s: is damaged or of another version. All episode files are read again.", path)
    return memo if is_whole else {}


def _digest_memo(memo: Mapping[str, str]) -> str:
    return hashlib.blake2b(json.dumps(memo).encode(), digest_size=16).hexdigest()


def _write_memo(path: Path, memo: Mapping[str, str]) -> None:
    """Store ``memo`` in ``path``; a failure is only logged, because the next run can read the files again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"digest": _digest_memo(memo), "files": memo}).encode())
    except OSError as error:
        _log.warning("%s: cannot be written (%s). The next run reads all files again.", path, error.strerror)
