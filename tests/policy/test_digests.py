"""A folder is as it was sealed, or the first file that is not is named, and nothing outside of it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobile_vla.errors import UserError
from mobile_vla.policy.digests import check_sealed, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder, beside a file that it has no business with."""
    folder = tmp_path / "sealed"
    (folder / "adapter").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(256)))
    (folder / "adapter" / "weights").write_bytes(b"adapted")
    (folder / "empty").touch()
    (folder / "README.md").write_text("a card")
    (tmp_path / "secret").write_bytes(b"adapted")
    seal(folder)
    return folder


def check(folder: Path) -> None:
    check_sealed(folder, needed=["weights"], closed=["adapter"])


def listed(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return what edits ``digests.json`` and writes it in its own form."""

    def damage(folder: Path) -> None:
        digests = json.loads((folder / "digests.json").read_text())
        edit(digests)
        (folder / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")

    return damage


def linked(name: str, target: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped": (lambda f: (f / "weights").write_bytes(bytes(256)), r"^weights has other content: blake2b"),
    "short": (lambda f: os.truncate(f / "adapter/weights", 3), r"^adapter/weights has 3 bytes; expected 7"),
    "long": (lambda f: (f / "empty").write_text("\n"), r"^empty has 1 bytes; expected 0"),
    "missing": (lambda f: (f / "empty").unlink(), r"^empty is missing; expected 0 bytes"),
    "a link that leads out": (linked("adapter/weights", "../../secret"), r"lies outside"),
    "a link to nothing": (linked("weights", "nowhere"), r"^weights is missing"),
    "a loop of links": (linked("weights", "weights"), r"weights"),
    "a file more that is read": (lambda f: (f / "adapter/more").touch(), r"no entry for adapter/more"),
    "a link more that is read": (linked("adapter/more", "../.."), r"no entry for adapter/more"),
    "no list": (lambda f: (f / "digests.json").unlink(), r"^digests\.json is missing"),
    "a list of nothing": (lambda f: (f / "digests.json").write_text(""), r"^digests\.json: is not JSON"),
    "another list": (lambda f: (f / "digests.json").write_text("[]\n"), r"^digests\.json is not as it was written"),
    "a deep list": (lambda f: (f / "digests.json").write_text("[" * 10**6), r"^digests\.json: is nested too deeply"),
    "a list with a space more": (
        lambda f: (f / "digests.json").write_text((f / "digests.json").read_text() + " "),
        r"^digests\.json is not as it was written",
    ),
    "a needed file unlisted": (listed(lambda d: d.pop("weights")), r"^digests\.json has no entry for weights"),
    "a name that leads out": (listed(lambda d: d.update({"../secret": d["adapter/weights"]})), r"lies outside"),
    "an absolute name": (listed(lambda d: d.update({"/etc/hostname": d["empty"]})), r"lies outside"),
    "a name that is none": (listed(lambda d: d.update({"a\0b": d["empty"]})), r"is no file name"),
    "a size that is none": (listed(lambda d: d["empty"].update(size=None)), r"is not as it was written"),
    "a deep size": (listed(lambda d: d["empty"].update(size=[[[]]])), r"is not as it was written"),
    "a size of a thousand digits": (listed(lambda d: d["empty"].update(size=10**1000)), r"^empty has 0 bytes"),
    "a device": (linked("weights", "/dev/zero"), r"lies outside"),
    "a named pipe": (lambda f: ((f / "empty").unlink(), os.mkfifo(f / "empty")), r"is a named pipe"),
    "a folder": (lambda f: ((f / "empty").unlink(), (f / "empty").mkdir()), r"is a folder, not a file"),
}


def test_a_sealed_folder_is_whole_and_its_card_may_be_edited(folder: Path) -> None:
    check(folder)
    (folder / "README.md").write_text("with a licence")
    (folder / "rollouts").mkdir()
    check(folder)
    assert set(json.loads((folder / "digests.json").read_text())) == {"weights", "adapter/weights", "empty"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_first_file_that_is_not_as_it_was_is_named(damage: str, folder: Path) -> None:
    act, message = DAMAGES[damage]
    act(folder)
    with pytest.raises(UserError, match=message):
        check(folder)
