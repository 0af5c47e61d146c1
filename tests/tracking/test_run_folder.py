"""A run folder holds strict JSON that a reader never sees half written, and says why a run failed."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import strict_json

from mobile_vla.errors import DataError, UserError
from mobile_vla.storage.disk import write_atomically
from mobile_vla.tracking.run_folder import RunFolder, line_of, read_metrics


@given(values=st.dictionaries(st.text(min_size=1), st.none() | st.floats() | st.integers() | st.text() | st.booleans()))
def test_a_summary_is_strict_json_and_loses_only_what_json_cannot_say(
    values: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))

    folder.add_to_summary(values)
    folder.write_summary("done")

    expected = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    expected["status"] = "done"
    assert strict_json((folder.path / "summary.json").read_text()) == expected


def test_rows_are_appended_to_the_history_they_begin_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.start_metrics(history=[line_of({"step": 0, "samples_seen": 0})])

    folder.log({"step": 1, "samples_seen": 8, "train/loss": 0.5})
    folder.log({"step": 2, "samples_seen": 16, "train/loss": float("nan")})

    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [strict_json(line) for line in lines] == [
        {"step": 0, "samples_seen": 0},
        {"step": 1, "samples_seen": 8, "train/loss": 0.5},
        {"step": 2, "samples_seen": 16, "train/loss": None},
    ]
    folder.start_metrics(history=[])
    assert (folder.path / "metrics.jsonl").read_text() == ""


def test_rows_are_read_up_to_a_step_and_a_torn_one_is_none(tmp_path: Path) -> None:
    rows = [{"step": step, "samples_seen": 8 * step} for step in range(5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 2, "sam')

    assert list(read_metrics(tmp_path, up_to_step=2)) == rows[:3]
    assert list(read_metrics(tmp_path, up_to_step=99)) == rows


@pytest.mark.parametrize("line", ["{", "[1]", '{"step": "two"}', "\ud800", "[" * 100_000])
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: is missing"):
        list(read_metrics(tmp_path, up_to_step=9))
    text = f'{{"step": 0}}\n{line}\n{{"step": 2}}\n'
    (tmp_path / "metrics.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2"):
        list(read_metrics(tmp_path, up_to_step=9))


BEGINNING = {"steps": 0, "samples_seen": 0, "wall_s": 0.0}
MANIFEST = {"sampler": "shuffled", "seed": 3, "study": "trial", "commit": "abc"}


def raised(error: Exception) -> Exception:
    """Return ``error`` with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataError("a.h5: is truncated\nsecond line"), "a.h5: is truncated"),
        (KeyError("images"), "KeyError: 'images'"),
        (RuntimeError(), "RuntimeError: RuntimeError"),
    ],
)
def test_a_failure_leaves_its_traceback_and_one_line_of_it(error: Exception, reason: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(MANIFEST)

    folder.fail(raised(error))

    assert strict_json((tmp_path / "summary.json").read_text()) == {
        **MANIFEST,
        **BEGINNING,
        "status": "failed",
        "error": reason,
    }
    assert "Traceback" in (tmp_path / "traceback.txt").read_text()
    assert type(error).__name__ in (tmp_path / "traceback.txt").read_text()


def test_an_error_before_the_run_began_or_after_its_end_is_not_the_runs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.fail(raised(RuntimeError("refused")))
    assert list(tmp_path.iterdir()) == []

    folder.begin(MANIFEST)
    assert strict_json((tmp_path / "summary.json").read_text()) == {**MANIFEST, **BEGINNING, "status": "running"}
    folder.write_summary("done")
    folder.fail(raised(RuntimeError("while uploading")))

    assert strict_json((tmp_path / "summary.json").read_text()) == {**MANIFEST, **BEGINNING, "status": "done"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")

    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]
