"""Upload offline runs to a loopback server with wandb's own command, as a user would."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb_records import transaction_log
from wandb_server import WandbServer, wandb_server

from mobile_vla.commands.cli import main
from mobile_vla.tracking.contract import RunIdentity
from mobile_vla.tracking.wandb.logger import WandbLogger
from mobile_vla.tracking.wandb.recordings import find_recordings, viewing_hint
from mobile_vla.tracking.wandb.transaction_log import UnreadableRecordingError, write_log

LOGGER = WandbLogger(project="mobile_vla", entity=None, mode="offline", init_timeout_s=10, finish_timeout_s=10)
KEY = "0" * 40


def identity(seed: int) -> RunIdentity:
    return RunIdentity(study="compare", sampler="shuffled", seed=seed, run_id=f"shuffled-s{seed}-1a2b3c4d")


def record(sweep: Path, seed: int, *steps: int, resume: bool = False) -> None:
    with LOGGER.open(identity(seed), config={"seed": seed}, folder=sweep, resume=resume) as mirror:
        for step in steps:
            mirror.log({"step": step})
        mirror.finish({"status": "done"})
    wandb.teardown()  # its service may write the log after the run has finished, and has when it ends


def record_again(sweep: Path, seed: int, *steps: int, resume: bool) -> None:
    time.sleep(1.1)  # wandb names a recording by the second
    record(sweep, seed, *steps, resume=resume)


def tear(sweep: Path, seed: int) -> None:
    """Leave the log of a run as a kill does: it breaks off within a record."""
    file = transaction_log(sweep, identity(seed).run_id)
    file.write_bytes(file.read_bytes()[:-40])


def sync(folder: Path) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main(["sync", str(folder)])
    return end.value.code


def steps_of(server: WandbServer, seed: int) -> list[int]:
    return [row["step"] for row in server.uploads.rows(identity(seed).run_id)]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "study" / "sweep"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.mark.slow
@pytest.mark.usefixtures("key")
def test_every_run_is_uploaded_once_and_named(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(sweep, 0, 0, 10)
    record(sweep.parent / "other", 1, 0, 10)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert sync(sweep.parent) == 0
        shown = capsys.readouterr().out
        for seed in (0, 1):
            assert f"uploaded    {identity(seed).run_id}  {server.url}/us/mobile_vla/runs/" in shown
            assert steps_of(server, seed) == [0, 10]
            assert server.uploads.exit_code[identity(seed).run_id] == 0
        assert "/runs/shuffled-s1-1a2b3c4d  2 rows" in shown
        assert shown.splitlines()[-1] == "2 uploaded, 0 there already, 0 failed"

        server.uploads.operations.clear()
        record(sweep, 2, 0)
        assert sync(sweep.parent) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "1 uploaded, 2 there already, 0 failed"
        assert steps_of(server, 0) == [0, 10]
        monkeypatch.delenv("WANDB_API_KEY")
        assert sync(sweep.parent) == 0, "nothing to upload needs no key"


@pytest.mark.usefixtures("key")
def test_a_refusal_is_told_ends_with_1_and_is_made_good_by_a_second_call(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(sweep, 0, 0, 10)
    with wandb_server(refuse_with=401) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert sync(sweep) == 1
        shown = capsys.readouterr().out
        assert f"failed      {identity(0).run_id}  W&B could not be asked: refused by the test" in shown
        assert "0 uploaded, 0 there already, 1 failed" in shown
        server.refuse_with = None
        assert sync(sweep) == 0
        assert steps_of(server, 0) == [0, 10]


def test_without_a_key_or_without_runs_the_error_says_what_to_do(sweep: Path) -> None:
    record(sweep, 0, 0)
    message = str(sync(sweep))
    assert message.startswith("error: cannot upload the runs")
    assert "`wandb login` or in WANDB_API_KEY" in message
    (sweep / "empty").mkdir()
    assert "found no recording" in str(sync(sweep / "empty"))
    assert "no such folder" in str(sync(sweep / "absent"))


@pytest.mark.slow
@pytest.mark.usefixtures("key")
def test_a_killed_run_waits_until_it_is_resumed_and_then_is_whole(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(sweep, 0, 0, 10)
    tear(sweep, 0)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert sync(sweep) == 1
        assert "recorded no end: still training, or killed" in capsys.readouterr().out
        assert server.uploads.operations == []

        record_again(sweep, 0, 20, 30, resume=True)
        assert sync(sweep) == 0
        assert steps_of(server, 0) == [0, 10, 20, 30]
        assert sync(sweep) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "0 uploaded, 2 there already, 0 failed"
        assert steps_of(server, 0) == [0, 10, 20, 30]


@pytest.mark.slow
@pytest.mark.usefixtures("key")
def test_of_a_run_that_was_trained_again_only_the_last_attempt_is_uploaded(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(sweep, 0, 0, 10)
    record_again(sweep, 0, 0, 10, 20, resume=False)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert sync(sweep) == 0
        assert steps_of(server, 0) == [0, 10, 20]
        assert "trained again from step 0" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(("content", "why"), [(b"not a log", "bad header"), (b"", "has no record of a run")])
def test_a_recording_that_cannot_be_read_is_said_to_and_supersedes_nothing(
    content: bytes, why: str, sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(sweep, 0, 0, 10)
    (first,) = find_recordings(sweep)
    later = first.folder.with_name(f"offline-run-29991231_235959-{first.run_id}")
    later.mkdir()
    (later / first.path.name).write_bytes(content)
    record(sweep, 1, 0)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert sync(sweep) == 1
        shown = capsys.readouterr().out
        assert why in shown
        assert str(later / first.path.name) in shown
        assert "superseded" not in shown
        assert shown.splitlines()[-1] == "1 uploaded, 0 there already, 2 failed"
        assert steps_of(server, 1) == [0]


def test_recordings_are_found_wherever_they_lie_and_a_sweep_s_are_overlaid(sweep: Path) -> None:
    record(sweep, 0, 0)
    assert viewing_hint(sweep) is None
    record(sweep, 1, 0)
    expected = [identity(0).run_id, identity(1).run_id]
    for folder in (sweep.parent, sweep, sweep / "wandb"):
        assert sorted(run.run_id for run in find_recordings(folder)) == expected
    (alone,) = find_recordings(find_recordings(sweep)[0].folder)
    assert alone.run_id in expected
    assert viewing_hint(sweep) == f"wandb leet {sweep / 'wandb'}"


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("way", ["a linked file", "a linked log", "a linked recording"])
def test_a_recording_that_leads_outside_is_not_uploaded(
    way: str, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(sweep, 0, 0)
    (recording,) = find_recordings(sweep)
    secret = tmp_path / "secret"
    if way == "a linked file":
        secret.write_text("secret")
        (recording.folder / "files" / "media").mkdir()
        (recording.folder / "files" / "media" / "secret.txt").symlink_to(secret)
    else:
        linked = recording.path if way == "a linked log" else recording.folder
        linked.rename(secret)
        linked.symlink_to(secret)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")  # nobody answers, and nobody is asked
    assert sync(sweep) == 1
    shown = capsys.readouterr().out
    assert "which lies outside of it" in shown
    assert "It is not uploaded." in shown


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: record.files.files.add(path="../../../secret"), "which lies outside of it"),
        (lambda record: record.files.files.add(path="/etc/passwd"), "which lies outside of it"),
        (lambda record: record.artifact.manifest.contents.add(local_path="/etc/passwd"), "a record of type artifact"),
    ],
)
def test_a_record_that_names_a_file_elsewhere_is_refused(change: Any, named: str, sweep: Path) -> None:
    record(sweep, 0, 0)
    (recording,) = find_recordings(sweep)
    recording.check_self_contained()
    forged = type(recording.log.run)()
    change(forged)
    write_log(recording.path, [*recording.log.records, forged])

    (recording,) = find_recordings(sweep)
    with pytest.raises(UnreadableRecordingError, match=f"{named}.*It is not uploaded"):
        recording.check_self_contained()
