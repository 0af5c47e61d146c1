"""The irreducible loss of a window comes from a model that saw nothing of its episode, and is computed once."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import call
from tiny_runs import every, tiny_overrides
from torch.nn.modules.module import register_module_forward_hook

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.policy.model import Model, ModelOutput
from mobile_vla.schema import Batch
from mobile_vla.window_losses import irreducible

NUM_FRAMES = {f"episode_20251204_1010{i:02d}_1box_hori_{side}": 4 + i for i, side in enumerate(["left", "right"] * 6)}


@dataclass(eq=False)
class Seen:
    """What one model was shown: the episodes while it trained, and its latest loss of each window while it did not."""

    trained: set[int] = field(default_factory=set)
    losses: dict[tuple[int, int], float] = field(default_factory=dict)
    mean: float = float("nan")


@contextmanager
def watched_models() -> Iterator[dict[Model, Seen]]:
    """Collect what every model is shown, from the actions themselves: (episode, frame) is what each of them says."""
    models: dict[Model, Seen] = {}

    def look(module: torch.nn.Module, arguments: tuple[Batch], answer: ModelOutput) -> None:
        if not isinstance(module, Model):
            return
        seen = models.setdefault(module, Seen())
        seen.mean = float(module.normalizer.shift_A[0])
        (batch,) = arguments
        shown = [tuple(map(round, action)) for action in batch.actions_BTKA[:, -1, 0].tolist()]
        if module.training:
            seen.trained |= {episode for episode, _ in shown}
        else:
            seen.losses |= dict(zip(shown, answer.loss_B.tolist(), strict=True))

    hook = register_module_forward_hook(look)
    try:
        yield models
    finally:
        hook.remove()


def losses_of(path: Path) -> dict[tuple[int, int], float]:
    """Return the loss of each (episode, frame) of a CSV file."""
    number = {name: i for i, name in enumerate(NUM_FRAMES)}
    with path.open() as file:
        return {(number[row["episode"]], int(row["frame"])): float(row["score"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes whose every action says (its episode, its frame)."""
    folder = tmp_path_factory.mktemp("told") / "episodes"
    folder.mkdir()
    random = np.random.default_rng(3)
    for index, (name, num_frames) in enumerate(NUM_FRAMES.items()):
        frame = np.arange(num_frames, dtype=np.float32)
        write_episode(
            folder / f"{name}.h5",
            images_FYXC=random.integers(0, 256, (num_frames, 16, 16, 3), dtype=np.uint8),
            actions_FA=np.stack([np.full(num_frames, index, np.float32), frame], 1),
            instruction="go",
        )
    return folder


@pytest.fixture
def overrides(told: Path, tmp_path: Path) -> tuple[str, ...]:
    """A job without a probe, so that no model is ever shown a window that it learns from but to learn."""
    data = [o for o in tiny_overrides(told, tmp_path / "cache") if not o.startswith("evaluation.probe_windows")]
    # More windows are drawn than there are, so that every episode is learnt from.
    return (*data, "evaluation.probe_windows=0", "trainer.steps=20", "trainer.eval_every=20")


@pytest.mark.parametrize("num_folds", [2, 3])
def test_no_window_is_scored_by_a_model_that_saw_its_episode(
    overrides: tuple[str, ...], tmp_path: Path, num_folds: int
) -> None:
    with watched_models() as models:
        assert call("irreducible", tmp_path / "out.csv", "--folds", str(num_folds), *overrides) == 0

    losses = losses_of(tmp_path / "out.csv")
    train = {episode for episode, _ in losses}
    assert len(models) == num_folds
    assert len(losses) == sum(4 + episode for episode in train)
    for seen in models.values():
        scored = {episode for episode, _ in seen.losses}
        assert seen.trained == train - scored
        # Nor do the statistics of its normaliser tell of them.
        lengths = [4 + episode for episode in seen.trained]
        assert seen.mean == pytest.approx(np.average(list(seen.trained), weights=lengths), rel=1e-5)
        for window, loss in seen.losses.items():
            assert losses[window] == pytest.approx(loss, rel=1e-5)
    assert sum(len(seen.losses) for seen in models.values()) == len(losses)


@pytest.mark.slow
def test_the_same_is_not_trained_twice_and_anything_else_is(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def num_trained(out: str, *more: str) -> int:
        with watched_models() as models:
            assert call("irreducible", tmp_path / out, *overrides, *more) == 0
        return len(models)

    assert num_trained("first.csv") == 2
    assert num_trained("again.csv", "closed_loop=none") == 0
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()
    assert num_trained("parquet.parquet") == 0
    assert num_trained("elsewhere.csv", f"dataset.cache_dir={tmp_path}/other") == 2
    assert (tmp_path / "elsewhere.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()
    for different in ("seed=1", "trainer.learning_rate=0.01", "sampler=stratified", "dataset.split_seed=1"):
        assert num_trained("other.csv", different) == 2, different
    assert num_trained("best.csv", "--checkpoint", "best") == 2
    monkeypatch.setattr(irreducible, "code_commit", lambda: "another")
    assert num_trained("later.csv") == 2


def test_the_best_checkpoint_is_the_one_of_the_evaluation_that_was_best(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    # A rate that spoils the model at once: the best is the one that has learnt nothing, which is scored again at last.
    spoiled = (*overrides, "trainer.learning_rate=3", "trainer.schedule.warmup_steps=0")
    still = ("trainer.learning_rate=1e-20", "trainer.schedule.final_learning_rate=0")
    losses = {}
    for checkpoint in ("last", "best"):
        out = tmp_path / f"{checkpoint}.csv"
        assert call("irreducible", out, "--checkpoint", checkpoint, *spoiled) == 0
        losses[checkpoint] = losses_of(out)
    assert call("irreducible", tmp_path / "untrained.csv", *spoiled, *still) == 0

    assert losses["best"] != losses["last"]
    assert losses["best"] == pytest.approx(losses_of(tmp_path / "untrained.csv"), rel=1e-5)


def test_one_that_is_interrupted_leaves_no_file_and_begins_that_fold_anew(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    num_calls = 0

    def interrupt(module: torch.nn.Module, arguments: object) -> None:
        nonlocal num_calls
        if isinstance(module, Model) and module.training:
            num_calls += 1
            if num_calls == 25:  # in the second fold
                os.kill(os.getpid(), signal.SIGINT)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(interrupt)
    try:
        assert call("irreducible", tmp_path / "out.csv", *overrides) == 128 + signal.SIGINT
    finally:
        hook.remove()
    assert not (tmp_path / "out.csv").exists()

    with watched_models() as models:
        assert call("irreducible", tmp_path / "out.csv", *overrides) == 0
    assert len(models) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    every(
        2,
        [
            (("out.csv", "--folds", "1"), "--folds 1: expected 2 or more"),
            (("out.csv", "--folds", "99"), "at most as many as there are train episodes with a window (10)"),
            (("out.csv", "resume=outputs/run"), "resume: expected null"),
            (("out.csv", "trainer.stop_at_step=3"), "trainer.stop_at_step: expected null"),
            (("out.csv", "trainer.stepz=3"), "stepz"),
            (("out.txt",), "expected a file named .csv or .parquet"),
        ],
    ),
)
def test_what_cannot_be_cross_fitted_is_refused_before_training(
    overrides: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    out, *more = arguments
    with watched_models() as models:
        assert call("irreducible", tmp_path / out, *overrides, *more) == 1
    assert message in capsys.readouterr().err
    assert not models
    assert not (tmp_path / out).exists()
