"""A context knows its own frame and the frames before it, and nothing that does not exist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import compose_config, options_of

from mobile_vla.errors import ConfigError
from mobile_vla.policy.history.contract import History
from mobile_vla.policy.history.gpt import GptHistory

NUM_FRAMES, FEATURE_DIM = 5, 6


def make_history(option: str, *overrides: str) -> History:
    """Return the encoder of a config option, 8 wide."""
    torch.manual_seed(0)
    sizes = ("model.head.history.hidden_dim=8", f"dataset.window_size={NUM_FRAMES}")
    cfg = compose_config([f"model/head/history={option}", *sizes, *overrides])
    return instantiate(cfg.model.head.history)(feature_dim=FEATURE_DIM)


HISTORIES = {option: make_history(option) for option in options_of("model/head/history")}
each = pytest.mark.parametrize("option", HISTORIES)
law = settings(max_examples=10)
patterns = st.lists(st.lists(st.booleans(), min_size=NUM_FRAMES, max_size=NUM_FRAMES), min_size=1, max_size=3)


@pytest.fixture(params=["training", "evaluation"], autouse=True, scope="module")
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ask every law of both ways to run: torch takes other kernels where it needs no gradient."""
    is_training = request.param == "training"
    for history in HISTORIES.values():
        history.train(is_training)  # pyright: ignore[reportAttributeAccessIssue]
    with torch.set_grad_enabled(is_training):
        yield


def random_features(num_windows: int, seed: int) -> torch.Tensor:
    return torch.randn(num_windows, NUM_FRAMES, FEATURE_DIM, generator=torch.Generator().manual_seed(seed))


@each
def test_a_context_is_as_wide_as_it_says(option: str) -> None:
    history = HISTORIES[option]
    context = history(random_features(2, 0), torch.ones(2, NUM_FRAMES, dtype=torch.bool))
    assert context.shape == (2, NUM_FRAMES, history.context_dim) == (2, NUM_FRAMES, 8)


@each
@given(exists=patterns, cut=st.integers(1, NUM_FRAMES - 1), seed=st.integers(0, 99))
@law
def test_later_frames_do_not_change_earlier_contexts(
    option: str, exists: list[list[bool]], cut: int, seed: int
) -> None:
    history_BT = torch.tensor(exists)
    features, other = random_features(len(exists), seed), random_features(len(exists), seed + 1)
    features_after, history_after = features.clone(), history_BT.clone()
    features_after[:, cut:] = other[:, cut:]
    history_after[:, cut:] ^= True

    before = HISTORIES[option](features, history_BT)[:, :cut]
    after = HISTORIES[option](features_after, history_after)[:, :cut]

    torch.testing.assert_close(after, before)


@each
@given(exists=patterns, seed=st.integers(0, 99))
@law
def test_absent_frames_are_not_seen_and_leave_every_context_finite(
    option: str, exists: list[list[bool]], seed: int
) -> None:
    history_BT = torch.tensor(exists)
    features = random_features(len(exists), seed)
    dirty = torch.where(history_BT[..., None], features, 1e3 * random_features(len(exists), seed + 1))

    clean_BTH, dirty_BTH = HISTORIES[option](features, history_BT), HISTORIES[option](dirty, history_BT)

    assert torch.isfinite(dirty_BTH).all()
    torch.testing.assert_close(dirty_BTH[history_BT], clean_BTH[history_BT])


@each
def test_a_window_is_encoded_alike_alone_and_in_a_batch(option: str) -> None:
    features = random_features(3, 0)
    history_BT = torch.arange(NUM_FRAMES) >= torch.tensor([[0], [2], [4]])

    together = HISTORIES[option](features, history_BT)
    alone = torch.cat([HISTORIES[option](features[[i]], history_BT[[i]]) for i in range(3)])

    torch.testing.assert_close(alone, together)


@each
def test_only_the_mlp_forgets(option: str) -> None:
    features, whole = random_features(1, 0), torch.ones(1, NUM_FRAMES, dtype=torch.bool)
    other = features.clone()
    other[:, 0] += 1

    is_same = torch.allclose(HISTORIES[option](features, whole)[:, -1], HISTORIES[option](other, whole)[:, -1])

    assert is_same == (option == "mlp")


@each
def test_gradients_are_finite_where_nothing_exists(option: str) -> None:
    history = HISTORIES[option]
    features = random_features(2, 0).requires_grad_()
    with torch.enable_grad():
        history(features, torch.zeros(2, NUM_FRAMES, dtype=torch.bool)).sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_layers_are_counted() -> None:
    kinds = {"mlp": torch.nn.Linear, "lstm": torch.nn.LSTM, "gpt": torch.nn.TransformerEncoderLayer}
    assert kinds.keys() == HISTORIES.keys()
    for option, kind in kinds.items():
        history = make_history(option, "model.head.history.num_layers=3")
        found = [module for module in history.modules() if isinstance(module, kind)]  # pyright: ignore[reportAttributeAccessIssue]
        assert (found[0].num_layers if option == "lstm" else len(found)) == 3


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden_dim=6: expected a multiple of num_heads=4"):
        GptHistory(feature_dim=4, window_size=2, hidden_dim=6, num_layers=1, num_heads=4, dropout=0.0)
