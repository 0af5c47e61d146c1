"""What W&B has not confirmed is said at the end of a run, lies on disk, and is sent once by sync."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import wandb
import wandb_faults
from rich.console import Console
from tiny_runs import run_py
from wandb_faults import IDENTITY, NUM_BEFORE, NUM_ROWS, SERVER_FAULTS, try_fault
from wandb_server import WandbServer, wandb_server

from mobile_vla.compare.dashboard import publish
from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.errors import UserError
from mobile_vla.tracking.wandb.logger import WandbLogger
from mobile_vla.tracking.wandb.recordings import find_recordings
from mobile_vla.tracking.wandb.sync import sync_folder

LOGGER = WandbLogger(project="faults", entity=None, mode="online", init_timeout_s=10, finish_timeout_s=1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


def record(folder: Path, *steps: int, logger: WandbLogger = LOGGER, resume: bool = False) -> int | None:
    if resume:
        time.sleep(1.1)  # wandb names a recording by the second
    with logger.open(IDENTITY, config={}, folder=folder, resume=resume) as mirror:
        for step in steps:
            mirror.log({"step": step})
    wandb.teardown()  # its service may write the log after the run has finished, and has when it ends
    return mirror.unconfirmed_rows


def sync(folder: Path, *, timeout_s: float = 30) -> str:
    console = Console(record=True, width=400, file=open(os.devnull, "w"))  # noqa: SIM115
    sync_folder(folder, console, timeout_s=timeout_s)
    return console.export_text()


def steps_of(server: WandbServer) -> list[int]:
    return [row["step"] for row in server.uploads.rows(IDENTITY.run_id)]


@pytest.mark.parametrize(
    "name",
    [
        "500 on rows",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("hangs on everything", "service stopped")),
    ],
)
def test_a_fault_costs_no_row_is_said_and_is_made_good_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_faults, "FINISH_TIMEOUT_S", 1.0)
    monkeypatch.setattr(wandb_faults, "SYNC_TIMEOUT_S", 1.0)
    trial = try_fault(name, tmp_path)
    assert trial.local == list(range(NUM_ROWS))
    assert trial.there == list(range(NUM_BEFORE))
    assert trial.said_missing
    assert trial.longest_row_s < 0.2
    assert trial.close_s < 1 + 3
    assert trial.faulty_sync_s < 3
    assert "failed" in trial.syncs[0]
    if name in SERVER_FAULTS:
        assert "failed      shuffled-s0-1a2b3c4d" in trial.syncs[0]
        assert "no answer within 1 s" in trial.syncs[0]
        assert trial.there_at_last == trial.local
        assert trial.syncs[1].startswith("uploaded")
        assert "  7 rows" in trial.syncs[1]
        assert trial.syncs[2].startswith(f"already     {IDENTITY.run_id}  13 rows")
    else:
        assert trial.there_at_last == trial.there
        assert "recorded 6 of the 13 rows of this run, metrics.jsonl has them all" in trial.warnings[-1]
    children = psutil.Process().children(recursive=True)
    assert [child for child in children if child.status() != "zombie" and "sync" in child.cmdline()] == []


@pytest.mark.slow
def test_a_run_that_goes_on_first_sends_what_is_missing(server: WandbServer, tmp_path: Path) -> None:
    server.stream = 500
    assert record(tmp_path, 0, 1, 2) == 3
    server.heal()
    assert record(tmp_path, 3, 4, resume=True) == 0
    assert steps_of(server) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_that_cannot_go_on_there_is_recorded_offline_and_sent_in_order(
    server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.stream = "drop"
    record(tmp_path, 0, 1, 2)
    assert record(tmp_path, 3, 4, logger=replace(LOGGER, init_timeout_s=1), resume=True) == 2
    (said,) = [message for message in caplog.messages if message.startswith("W&B cannot go on with this run")]
    assert "(it has 0 of 3 earlier rows; sending the others: no answer within 1 s" in said
    assert said.endswith("): recording offline")
    server.heal()
    assert "2 uploaded, 0 there already, 0 failed" in sync(tmp_path)
    assert steps_of(server) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_what_the_server_has_decides_not_what_a_file_says(server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path, 0, 1, 2, logger=replace(LOGGER, mode="offline"))
    record(tmp_path, 3, 4, 5, logger=replace(LOGGER, mode="offline"), resume=True)
    for recording in find_recordings(tmp_path):
        recording.path.with_suffix(".wandb.synced").touch()  # what wandb leaves, whatever happened
    assert "2 uploaded, 0 there already, 0 failed" in sync(tmp_path)
    for line in range(2, 6):
        del server.uploads.history[IDENTITY.run_id][line]
    assert [line.rpartition("  ")[2] for line in sync(tmp_path).splitlines()[:2]] == ["1 row", "3 rows"]
    assert steps_of(server) == [0, 1, 2, 3, 4, 5], "the lost rows, and none twice"
    server.all_requests = 500
    shown = sync(tmp_path, timeout_s=1)
    assert "already     shuffled-s0-1a2b3c4d  confirmed before; now W&B could not be asked: no answer" in shown


def test_a_run_trained_again_is_not_confirmed_by_the_rows_of_the_attempt_before(
    server: WandbServer, tmp_path: Path
) -> None:
    assert record(tmp_path, 0, 1, 2) == 0
    time.sleep(1.1)
    server.stream = "lose"
    assert record(tmp_path, 0, 1) == 2


def test_a_run_says_it_in_words_and_in_its_summary_and_ends_well(
    server: WandbServer, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    server.stream = "hang"
    folder = tmp_path / "run"
    wanted = ("logger=wandb", "logger.wandb.mode=online", "logger.wandb.finish_timeout_s=1", f"hydra.run.dir={folder}")
    assert run_py(*tiny, *wanted) == (0, "")
    rows = len((folder / "metrics.jsonl").read_text().splitlines())
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["wandb/unconfirmed_rows"]) == ("done", rows)
    sends = f"python -m mobile_vla sync {folder} sends them"
    assert (
        f"W&B has confirmed 0 of {rows} rows; the other {rows} are in {folder}: {sends}"
        in (folder / "run.log").read_text()
    )
    (row,) = compare_runs(load_runs(folder)).rows
    assert "wandb/unconfirmed_rows" not in row.metrics


def test_the_dashboard_does_not_wait_for_ever(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    assert run_py(*tiny, "logger=wandb", "logger.wandb.mode=offline", f"hydra.run.dir={folder}") == (0, "")
    monkeypatch.setattr(publish, "_TIMEOUT_S", 1.0)
    server.all_requests = "hang"
    started = time.monotonic()
    with pytest.raises(UserError, match="did not take the dashboard: no answer within 1 s"):
        publish.publish_dashboard(folder, baseline=None, console=Console(quiet=True))
    assert time.monotonic() - started < 10
