"""Try every fault of W&B on a run of 13 rows: the server's on the loopback interface, and those of wandb's own service.

``python tests/tracking/wandb_faults.py ROUNDS`` prints what came of them, as ``experiments/torture`` does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import wandb
from rich.console import Console
from wandb_server import WandbServer, wandb_server

from mobile_vla.tracking.contract import RunIdentity
from mobile_vla.tracking.run_folder import RunFolder
from mobile_vla.tracking.wandb.logger import WandbLogger
from mobile_vla.tracking.wandb.sync import sync_folder

NUM_ROWS, NUM_BEFORE = 13, 6
"""Rows of a run, and those before the fault; the first is on the server by then."""

IDENTITY = RunIdentity(study="faults", sampler="shuffled", seed=0, run_id="shuffled-s0-1a2b3c4d")
INIT_TIMEOUT_S, FINISH_TIMEOUT_S, SYNC_TIMEOUT_S = 10.0, 2.0, 2.0


def _stream(behaviour: int | str, *, times: int | None = None) -> Callable[[WandbServer], None]:
    def begin(server: WandbServer) -> None:
        server.stream, server.stream_faults = behaviour, times  # type: ignore[assignment]

    return begin


def _all(behaviour: int | str) -> Callable[[WandbServer], None]:
    def begin(server: WandbServer) -> None:
        server.all_requests = behaviour  # type: ignore[assignment]

    return begin


def _down_after(num_requests: int) -> Callable[[WandbServer], None]:
    def begin(server: WandbServer) -> None:
        server.go_down_after(num_requests)

    return begin


SERVER_FAULTS: dict[str, Callable[[WandbServer], None]] = {
    "none": _stream("accept"),
    "500 on rows": _stream(500),
    "500 on rows, then well again": _stream(500, times=1),
    "429 on rows": _stream(429),
    "403 on rows": _stream(403),
    "hangs on rows": _stream("hang"),
    "drops rows": _stream("drop"),
    "accepts rows and loses them": _stream("lose"),
    "500 on everything": _all(500),
    "hangs on everything": _all("hang"),
    "drops everything": _all("drop"),
    "goes down while the run ends": _down_after(1),
}
SERVICE_FAULTS: dict[str, Callable[[WandbServer], None]] = {
    "service killed": lambda server: service_process().kill(),
    "service stopped": lambda server: service_process().suspend(),
}


def service_process() -> psutil.Process:
    """Return wandb's service process of this process."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    (core,) = [child for child in alive if child.name().startswith("wandb-core")]
    return core


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of one run with a fault: its rows here and there, what was said, and how long it took.

    ``there`` are the steps on the server at the end of the run, ``there_at_last`` after a sync with the fault over.
    """

    name: str
    local: list[int]
    there: list[int]
    there_at_last: list[int]
    unconfirmed: int | None
    warnings: list[str]
    syncs: list[str]
    longest_row_s: float
    close_s: float
    faulty_sync_s: float

    @property
    def said_missing(self) -> bool:
        """Whether the end of the run named at least the rows that are missing on the server, and none where none is.

        A server that cannot be asked has confirmed none.
        """
        if self.unconfirmed is None or len(self.there) == NUM_ROWS:
            return self.unconfirmed == 0 and not self.warnings
        verdict = f"W&B has confirmed {NUM_ROWS - self.unconfirmed} of {NUM_ROWS} rows"
        return self.unconfirmed >= NUM_ROWS - len(self.there) and verdict in self.warnings[-1]


def try_fault(name: str, folder: Path) -> Trial:
    """Run with the fault from the seventh row on, sync with it, and sync twice without it."""
    begin = (SERVER_FAULTS | SERVICE_FAULTS)[name]
    logger = WandbLogger(
        project="faults", entity=None, mode="online", init_timeout_s=INIT_TIMEOUT_S, finish_timeout_s=FINISH_TIMEOUT_S
    )
    with wandb_server() as server, _own_wandb(folder, server.url), _warnings() as warnings:
        run_folder = RunFolder(folder / "run")
        run_folder.start_metrics(history=[])
        durations = []
        with logger.open(IDENTITY, config={}, folder=run_folder.path, resume=False) as mirror:
            for step in range(NUM_ROWS):
                if step == NUM_BEFORE:
                    _wait_for(lambda: server.uploads.rows(IDENTITY.run_id))
                    begin(server)
                started = time.monotonic()
                row = {"step": step, "samples_seen": step}
                run_folder.log(row)
                mirror.log(row)
                durations.append(time.monotonic() - started)
            mirror.finish({"status": "done"})
            started = time.monotonic()
        close_s = time.monotonic() - started
        there = _steps(server)
        started = time.monotonic()
        syncs = [_sync(run_folder.path, SYNC_TIMEOUT_S)]
        faulty_sync_s = time.monotonic() - started
        server.heal()
        syncs += [_sync(run_folder.path, 30.0), _sync(run_folder.path, 30.0)]
        return Trial(
            name=name,
            local=[json.loads(line)["step"] for line in (run_folder.path / "metrics.jsonl").read_text().splitlines()],
            there=there,
            there_at_last=_steps(server),
            unconfirmed=mirror.unconfirmed_rows,
            warnings=list(warnings),
            syncs=syncs,
            longest_row_s=max(durations),
            close_s=close_s,
            faulty_sync_s=faulty_sync_s,
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of ``num_trials`` faults: rows that the run folders lack, runs that did not say what was unconfirmed,
    runs of which W&B lacks a row or has one twice after the last sync, and the longest waits.
    """

    num_trials: int
    lost_rows: int
    unsaid: int
    wrong_there: int
    longest_row_s: float
    longest_end_s: float
    longest_sync_s: float


def run_faults(folder: Path, *, rounds: int) -> Found:
    """Try every fault ``rounds`` times below ``folder``."""
    names = [*SERVER_FAULTS, *SERVICE_FAULTS]
    trials = [
        try_fault(name, folder / f"{round}-{number}") for round in range(rounds) for number, name in enumerate(names)
    ]
    everything = list(range(NUM_ROWS))
    return Found(
        num_trials=len(trials),
        lost_rows=sum(NUM_ROWS - len(trial.local) for trial in trials),
        unsaid=sum(not trial.said_missing for trial in trials),
        # What a service took with it is in the run folder alone, and said.
        wrong_there=sum(trial.there_at_last != everything for trial in trials if trial.name in SERVER_FAULTS),
        longest_row_s=max(trial.longest_row_s for trial in trials),
        longest_end_s=max(trial.close_s for trial in trials),
        longest_sync_s=max(trial.faulty_sync_s for trial in trials),
    )


@contextmanager
def _own_wandb(folder: Path, url: str) -> Iterator[None]:
    """Use wandb with a key of our own, against ``url`` alone, with no user's settings."""
    before = dict(os.environ)
    wandb.teardown()
    os.environ.update(
        HOME=str(folder / "home"),
        NETRC=str(folder / "home" / "netrc"),
        WANDB_API_KEY="0" * 40,
        WANDB_BASE_URL=url,
        WANDB_ERROR_REPORTING="false",
        WANDB__FILE_STREAM_TRANSMIT_INTERVAL="1",  # s instead of 15: the first rows are there before the fault
    )
    try:
        yield
    finally:
        wandb.teardown()
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the package warns of."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    package = logging.getLogger("mobile_vla")
    package.addHandler(handler)
    try:
        yield found
    finally:
        package.removeHandler(handler)


def _sync(folder: Path, timeout_s: float) -> str:
    console = Console(record=True, width=400, file=open(os.devnull, "w"))  # noqa: SIM115
    sync_folder(folder, console, timeout_s=timeout_s)
    return console.export_text()


def _steps(server: WandbServer) -> list[int]:
    return [int(row["step"]) for row in server.uploads.rows(IDENTITY.run_id)]


def _wait_for(condition: Callable[[], object], *, at_most_s: float = 5.0) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("no row has reached the server")
        time.sleep(0.02)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(run_faults(Path(scratch), rounds=int(sys.argv[1])))
