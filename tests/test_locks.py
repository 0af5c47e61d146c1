"""The environment is the one that the locks name, and the locks name every file by its digest."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "locks").glob("*.lock"))


def read_lock(*names: str) -> dict[str, Requirement]:
    """Return the requirements of some locks by the package's name."""
    lines = [line for lock in LOCKS if lock.stem in names for line in lock.read_text().splitlines()]
    found = [Requirement(line.removesuffix("\\")) for line in lines if line[0] not in "# "]
    assert found
    return {canonicalize_name(requirement.name): requirement for requirement in found}


EVERYTHING = tuple(lock.stem for lock in LOCKS)
REGISTRY = tuple(name for name in EVERYTHING if name != "torch-cpu")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_of_a_lock_has_one_version_and_digests(lock: Path) -> None:
    text = lock.read_text()
    head, *blocks = re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE)
    assert "make_locks.py" in head
    assert "://" not in text
    for block in blocks:
        requirement, *digests = block.replace("\\\n", "\n").splitlines()
        assert re.match(r"[a-z0-9.-]+==[\w.+]+( ;|$)", requirement.strip()), requirement
        assert digests, requirement
        assert all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64} ?", digest) for digest in digests), requirement


def test_no_package_is_in_two_locks_but_torch() -> None:
    assert set(EVERYTHING) == {"build", "extras", "main", "torch", "torch-cpu"}
    assert sum(len(read_lock(name)) for name in EVERYTHING) == len(read_lock(*EVERYTHING)) + 1
    assert str(read_lock("torch-cpu")["torch"]) == f"{read_lock('torch')['torch']}+cpu"


def test_what_is_installed_is_what_the_locks_name() -> None:
    installed = {canonicalize_name(found.metadata["Name"]): Version(found.version) for found in distributions()}
    for name, requirement in read_lock("build", "main").items():
        if requirement.marker is None or requirement.marker.evaluate():
            assert name in installed, f"{name}: run `make setup`"
    for name, requirement in read_lock(*REGISTRY).items():
        if name in installed:  # torch's +cpu is a build of the same version
            assert requirement.specifier.contains(installed[name], prereleases=True), f"{name}: {installed[name]}"


def test_the_locks_are_of_this_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    # dev names other extras of this project.
    (named,) = (Requirement(requirement) for requirement in extras["dev"] if requirement.startswith("mobile-vla"))
    others = [requirement for extra in named.extras for requirement in extras[extra]]
    extras["dev"] = [*others, *(text for text in extras["dev"] if Requirement(text) != named)]
    wanted = {
        ("build", "main", "torch"): [
            *project["build-system"]["requires"],
            *project["project"]["dependencies"],
            *extras["dev"],
        ],
        REGISTRY: [requirement for extra in extras.values() for requirement in extra],
    }
    for names, requirements in wanted.items():
        locked = read_lock(*names)
        for requirement in map(Requirement, requirements):
            (pin,) = locked[canonicalize_name(requirement.name)].specifier
            assert requirement.specifier.contains(pin.version, prereleases=True), f"{requirement}: run `make lock`"
