"""Seal a folder with a digest of every file in it, and check later that no sealed file has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

from mobile_vla.errors import UserError
from mobile_vla.storage.disk_sync import sync_file, sync_folder
from mobile_vla.untrusted.files import inside, open_regular, parse_json, read_limited

DIGESTS_FILE = "digests.json"

_UNSEALED = (DIGESTS_FILE, "README.md")
"""Files without a digest: the list of digests itself, and the model card, which its owner may edit."""


def seal(folder: Path) -> None:
    """Write ``digests.json``: the size in bytes and the blake2b digest of every file in ``folder``.

    All files and folders are synced to the disk before it returns.
    """
    digests = {}
    # Synced file by file: a rename of the folder may reach the disk before the content of its files does.
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            sync_folder(path)
        elif name not in _UNSEALED:
            digests[name] = _digest(path)
            sync_file(path)
    (folder / DIGESTS_FILE).write_text(_text_of(digests), encoding="utf-8")
    sync_file(folder / DIGESTS_FILE)
    sync_folder(folder)


def read_digests(folder: Path) -> dict[str, dict[str, object]]:
    """Return the digests that ``seal`` wrote, by file name; ``UserError`` where the list is missing or was changed."""
    try:
        content = read_limited(inside(folder, DIGESTS_FILE))
    except OSError as error:
        raise UserError(f"{DIGESTS_FILE} {_unreadable(error)}") from error
    digests = parse_json(content, place=DIGESTS_FILE)
    is_known = isinstance(digests, dict) and all(map(_is_digest, digests.values()))
    # Compared byte for byte: a change that the JSON parser ignores, such as white space, is damage as well.
    if not is_known or _text_of(digests).encode() != content:
        raise UserError(f"{DIGESTS_FILE} is not as it was written: it was damaged or edited")
    return digests


def check_sealed(folder: Path, *, needed: Collection[str], closed: Collection[str]) -> None:
    """Raise ``UserError`` that names the first file of ``folder`` that has changed since it was sealed, and how.

    Every sealed file is read completely; nothing outside the folder is read. All files in ``needed`` must have a
    digest, and so must every file in the folders ``closed``, where these exist. Other files may have been added.
    """
    digests = read_digests(folder)
    for name in (*needed, *_files_in(folder, closed)):
        if name not in digests:
            raise UserError(f"{DIGESTS_FILE} has no entry for {name}; expected one for each file that is read")
    for name, expected in digests.items():
        path = inside(folder, name)
        try:
            found = _digest(path, expected_size=expected["size"])
        except OSError as error:
            raise UserError(f"{name} {_unreadable(error)}; expected {expected['size']} bytes") from error
        if found["size"] != expected["size"]:
            raise UserError(f"{name} has {found['size']} bytes; expected {expected['size']}")
        if found != expected:
            raise UserError(f"{name} has other content: blake2b {found['blake2b']}; expected {expected['blake2b']}")


def _files_in(folder: Path, names: Collection[str]) -> Iterator[str]:
    """Yield the names of all entries at and below ``names`` that are not real folders: files and links."""
    # A link counts as an entry even where it points to a folder: its target may lie outside of ``folder``.
    for path in (path for name in names for path in (folder / name, *(folder / name).rglob("*"))):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            yield path.relative_to(folder).as_posix()


def _digest(path: Path, *, expected_size: object = None) -> dict[str, object]:
    """Return the size and the digest of a file; the size alone if it already differs from ``expected_size``."""
    with open_regular(path) as file:
        size = file.seek(0, 2)
        if expected_size is not None and size != expected_size:
            return {"size": size}
        file.seek(0)
        digest = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16))
        return {"size": size, "blake2b": digest.hexdigest()}


def _is_digest(entry: object) -> bool:
    return isinstance(entry, dict) and {key: type(value) for key, value in entry.items()} == {
        "size": int,
        "blake2b": str,
    }


def _text_of(digests: Mapping[str, object]) -> str:
    return json.dumps(digests, indent=1) + "\n"


def _unreadable(error: OSError) -> str:
    return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
