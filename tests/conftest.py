"""Share one tiny data set among all tests that train, and keep every test off the network."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import settings
from tiny_runs import Ran, run_in, tiny_overrides, write_tiny_episodes

# Composing configs takes much of the time of all tests; libyaml reads them as the parser in Python does.
yaml.SafeLoader = yaml.CSafeLoader  # pyright: ignore[reportAttributeAccessIssue]
os.environ["HF_HUB_OFFLINE"] = "1"  # before a test imports the hub's client, which reads it once
settings.register_profile("untimed", deadline=None)  # a test is right or wrong, however busy the machine is
settings.load_profile("untimed")
# Only a power cut could tell, and waiting for the disk takes a fifth of a tiny run; see tests/test_disk_sync.py.
os.fsync = lambda fd: None
torch.set_num_threads(1)  # as a run does: other numbers round differently, and the tests' processes share the cores


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what is imported by now, torch and transformers, and come less often."""
    gc.freeze()
    gc.set_threshold(500_000, 20, 50)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(scope="session")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 14 small episodes; read only."""
    return write_tiny_episodes(tmp_path_factory.mktemp("tiny") / "episodes")


@pytest.fixture(scope="session")
def tiny(episodes: Path) -> tuple[str, ...]:
    """Overrides of a job that trains on ``episodes`` in well under a second."""
    return tiny_overrides(episodes, episodes.parent / "cache")


@pytest.fixture(scope="session")
def whole(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The run of ``tiny``, never stopped; read only."""
    ran = run_in(tmp_path_factory.mktemp("whole") / "run", *tiny)
    assert ran.exit_code == 0, ran.message
    return ran


@pytest.fixture(scope="session")
def vlms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one saved tiny model of every family, by its name; read only."""
    from tiny_vlms import FAMILIES, save_tiny_vlm

    folder = tmp_path_factory.mktemp("vlms")
    for name in FAMILIES:
        save_tiny_vlm(name, folder / name)
    return folder
