"""What a head makes of an action and back again is the action, as near as its code allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_batches import NUM_PREDICTED
from made_episodes import made_episode, made_spec
from made_heads import KEYS_FA, SPEED, build_model, key_batch

from mobile_vla.errors import ConfigError
from mobile_vla.evaluation.action_shares import action_shares
from mobile_vla.policy.heads.classes import ClassesHead
from mobile_vla.policy.heads.diffusion import DiffusionHead
from mobile_vla.policy.heads.tokens import TokensHead
from mobile_vla.policy.history.mlp import MlpHistory
from mobile_vla.policy.model import Model


def head_of(kind: str, *overrides: str, train_FA: np.ndarray = KEYS_FA) -> tuple[Model, torch.Tensor]:
    """Return a model and its train actions as its head gets them."""
    model = build_model(kind, *overrides, train_FA=train_FA)
    return model, model.normalizer.normalize(torch.from_numpy(train_FA))


@given(
    rows=st.lists(st.tuples(*[st.floats(-3, 3, width=32, allow_subnormal=False)] * 2), min_size=1, max_size=30),
    num_bins=st.integers(2, 300),
)
@settings(max_examples=20)
def test_a_token_is_at_most_half_a_bin_from_its_action(rows: Sequence[tuple[float, float]], num_bins: int) -> None:
    actions = torch.tensor(rows)
    head = TokensHead(
        feature_dim=2,
        fwd_pred_next_n=1,
        num_actions=2,
        history=partial(MlpHistory, hidden_dim=2, num_layers=1),
        num_bins=num_bins,
        decode="argmax",
    )
    with torch.no_grad():
        head.fit(actions, rest_A=torch.zeros(2))

    bins = head.tokenize(actions)

    assert (bins >= 0).all()
    assert (bins < num_bins).all()
    error = (head.centers(bins) - actions).abs()
    assert (error <= 0.5001 * (actions.amax(0) - actions.amin(0)) / num_bins + 1e-5).all()
    assert torch.equal(head.tokenize(torch.full((2,), 1e30)) > 0, head.width_A > 0)


def test_both_ways_to_decode_tokens_agree_on_a_certain_answer() -> None:
    chosen = []
    for decode in ("argmax", "mean"):
        model, actions = head_of("tokens", f"model.head.decode={decode}")
        assert isinstance(model.head, TokensHead)
        torch.nn.init.zeros_(model.head.out.weight)
        bins = model.head.tokenize(actions[3]).expand(NUM_PREDICTED, 2)
        with torch.no_grad():
            model.head.out.bias.copy_(50.0 * torch.nn.functional.one_hot(bins, 256).flatten())
        chosen.append(model.predict(key_batch()))

    torch.testing.assert_close(chosen[0], chosen[1])
    assert (chosen[0] - torch.from_numpy(KEYS_FA[3])).abs().max() < SPEED / 256 + 1e-5


def test_classes_are_those_that_inspect_counts() -> None:
    random = np.random.default_rng(1)
    episode = made_episode(0, num_frames=60)
    train_FA = (random.choice([-1.0, 0, 0.03, 0.06, 1], (60, 3)) * [1.0, 2.0, 0.5]).astype(np.float32)
    shares = action_shares([replace(episode, actions=train_FA)], made_spec())

    model, actions = head_of("classes", train_FA=train_FA)
    assert isinstance(model.head, ClassesHead)
    counts = torch.bincount(model.head.classify(actions), minlength=27)

    assert sorted((counts[counts > 0] / 60).tolist()) == pytest.approx(sorted(shares.values()))


def test_a_class_is_answered_with_its_mean_train_action_and_an_unseen_one_never() -> None:
    train_FA = np.array([[1.0, 0.0], [0.8, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    model, _ = head_of("classes", train_FA=train_FA)
    assert isinstance(model.head, ClassesHead)
    head = model.head

    forward, backward = (head.classify(model.normalizer.normalize(torch.tensor([x, 0.0]))) for x in (0.9, -0.9))
    answers = []
    for wanted in (forward, backward):
        torch.nn.init.zeros_(head.out.weight)
        with torch.no_grad():
            head.out.bias.view(NUM_PREDICTED, 9).copy_(torch.nn.functional.one_hot(wanted, 9))
        answers.append(model.predict(key_batch())[0, 0].tolist())

    assert answers[0] == pytest.approx([0.9, 0.0], abs=1e-6)
    assert not head.is_seen_L[backward]
    assert any(answers[1] == pytest.approx(seen, abs=1e-6) for seen in ([0.9, 0.0], [0.0, 1.0], [0.0, 0.0]))
    assert torch.isfinite(model(key_batch()).loss_B).all(), "a target of an unseen class"


def test_balanced_weights_make_every_seen_class_count_the_same() -> None:
    model, actions = head_of("classes", "model.head.class_weights=balanced")
    assert isinstance(model.head, ClassesHead)
    counts_L = torch.bincount(model.head.classify(actions), minlength=9)

    total_L = counts_L * model.head.weight_L

    seen = total_L[counts_L > 0]
    torch.testing.assert_close(seen, torch.full_like(seen, len(KEYS_FA) / len(seen)))
    assert set(head_of("classes")[0].head.weight_L.tolist()) == {1.0}  # pyright: ignore[reportAttributeAccessIssue]


def test_diffusion_says_nothing_beyond_the_train_actions() -> None:
    model = build_model("diffusion", "model.head.start_noise=1.0")
    assert isinstance(model.head, DiffusionHead)
    torch.nn.init.normal_(model.head.denoise.leave.weight, std=10.0)

    said = model.predict(key_batch())

    low_A, high_A = torch.from_numpy(KEYS_FA.min(0)), torch.from_numpy(KEYS_FA.max(0))
    assert ((said >= low_A - 1e-5) & (said <= high_A + 1e-5)).all()


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_diffusion_recovers_the_actions_from_a_true_answer(prediction: str) -> None:
    model = build_model("diffusion", f"model.head.prediction={prediction}", "model.head.start_noise=1.0")
    head = model.head
    assert isinstance(head, DiffusionHead)
    actions_KA = model.normalizer.normalize(torch.from_numpy(KEYS_FA[:NUM_PREDICTED]))

    class Oracle(torch.nn.Module):
        def forward(self, chunk: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            kept = head.kept_S[(time * len(head.kept_S)).round().long()][..., None, None]
            noise = (chunk - kept.sqrt() * actions_KA) / (1 - kept).sqrt()
            return noise if prediction == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * actions_KA

    head.denoise = Oracle()  # pyright: ignore[reportAttributeAccessIssue]
    expected = torch.from_numpy(KEYS_FA[:NUM_PREDICTED]).expand(4, -1, -1)
    torch.testing.assert_close(model.predict(key_batch()), expected, atol=2e-3, rtol=0)


def test_more_steps_than_levels_are_refused() -> None:
    with pytest.raises(Exception, match=r"num_steps=11: expected at most model\.head\.num_levels=10") as refused:
        build_model("diffusion", "model.head.num_levels=10", "model.head.num_steps=11")
    assert isinstance(refused.value.__cause__ or refused.value, ConfigError)
