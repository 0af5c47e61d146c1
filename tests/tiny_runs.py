"""Run jobs on a few small episodes in this process: Hydra, data, training and run folder are the real ones."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any, TextIO
from unittest.mock import patch

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.types import RunMode
from omegaconf import DictConfig

from mobile_vla.commands import train
from mobile_vla.data.episode_writer import write_episode

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"

SAMPLERS = ("sequential", "shuffled", "random_temporal", "stratified", "hard_negative")

READS_SCORES = ("static_scores", "rho", "group_dro")
"""Samplers that read a window score file."""

TIMES = ("wall_s", "data_wait_s", "train/windows_per_s", "memory/peak_gib")
"""What of a row two equal runs need not share: what a clock or the machine said."""

SMALLEST_MODEL = (
    "model.backbone.channels=[4,4,4]",
    "model.backbone.feature_dim=8",
    "model.backbone.vocabulary_size=64",
    "model.head.history.hidden_dim=8",
)

_NAMES = (
    *(f"episode_20251204_1010{i:02d}_1box_hori_left_core_close" for i in range(5)),
    *(f"episode_20251204_1011{i:02d}_1box_hori_right_core_medium" for i in range(5)),
    *(f"episode_20251204_1012{i:02d}_2box_vert_left_variant_far" for i in range(4)),
)


def write_tiny_episodes(folder: Path) -> Path:
    """Write 14 episodes of 9 to 13 frames at 16 px, three scenarios, actions of three columns."""
    folder.mkdir()
    random = np.random.default_rng(7)
    for index, name in enumerate(_NAMES):
        num_frames = 9 + index % 5
        write_episode(
            folder / f"{name}.h5",
            images_FYXC=random.integers(0, 256, (num_frames, 16, 16, 3), dtype=np.uint8),
            actions_FA=random.choice(np.array([-1.15, 0, 1.15], np.float32), (num_frames, 3)),
            instruction=f"Navigate to the {'left' if 'left' in name else 'right'} bottle",
        )
    return folder


def choose_sampler(sampler: str, tiny: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that choose ``sampler`` beside ``tiny``: with scores of its windows where it reads them."""
    if sampler not in READS_SCORES:
        return (f"sampler={sampler}",)
    (episodes,) = (Path(o.removeprefix("dataset.path=")) for o in tiny if o.startswith("dataset.path="))
    file = episodes.parent / "scores.csv"
    if not file.exists():
        lines = [f"{path.stem},{frame},{frame % 3}" for path in sorted(episodes.glob("*.h5")) for frame in range(13)]
        file.write_text("\n".join(["episode,frame,score", *lines]) + "\n")
    return (f"sampler={sampler}", f"sampler.file={file}")


def tiny_overrides(episodes: Path, cache: Path) -> tuple[str, ...]:
    """Return the overrides of a job on ``episodes``: 4 steps of 8 windows in well under a second."""
    return (
        "dataset=h5",
        f"dataset.path={episodes}",
        f"dataset.cache_dir={cache}",
        "dataset.num_workers=0",
        "dataset.image_size=16",
        "dataset.window_size=3",
        "dataset.fwd_pred_next_n=4",
        *SMALLEST_MODEL,
        "trainer.steps=4",
        "trainer.batch_size=8",
        "trainer.schedule.warmup_steps=2",
        "trainer.eval_every=2",
        "trainer.log_every=1",
        "trainer.device=cpu",
        "evaluation.probe_windows=8",
        "closed_loop=none",
        "logger=local",
    )


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How one call of run.py ended, and the folder it left."""

    folder: Path
    exit_code: int
    message: str

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        return strict_json((self.folder / "summary.json").read_text())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``."""
        return [strict_json(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    @property
    def timeless_rows(self) -> list[dict[str, Any]]:
        """The rows without what a clock said."""
        return [{key: value for key, value in row.items() if key not in TIMES} for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class Forked:
    """A process that was forked from this one: its id, and what it says on stdout and stderr."""

    pid: int
    output: TextIO

    def wait(self, *, timeout_s: float = 120) -> tuple[int, str]:
        """Return its exit code and the rest of what it said; a signal that ended it is its negative number.

        After ``timeout_s`` it is killed.
        """
        killer = Timer(timeout_s, os.kill, (self.pid, signal.SIGKILL))
        killer.start()
        with self.output:
            said = self.output.read()
        killer.cancel()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), said


def forked(task: Callable[[], int], *, cwd: Path) -> Forked:
    """Begin ``task``, which returns its exit code, in a copy of this process in the folder ``cwd``.

    It can be killed, and imports what it likes, as a process of its own; that one would import torch for seconds.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    if pid := os.fork():
        os.close(writing)
        return Forked(pid=pid, output=os.fdopen(reading))
    exit_code = 1
    try:
        os.close(reading)
        os.chdir(cwd)
        sys.stdout = sys.stderr = os.fdopen(writing, "w", buffering=1)
        exit_code = task()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(exit_code)  # nothing of pytest's is for the copy to clean up


def strict_json(text: str) -> Any:
    """Parse JSON that holds no NaN and no infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"not strict JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


def run_py(*arguments: str) -> tuple[int, str]:
    """Run ``train`` with ``arguments`` in this process; return its exit code and the message it dies with."""
    options = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    argv = ["run.py", "--config-path", str(CONF), *options, *overrides]
    with patch.object(sys, "argv", argv):
        try:
            train.main()
        except SystemExit as end:
            return (1, end.code) if isinstance(end.code, str) else (end.code or 0, "")
    return 0, ""


def run_in(folder: Path, *overrides: str) -> Ran:
    """Run one job whose run folder is ``folder``.

    It is no sweep: to find that out Hydra would compose the config once more.
    """
    with patch.object(Hydra, "get_mode", return_value=RunMode.RUN):
        exit_code, message = run_py(f"hydra.run.dir={folder}", *overrides)
    return Ran(folder=folder, exit_code=exit_code, message=message)


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the config of a job, Hydra's own part left out."""
    return deepcopy(_composed(tuple(overrides)))


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def options_of(group: str) -> list[str]:
    """Return the options of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def slow_but(cases: Iterable[Any], always: Collection[Any]) -> list[Any]:
    """Return parameters of a test: ``cases``, all but those ``always`` marked as slow.

    A case of several arguments is a tuple.
    """
    cases = list(cases)
    assert all(case in cases for case in always)
    return [case if case in always else _as_slow(case) for case in cases]


def every(step: int, cases: Iterable[Any]) -> list[Any]:
    """Return parameters of a test: the first of ``cases`` and each ``step``-th after it, the others marked as slow.

    For cases that are many and much alike; where each kind needs one, ``slow_but`` names them.
    """
    return [case if index % step == 0 else _as_slow(case) for index, case in enumerate(cases)]


def first_of_each(pairs: Iterable[tuple[str, str]]) -> list[Any]:
    """Return parameters of a test: pairs of a group and an option, all but the first option of each group slow."""
    pairs = list(pairs)
    groups = [group for group, _ in pairs]
    return slow_but(pairs, [pair for index, pair in enumerate(pairs) if groups.index(pair[0]) == index])


def _as_slow(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
