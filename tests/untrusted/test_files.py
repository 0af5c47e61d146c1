"""Files from somebody else: nothing outside, nothing but regular files, nothing without a limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, open_regular, parse_json, read_json, read_limited


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "link", "link/deeper", "loop", "a\0b"])
def test_what_leads_outside_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret").mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(UserError, match="names"):
        inside(folder, name)


def test_what_lies_inside_is_found_whether_it_exists_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "alias").symlink_to(folder)  # the folder itself may be a link: the user gave it
    assert inside(tmp_path / "alias", "hardest/01.jpg") == folder.resolve() / "hardest" / "01.jpg"
    assert inside(folder, "a/../b") == folder.resolve() / "b"


def test_pipes_devices_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "named pipe"), (Path("/dev/zero"), "device"), (tmp_path, "folder")):
        with pytest.raises(UserError, match=kind):
            open_regular(path)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 11)
    assert read_limited(tmp_path / "big", max_bytes=11) == b"x" * 11
    with pytest.raises(UserError, match="is larger than"):
        read_limited(tmp_path / "big", max_bytes=10)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 10_000, b"\xff\xfe", '{"a": }'])
def test_what_is_no_json_is_named(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the place"):
        parse_json(text, place="the place")
    (tmp_path / "file.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"file\.json"):
        read_json(tmp_path / "file.json")
