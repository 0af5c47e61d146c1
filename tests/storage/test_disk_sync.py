"""What a checkpoint consists of is on the disk before it appears, and the rows before it are too."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tiny_runs import run_in

from mobile_vla.storage.disk_sync import sync_file, sync_folder


def test_rows_files_and_folder_are_synced_before_the_rename_and_the_name_after(
    tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    synced: list[Path] = []
    names: list[str] = []
    rename = os.rename

    def check_and_rename(source: Path, target: Path) -> None:
        if Path(target).parent == run / "checkpoints" and Path(source).suffix == ".partial":
            files = [path for path in Path(source).rglob("*") if path.is_file()]
            assert len(files) == 6
            assert {*files, Path(source), run / "metrics.jsonl"} <= set(synced)
            if names:
                assert run / "checkpoints" in synced
            assert synced[-1] == Path(source)
            names.append(Path(target).name)
            synced[:] = [run / "metrics.jsonl"] if names[-1].startswith("best") else []
        rename(source, target)

    monkeypatch.setattr(os, "rename", check_and_rename)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}"))))

    assert run_in(run, *tiny).exit_code == 0

    assert len(names) > 3
    assert {*synced} >= {run / "checkpoints", run}


def test_what_cannot_be_synced_is_an_error_but_for_folders_that_have_no_such_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    codes = {errno.EIO: (OSError, OSError), errno.EINVAL: (OSError, None)}
    for code, expected in codes.items():

        def fail(fd: int, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)
        for sync, path, error in zip((sync_file, sync_folder), (tmp_path / "file", tmp_path), expected, strict=True):
            if error is None:
                sync(path)
                continue
            with pytest.raises(error):
                sync(path)
