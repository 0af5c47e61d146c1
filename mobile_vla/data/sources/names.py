"""The names of episodes that are made of the names of their files."""

from __future__ import annotations

from pathlib import Path


def name_in_folder(path: Path, folder: Path) -> str:
    """Return the name of the file ``path`` with its folders below ``folder``, joined by ``_``, without suffix."""
    return "_".join(path.relative_to(folder).with_suffix("").parts)


def own_name(name: str, path: Path) -> str:
    """Return the file's own name where the episode's ``name`` has its folders before it; else ``name``.

    Folders are added where two files have the same name. They tell episodes apart, and grammars are written for files.
    """
    if name == path.stem or not name.endswith(path.stem):  # most names; cheaper than what follows
        return name
    *folders, _ = path.parts
    is_with_folders = any(
        name == "_".join((*folders[-number:], path.stem)) for number in range(1, min(name.count("_"), len(folders)) + 1)
    )
    return path.stem if is_with_folders else name
