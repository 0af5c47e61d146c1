"""Laws of execution: which of the predicted actions a robot carries out, step by step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import compose_config, options_of

from mobile_vla.closed_loop.execution import FirstActions, TemporalEnsemble
from mobile_vla.errors import ConfigError
from mobile_vla.run.build import build_closed_loop

NUM_ACTIONS = 2


def chunks_of(num_steps: int, num_ahead: int) -> np.ndarray:
    """Return one chunk a step, [F, K, A], no two numbers of them equal."""
    shape = (num_steps, num_ahead, NUM_ACTIONS)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@given(num_ahead=st.integers(1, 12), count=st.integers(1, 12), num_steps=st.integers(1, 40))
def test_first_actions_executes_the_first_ones_of_every_so_many_chunks(
    num_ahead: int, count: int, num_steps: int
) -> None:
    count = min(count, num_ahead)
    chunks_FKA = chunks_of(num_steps, num_ahead)
    execute = FirstActions(count=count).begin(fwd_pred_next_n=num_ahead)
    done_FA = np.stack([execute(chunk_KA) for chunk_KA in chunks_FKA])
    steps = np.arange(num_steps)
    assert np.array_equal(done_FA, chunks_FKA[steps - steps % count, steps % count])


def test_more_actions_than_are_predicted_are_refused() -> None:
    FirstActions(count=10).begin(fwd_pred_next_n=10)
    with pytest.raises(ConfigError, match=r"execution\.count=11: the policy predicts 10 actions"):
        FirstActions(count=11).begin(fwd_pred_next_n=10)


@given(
    num_ahead=st.integers(1, 12),
    num_steps=st.integers(1, 30),
    decay=st.floats(0, 5),
    seed=st.integers(0, 2**32),
)
def test_the_ensemble_is_the_weighted_mean_of_what_all_chunks_said_of_the_step(
    num_ahead: int, num_steps: int, decay: float, seed: int
) -> None:
    chunks_FKA = np.random.default_rng(seed).normal(size=(num_steps, num_ahead, NUM_ACTIONS)).astype(np.float32)
    execute = TemporalEnsemble(decay=decay).begin(fwd_pred_next_n=num_ahead)
    for step, chunk_KA in enumerate(chunks_FKA):
        # Algorithm 2 of ACT: a buffer of all that was said of this step, oldest first, w_i = exp(-m i).
        said = [chunks_FKA[begun][step - begun] for begun in range(step + 1) if step - begun < num_ahead]
        weights = [np.exp(-decay * i) for i in range(len(said))]
        mean = sum(weight * action for weight, action in zip(weights, said, strict=True)) / sum(weights)
        done = execute(chunk_KA)
        assert done.dtype == np.float32
        assert done == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("execution", [FirstActions(count=3), TemporalEnsemble(decay=0.1)])
def test_a_policy_that_never_changes_its_mind_is_obeyed_alike(execution: FirstActions | TemporalEnsemble) -> None:
    plan = np.random.default_rng(0).normal(size=(20, NUM_ACTIONS)).astype(np.float32)
    execute = execution.begin(fwd_pred_next_n=5)
    done = np.stack([execute(plan[step : step + 5]) for step in range(15)])
    assert done == pytest.approx(plan[:15], abs=1e-6)


@pytest.mark.parametrize("execution", [FirstActions(count=3), TemporalEnsemble(decay=0.1)])
def test_robots_do_not_share_what_was_predicted(execution: FirstActions | TemporalEnsemble) -> None:
    one, other = (execution.begin(fwd_pred_next_n=4) for _ in range(2))
    chunks_FKA = chunks_of(8, 4)
    alone = [one(chunk_KA) for chunk_KA in chunks_FKA]
    third = execution.begin(fwd_pred_next_n=4)
    beside = []
    for chunk_KA in chunks_FKA:
        other(-chunk_KA)
        beside.append(third(chunk_KA))
    assert np.array_equal(alone, beside)


@pytest.mark.parametrize("option", options_of("closed_loop/execution"))
def test_every_option_composes_and_executes(option: str) -> None:
    loop = build_closed_loop(compose_config([f"closed_loop/execution={option}"]).closed_loop)
    chunk_KA = np.ones((10, NUM_ACTIONS), np.float32)
    assert loop.execution.begin(fwd_pred_next_n=10)(chunk_KA) == pytest.approx([1, 1])
