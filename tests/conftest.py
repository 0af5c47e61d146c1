"""Share one tiny data set among all tests that train, and keep every test off the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import tiny_overrides, write_tiny_episodes

torch.set_num_threads(1)  # as a run does: other numbers round differently, and the tests' processes share the cores


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 14 small episodes; read only."""
    return write_tiny_episodes(tmp_path_factory.mktemp("tiny") / "episodes")


@pytest.fixture(scope="session")
def tiny(episodes: Path) -> tuple[str, ...]:
    """Overrides of a job that trains on ``episodes`` in well under a second."""
    return tiny_overrides(episodes, episodes.parent / "cache")
