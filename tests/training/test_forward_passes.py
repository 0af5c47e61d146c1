"""Check the door through which samplers look at windows before they draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import compose_config
from training_runs import train_run

from mobile_vla.run.build import Run, build_run
from mobile_vla.sampling.contract import ScoreWindows
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream
from mobile_vla.training.forward_passes import ForwardPasses
from mobile_vla.training.non_finite import NonFiniteLossError


@pytest.fixture(scope="module")
def make_run(tiny: tuple[str, ...]) -> Callable[..., Run]:
    return lambda *overrides: build_run(compose_config([*tiny, *overrides]))


def passes_of(run: Run) -> ForwardPasses:
    return ForwardPasses(run.model, run.data.readers["train"], run.trainer, Stream(0, "noise"))


def test_it_answers_what_the_model_says_of_each_window_in_evaluation(make_run: Callable[..., Run]) -> None:
    run = make_run("trainer.micro_batch_size=3")
    ids, passes = np.array([5, 0, 9, 30, 5, 2, 17]), passes_of(run)
    run.model.train()
    losses, norms = (passes.at(4)(ids, measure) for measure in ("loss", "gradient_norm"))
    assert run.model.training
    assert passes.num_windows == 2 * len(ids)
    run.model.eval()
    for i, window in enumerate(ids):
        batch = run.data.readers["train"].gather(np.array([window]))
        with torch.no_grad():
            assert losses[i] == pytest.approx(float(run.model(batch).loss_B), rel=1e-4)
        assert norms[i] == pytest.approx(float(run.model.gradient_norms(batch)), rel=1e-4)
    assert losses.dtype == norms.dtype == np.float32


def test_the_same_question_at_the_same_step_has_the_same_answer(make_run: Callable[..., Run]) -> None:
    run = make_run("model/head=flow")
    ids, passes = np.arange(6), passes_of(run)
    first = passes.at(4)(ids, "loss")
    torch.manual_seed(99)
    np.testing.assert_array_equal(first, passes.at(4)(ids, "loss"))


def test_an_answer_that_is_not_finite_names_the_windows(make_run: Callable[..., Run]) -> None:
    run = make_run()
    ids, windows = np.array([5, 0]), run.data.windows["train"]
    with torch.no_grad():
        next(run.model.head.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteLossError) as stopped:
        passes_of(run).at(4)(ids, "loss")
    named = [f"{i} ({windows.episode_names[windows.episode[i]]} from frame {windows.start[i]})" for i in ids]
    assert f"step 4: the loss that the sampler measures is not finite for 2 windows: {', '.join(named)}." in str(
        stopped.value
    )


class Looks:
    """A user's sampler that asks about ten windows and draws the four hardest."""

    def __init__(self, windows: WindowTable) -> None:
        self.windows = windows
        self.answers: list[np.ndarray] = []

    def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
        candidates = np.arange(10) + step
        self.answers.append(score_windows(candidates, "loss"))
        return Draw.unweighted(candidates[np.argsort(-self.answers[-1])[:4]])

    def probabilities(self, step: int, scores: Scores, ids: np.ndarray) -> np.ndarray:
        return np.full(len(ids), 1 / len(self.windows))

    def no_effect_reason(self) -> str | None:
        return None


def test_the_windows_that_were_asked_about_are_logged_also_after_a_resume(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("trainer.steps=4", "trainer.log_every=1", "trainer.stop_at_step=2")
    _, rows = train_run(run, tmp_path, sampler=Looks(run.data.windows["train"]))
    assert [row["windows_scored"] for row in rows] == [0, 10, 20]
    later = make_run("trainer.steps=4", "trainer.log_every=1")
    stopped = tmp_path / "step-00000002"
    _, more = train_run(later, tmp_path, sampler=Looks(run.data.windows["train"]), resume_from=stopped)
    assert [row["windows_scored"] for row in more] == [30, 40]


def test_looking_changes_nothing_of_the_training_itself(make_run: Callable[..., Run], tmp_path: Path) -> None:
    class Idle(Looks):
        def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
            if self.answers:
                score_windows(np.arange(5), "gradient_norm")
            return Draw.unweighted(np.arange(4) + step)

    weights = []
    for answers in ([], [np.zeros(1)]):
        run = make_run("trainer.steps=3", "model/head=flow")
        sampler = Idle(run.data.windows["train"])
        sampler.answers = answers
        train_run(run, tmp_path / str(len(answers)), sampler=sampler)
        weights.append(torch.cat([p.detach().flatten() for p in run.model.parameters()]))
    assert torch.equal(*weights)
