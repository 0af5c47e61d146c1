"""Run the real wandb against its own files, a loopback server, a dead server, and a dead service process."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from tiny_runs import run_in
from wandb_records import history, records, rows, state, transaction_log
from wandb_server import Uploads, wandb_server

from mobile_vla.errors import ConfigError
from mobile_vla.tracking.contract import OpenLogger, RunIdentity
from mobile_vla.tracking.wandb.logger import WandbLogger

IDENTITY = RunIdentity(study="compare", sampler="hard_negative", seed=3, run_id="hard_negative-s3-1a2b3c4d")
SECOND = RunIdentity(study="compare", sampler="shuffled", seed=0, run_id="shuffled-s0-5e6f7a8b")
CONFIG = {"seed": 3, "sampler": {"name": "hard_negative", "fraction": 0.3}, "tags": ["a", "b"], "resume": None}
ROWS = [
    {"step": 0, "samples_seen": 0, "val/rmse": 0.5, "val/rmse/angular_z": 0.25},
    {"step": 10, "samples_seen": 320, "train/loss": 1e-300, "train/grad_norm": -(2**40)},
    {"step": 20, "samples_seen": 640, "val/rmse": 0.2, "val/rmse/angular_z": 0.1},
    {"step": 30, "samples_seen": 960, "val/rmse": 0.3, "val/rmse/angular_z": 1 / 3},
]
SUMMARY = {"status": "done", "steps": 30, "val/rmse": 0.3, "best/val/rmse": 0.2, "val/loss": 0.09, "commit": None}
KEY = "0" * 40
LOGGER = WandbLogger(project="mobile_vla", entity=None, mode="auto", init_timeout_s=10, finish_timeout_s=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


def record(wandb_logger: WandbLogger, folder: Path, *, identity: RunIdentity = IDENTITY) -> OpenLogger:
    with wandb_logger.open(identity, config=CONFIG, folder=folder, resume=False) as mirror:
        for row in ROWS:
            mirror.log(row)
        mirror.finish(SUMMARY)
    return mirror


def crash(error: BaseException, row: dict[str, float], folder: Path, *, resume: bool = False) -> None:
    with LOGGER.open(IDENTITY, config=CONFIG, folder=folder, resume=resume) as mirror:
        mirror.log(row)
        raise error


def assert_whole(uploads: Uploads) -> None:
    run = uploads.run[IDENTITY.run_id]
    assert (run["groupName"], run["jobType"]) == ("compare", "hard_negative")
    assert (run["displayName"], run["project"]) == ("hard_negative-s3", "mobile_vla")
    assert uploads.config(IDENTITY.run_id) == CONFIG
    assert uploads.rows(IDENTITY.run_id) == ROWS
    assert uploads.exit_code[IDENTITY.run_id] == 0


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [entry for entry in caplog.records if entry.name.startswith("mobile_vla")]
    return [entry.getMessage() for entry in ours if entry.levelno >= logging.WARNING]


def test_an_offline_run_reads_back_as_it_was_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(LOGGER, folder)
    file = transaction_log(folder, IDENTITY.run_id)
    written = records(file)
    assert rows(written) == ROWS
    (run,) = written["run"]
    assert (run["run_group"], run["job_type"]) == ("compare", "hard_negative")
    assert (run["display_name"], run["run_id"]) == ("hard_negative-s3", IDENTITY.run_id)
    assert [metric["step_metric"] for metric in written["metric"]] == ["step"]
    seen = state(file)
    assert (seen["state"], seen["exit_code"]) == ("finished", 0)
    assert seen["config"] == CONFIG
    for key in SUMMARY.keys() - {"commit"}:
        assert seen["summary"][key] == SUMMARY[key]
    assert warnings_of(caplog) == []


def test_a_crash_is_failed_and_the_next_run_is_whole(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    row = {"step": 0, "train/loss": float("inf")}
    with pytest.raises(RuntimeError, match="loss is not finite"):
        crash(RuntimeError("loss is not finite"), row, folder)
    record(LOGGER, folder, identity=SECOND)

    crashed = state(transaction_log(folder, IDENTITY.run_id))
    assert (crashed["state"], crashed["exit_code"]) == ("failed", 1)
    assert crashed["summary"]["train/loss"] == "Infinity"
    finished = transaction_log(folder, SECOND.run_id)
    assert state(finished)["state"] == "finished"
    assert history(finished) == ROWS
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config_mode", "environment_mode", "key", "is_recorded"),
    [
        ("auto", "offline", KEY, True),
        ("auto", "disabled", KEY, False),
        ("auto", "online", None, True),
        ("offline", "online", KEY, True),
        ("online", "offline", None, True),
        ("auto", None, "not a key", True),
    ],
)
def test_config_overrules_the_environment_which_overrules_the_key(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    config_mode: Literal["auto", "online", "offline"],
    environment_mode: str | None,
    key: str | None,
    is_recorded: bool,
) -> None:
    if environment_mode:
        monkeypatch.setenv("WANDB_MODE", environment_mode)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    record(replace(LOGGER, mode=config_mode), folder)
    assert len(list(folder.glob(f"wandb/offline-run-*-{IDENTITY.run_id}"))) == is_recorded
    assert folder.exists() == is_recorded


def test_unusable_settings_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"logger\.wandb\.finish_timeout_s=0.*above 0"):
        replace(LOGGER, finish_timeout_s=0)
    with pytest.raises(ConfigError, match=r"logger\.wandb\.mode='on'"):
        replace(LOGGER, mode="on")
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ConfigError, match=r"WANDB_MODE='ofline'.*offline"):
        record(LOGGER, folder)
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(ConfigError, match="a/b"):
        record(replace(LOGGER, project="a/b"), folder)


def test_a_terminal_without_a_key_is_never_asked_and_local_means_no_wandb(folder: Path) -> None:
    script = """
import sys
from pathlib import Path
from mobile_vla.tracking.contract import Loggers, RunIdentity
from mobile_vla.tracking.wandb.logger import WandbLogger
folder = Path(sys.argv[1])
assert "wandb" not in sys.modules
for mode in (None, "auto", "online"):
    logger = Loggers(loggers=()) if mode is None else WandbLogger(
        project="p", entity=None, mode=mode, init_timeout_s=5, finish_timeout_s=5)
    identity = RunIdentity(study="s", sampler="shuffled", seed=0, run_id=f"shuffled-{mode}")
    with logger.open(identity, config={}, folder=folder, resume=False) as mirror:
        mirror.log({"step": 0})
        mirror.finish({})
    assert (mode is None) == ("wandb" not in sys.modules) == (not folder.exists())
"""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", script, str(folder)]
    process = subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, timeout=20)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert "no usable key is configured" in shown
    assert len(shown.splitlines()) == 1
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2


@pytest.mark.parametrize("is_listening", [False, True], ids=["closed port", "unauthorized"])
def test_a_server_that_is_no_use_means_offline_under_the_same_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_listening: bool
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb_server(refuse_with=401) as server:
        if is_listening:
            monkeypatch.setenv("WANDB_BASE_URL", server.url)
        started = time.monotonic()
        mirror = record(replace(LOGGER, mode="online", init_timeout_s=1), folder)
        assert time.monotonic() - started < 5
    assert mirror.url is None
    assert history(transaction_log(folder, IDENTITY.run_id)) == ROWS
    warning, verdict = warnings_of(caplog)
    assert re.fullmatch(r"W&B could not start online \(.+\): trying offline", warning)
    assert verdict.startswith(f"W&B has confirmed 0 of 4 rows; the other 4 are in {folder}: python -m mobile_vla sync ")
    assert mirror.unconfirmed_rows == 4


def test_whatever_wandb_raises_the_run_goes_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir()
    (folder / "drive.txt").write_text("no video")
    with LOGGER.open(IDENTITY, config=CONFIG, folder=folder, resume=False) as mirror:
        mirror.log_videos({"drive": folder / "drive.txt"})
        mirror.log(ROWS[0])
    (warning,) = warnings_of(caplog)
    assert "W&B has stopped recording this run" in warning


def test_a_silent_server_does_not_hold_up_the_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import sys
from pathlib import Path
from mobile_vla.tracking.contract import RunIdentity
from mobile_vla.tracking.wandb.logger import WandbLogger
logger = WandbLogger(project="p", entity=None, mode="auto", init_timeout_s=1, finish_timeout_s=1)
identity = RunIdentity(study="s", sampler="shuffled", seed=0, run_id="shuffled-s0")
with logger.open(identity, config={}, folder=Path(sys.argv[1]), resume=False) as mirror:
    mirror.log({"step": 0})
"""
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        subprocess.run([sys.executable, "-c", script, str(folder)], timeout=12, check=True)
    assert history(transaction_log(folder, "shuffled-s0")) == [{"step": 0}]


def test_an_online_run_arrives_while_it_runs_and_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        uploads = server.uploads
        mirror = record(LOGGER, folder)
        assert mirror.url == f"{server.url}/us/mobile_vla/runs/{IDENTITY.run_id}"
        assert_whole(uploads)
        summary = json.loads(uploads.files[IDENTITY.run_id]["wandb-summary.json"])
        assert summary["val/rmse"] == SUMMARY["val/rmse"]
        assert summary["best/val/rmse"] == SUMMARY["best/val/rmse"]
        assert uploads.operations.index("RunResumeStatus") == len(uploads.operations) - 1, "asked once, at the end"
        assert mirror.unconfirmed_rows == 0

        with pytest.raises(KeyboardInterrupt):
            crash(KeyboardInterrupt(), {"step": 40, "val/rmse": 0.1}, folder, resume=True)
        assert uploads.rows(IDENTITY.run_id) == [*ROWS, {"step": 40, "val/rmse": 0.1}]
        assert uploads.exit_code[IDENTITY.run_id] == 1


def test_a_run_that_goes_on_alone_is_recorded_beside_its_job_of_a_sweep(folder: Path) -> None:
    job = folder / "hard_negative-s3"
    for at, resume in ((folder, False), (job, True)):
        with LOGGER.open(IDENTITY, config=CONFIG, folder=at, resume=resume) as mirror:
            mirror.log(ROWS[0])
    assert not job.exists()
    with LOGGER.open(SECOND, config=CONFIG, folder=folder / "alone", resume=True) as mirror:
        mirror.log(ROWS[0])
    assert history(transaction_log(folder / "alone", SECOND.run_id)) == [ROWS[0]]


def test_a_server_lost_midway_holds_up_the_end_only_so_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        opened = replace(LOGGER, finish_timeout_s=1).open(IDENTITY, config=CONFIG, folder=folder, resume=False)
        mirror = opened.__enter__()
    for row in ROWS:
        mirror.log(row)
    started = time.monotonic()
    opened.__exit__(None, None, None)
    assert time.monotonic() - started < 3
    assert history(transaction_log(folder, IDENTITY.run_id, kind="run")) == ROWS


@pytest.mark.skipif(sys.platform != "linux", reason="finds wandb's service process in /proc")
def test_a_killed_service_ends_neither_this_run_nor_the_next(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LOGGER.open(IDENTITY, config=CONFIG, folder=folder, resume=False) as mirror:
        mirror.log(ROWS[0])
        os.kill(service_process(), signal.SIGKILL)
        time.sleep(0.2)
        for row in ROWS:
            mirror.log(row)
        mirror.finish(SUMMARY)
    (warning,) = warnings_of(caplog)
    assert "stopped recording" in warning
    record(LOGGER, folder, identity=SECOND)
    assert history(transaction_log(folder, SECOND.run_id)) == ROWS


def test_without_a_service_nothing_is_recorded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_SERVICE", f"3-{os.getpid()}-unix-{folder}/gone")
    mirror = record(LOGGER, folder)
    assert mirror.url is None
    *_, failure, count = warnings_of(caplog)
    assert failure.endswith("W&B gets nothing of this run")
    assert count == f"W&B has nothing of this run: none of its {len(ROWS)} rows was recorded for it"


def service_process() -> int:
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    (core,) = [int(pid) for pid in children if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]
    return core


def test_videos_and_closed_loop_figures_reach_wandb(folder: Path, tmp_path: Path) -> None:
    video = tmp_path / "seen-3-overshoot.gif"
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 100)]
    frames[0].save(video, save_all=True, append_images=frames[1:], duration=100)
    with LOGGER.open(IDENTITY, config=CONFIG, folder=folder, resume=False) as mirror:
        mirror.log(ROWS[0])
        mirror.log_videos({"seen/failure_1": video})
        mirror.finish(SUMMARY | {"closed_loop/seen/success_rate": 0.875})

    (kept,) = folder.glob("wandb/offline-run-*/files/media/videos/**/*.gif")
    assert kept.read_bytes() == video.read_bytes()
    found = state(transaction_log(folder, IDENTITY.run_id))["summary"]
    assert found["closed_loop/seen/success_rate"] == 0.875
    assert found["videos/seen/failure_1"]["caption"] == "seen-3-overshoot"


@pytest.mark.parametrize("setting", [("WANDB_BASE_URL", "notaurl"), ("WANDB_SERVICE", "5")], ids=lambda pair: pair[0])
def test_one_that_cannot_be_started_is_counted_at_the_end(
    setting: tuple[str, str], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv(*setting)
    ran = run_in(tmp_path / "run", *tiny, "logger=wandb")
    assert (ran.exit_code, ran.summary["status"]) == (0, "done")
    assert ran.summary["wandb/unconfirmed_rows"] == len(ran.rows)
