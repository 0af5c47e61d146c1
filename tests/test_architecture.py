"""ARCHITECTURE.md is true: its map names every folder, imports go the way it says, and the files it names exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from tiny_runs import ROOT

PACKAGE = ROOT / "mobile_vla"
MAP = re.search(r"## Map\n(.*?)\n## ", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)
assert MAP is not None
FOLDERS = re.findall(r"^\| `(mobile_vla[\w/]*)` \|", MAP[1], re.MULTILINE)

MAX_FILES = 12
ONE_A_FILE = {"mobile_vla/sampling/strategies", "mobile_vla/commands"}
"""Folders that grow by a file with everything that is added to them."""

VIEWS = [f"mobile_vla/compare/{view}" for view in ("terminal", "page", "dashboard")]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def imports_of(path: Path) -> list[tuple[str, str]]:
    """Return the folders that the module ``path`` imports from, each with the module's name; lazy imports count."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            file = ROOT / name.replace(".", "/")
            while not file.with_suffix(".py").is_file() and file != ROOT and file != file.parent:
                file = file.parent  # the last part may be a name in the module
            if file.is_relative_to(PACKAGE):
                found.append((file.parent.relative_to(ROOT).as_posix(), name))
    return found


def test_the_map_names_every_folder_once() -> None:
    assert sorted(FOLDERS) == sorted({path.parent.relative_to(ROOT).as_posix() for path in modules()})


def test_the_readme_names_every_folder_too() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [folder for folder in FOLDERS if f"`{folder}`" not in readme] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_from_those_above_it(folder: str) -> None:
    above = {"mobile_vla", *FOLDERS[: FOLDERS.index(folder) + 1]}
    upwards = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).glob("*.py"))
        # Both hand on what is imported when it is asked for.
        if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
        for imported, name in imports_of(path)
        if imported not in above
    ]
    assert upwards == []


@pytest.mark.parametrize("folder", VIEWS)
def test_the_views_of_a_comparison_do_not_import_each_other(folder: str) -> None:
    others = set(VIEWS) - {folder}
    assert [name for path in (ROOT / folder).glob("*.py") for to, name in imports_of(path) if to in others] == []


@pytest.mark.parametrize("folder", sorted(set(FOLDERS) - ONE_A_FILE))
def test_no_folder_is_too_full_to_be_looked_over(folder: str) -> None:
    assert len([path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]) <= MAX_FILES


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_the_files_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`((?:mobile_vla|conf|experiments|tests|locks)/[\w./-]+)`", (ROOT / page).read_text())
    assert named
    # conf/ is inside the package in the wheel alone.
    here = [name for name in named if "NAME" not in name and name != "mobile_vla/conf"]
    assert [name for name in here if not (ROOT / name).exists()] == []
    places = [Path(name).parent for name in named if "NAME" in name]
    assert [place for place in places if "NAME" not in str(place) and not (ROOT / place).is_dir()] == []
