"""Files from somebody else: nothing outside, nothing but regular files, nothing without a limit."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from reading_causes import as_nobody

from mobile_vla.compare.data.planned import missing_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.errors import UserError
from mobile_vla.tracking.wandb.recordings import find_recordings
from mobile_vla.untrusted.files import (
    check_links,
    csv_rows,
    inside,
    lines_of,
    open_regular,
    parse_json,
    read_json,
    read_limited,
)


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


def test_lines_are_read_within_limits_and_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"a\nb\xe2\x80\xa8c\nd")  # a character that str.splitlines takes for a line's end
    assert list(lines_of(path)) == [
        (f"{path}: line {n}", text) for n, text in ((1, b"a\n"), (2, b"b\xe2\x80\xa8c\n"), (3, b"d"))
    ]
    for content, line in ((b"a\n" * 500_001, 500_001), (b"a\n" + b"b" * 2**21, 2), ((b"c" * 2**20 + b"\n") * 1, 1)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"line {line} goes beyond what such a file holds"):
            list(lines_of(path))


@pytest.mark.parametrize("content", [b'a,b\n"1\n', b"a,b\n" + b"1" * 200_000, b"a,b\n\xff,1", b'a,b\n"1"x,2'])
def test_what_is_no_csv_is_named_with_its_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.csv: line 2: is no line of a CSV file"):
        list(csv_rows(tmp_path / "x.csv"))


def test_links_are_followed_inside_alone_wherever_they_stand(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "best").mkdir(parents=True)
    (run / "checkpoints" / "last").symlink_to("best")
    (run / "checkpoints" / "best" / "weights").symlink_to("../../weights")
    check_links(run / "checkpoints", root=run)
    with pytest.raises(UserError, match="which lies outside of it"):
        check_links(run / "checkpoints" / "best")
    (run / "checkpoints" / "best" / "other").symlink_to("../../../weights")
    with pytest.raises(UserError, match="which lies outside of it"):
        check_links(run / "checkpoints", root=run)
    (run / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(UserError, match="which lies outside of it"):
        check_links(run / "elsewhere", root=run)


def test_a_folder_that_cannot_be_read_ends_the_walk_and_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:  # another user can read it; those of pytest are closed
        public = Path(folder)
        public.chmod(0o755)
        (public / "closed").mkdir(mode=0)
        said = f"{public}/closed: cannot be read .Permission denied., so what it holds would be left out"
        for read in (load_runs, find_recordings, lambda path: missing_runs(path, [])):
            with pytest.raises(UserError, match=said):
                as_nobody(public, read)
