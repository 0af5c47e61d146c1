"""Binary actions are one of their two values, values at rest come from the spec, and a head that needs one says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_heads import build_model, key_batch
from made_scales import GRIPPER, JOINT, TURN
from safetensors.torch import load_file, save_file

from mobile_vla.errors import ConfigError
from mobile_vla.policy.heads.classes import MAX_ACTIONS, ClassesHead
from mobile_vla.policy.normalizer import Normalizer
from mobile_vla.spec import Signal

OPEN, CLOSED = 0.0, 0.04
"""Widths of a gripper in m: 95 % of the frames are open, so the mean is close to one of the two."""


def train_actions(*, values: Sequence[float] = (OPEN, CLOSED)) -> np.ndarray:
    """Return actions [F, 2] of a joint and a gripper."""
    random = np.random.default_rng(0)
    gripper = np.where(random.random(200) < 0.95, values[0], values[-1])
    return np.stack([random.normal(1.0, 0.3, 200), gripper], 1).astype(np.float32)


@pytest.mark.parametrize("normalization", ["mean_std", "min_max", "quantile", "none"])
@pytest.mark.parametrize("head", ["mlp", "tokens", "flow", "diffusion"])
def test_a_policy_answers_a_binary_action_with_one_of_its_two_values(head: str, normalization: str) -> None:
    model = build_model(head, train_FA=train_actions(), fit=False, normalization=normalization)
    model.fit(train_actions(), signals=[JOINT, GRIPPER])
    for parameter in model.head.parameters():  # pyright: ignore[reportAttributeAccessIssue]
        torch.nn.init.normal_(parameter, std=0.5)  # an untrained flow answers 0 to all windows
    batch = key_batch(num_windows=16)
    answers = [model.predict(batch), model(batch).actions_BKA]
    for actions_BKA in answers:
        assert set(actions_BKA[..., 1].flatten().tolist()) <= set(train_actions()[:, 1].tolist())
        assert len(actions_BKA[..., 0].unique()) > 2
    assert torch.isfinite(model(batch).loss_B).all()


@given(
    values=st.tuples(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32)).filter(
        lambda pair: abs(pair[0] - pair[1]) > 0.1
    ),
    predicted=st.floats(-3, 3, width=32),
)
def test_the_nearer_of_the_two_values_is_taken_and_the_loss_sees_minus_one_and_one(
    values: tuple[float, float], predicted: float
) -> None:
    normalizer = Normalizer("mean_std", num_actions=2)
    actions_FA = train_actions(values=values)
    normalizer.fit(actions_FA, binary=[1])
    normal = normalizer.normalize(torch.from_numpy(actions_FA))[:, 1]
    torch.testing.assert_close(normal.abs(), torch.ones(200), atol=1e-3, rtol=0)
    low, high = sorted(np.array(values, np.float32).tolist())
    answer = normalizer.actions_of(torch.tensor([predicted, predicted]))
    assert answer[1] == (high if predicted >= 0 else low)
    assert answer[0] == normalizer.denormalize(torch.tensor([predicted, predicted]))[0]


def test_a_gripper_that_never_moves_stays_where_it_is() -> None:
    model = build_model("mlp", train_FA=train_actions(values=[CLOSED]), fit=False)
    model.fit(train_actions(values=[CLOSED]), signals=[JOINT, GRIPPER])
    assert set(model.predict(key_batch())[..., 1].flatten().tolist()) == {float(np.float32(CLOSED))}


def test_only_the_spec_makes_a_signal_binary() -> None:
    model = build_model("mlp", train_FA=train_actions(), fit=False)
    model.fit(train_actions(), signals=[JOINT, replace(GRIPPER, kind="position")])
    assert len(model.predict(key_batch(num_windows=16))[..., 1].unique()) > 2


def test_a_binary_signal_of_many_values_is_refused_with_what_to_give() -> None:
    model = build_model("mlp", train_FA=train_actions(), fit=False)
    message = r"gripper is said to be binary, but .* 3 values of it \(0, 0\.5, 1, \.\.\.\)\. .*\{kind: position\}"
    actions_FA = train_actions()
    actions_FA[:3, 1] = [0, 0.5, 1]
    actions_FA[3:, 1] = 1
    with pytest.raises(ConfigError, match=message):
        model.fit(actions_FA, signals=[JOINT, GRIPPER])


def test_a_checkpoint_restores_the_two_values(tmp_path: Path) -> None:
    model = build_model("mlp", train_FA=train_actions(), fit=False)
    model.fit(train_actions(), signals=[JOINT, GRIPPER])
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = build_model("mlp", train_FA=train_actions(), fit=False)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other.predict(key_batch()), model.predict(key_batch()))


def test_classes_are_signs_around_the_value_at_rest() -> None:
    train_FA = np.array([[1.0, 5.0], [1.0, 6.0], [1.0, 4.0], [2.0, 5.0]], np.float32)
    model = build_model("classes", train_FA=train_FA, fit=False)
    model.fit(train_FA, signals=[replace(TURN, rest=1.0), replace(TURN, name="lift", rest=5.0)])
    head = model.head
    assert isinstance(head, ClassesHead)
    classes = head.classify(model.normalizer.normalize(torch.from_numpy(train_FA)))
    assert classes.tolist() == [4, 7, 1, 5]  # 4: both at rest


def test_classes_refuse_positions_and_name_what_to_use() -> None:
    train_FA = train_actions()
    model = build_model("classes", train_FA=train_FA, fit=False)
    with pytest.raises(ConfigError, match=r"1 of 2 actions have none \(number 2\).*model/head=tokens.*\{rest: 0\}"):
        model.fit(train_FA, signals=[TURN, JOINT])


@pytest.mark.parametrize(("num_actions", "num_classes"), [(7, "2,187"), (26, "2,541,865,828,329")])
def test_too_many_classes_are_refused_with_their_number(num_actions: int, num_classes: str) -> None:
    train_FA = np.zeros((3, num_actions), np.float32)
    with pytest.raises(Exception, match=rf"{num_actions} actions would need .* = {num_classes} classes") as refused:
        build_model("classes", train_FA=train_FA)
    assert isinstance(refused.value.__cause__ or refused.value, ConfigError)


def test_as_many_classes_as_allowed_are_built() -> None:
    train_FA = np.random.default_rng(0).choice([-1, 0, 1], (50, MAX_ACTIONS)).astype(np.float32)
    model = build_model("classes", train_FA=train_FA, fit=False)
    model.fit(train_FA, signals=[Signal(name=f"key_{index}", rest=0.0) for index in range(MAX_ACTIONS)])
    assert model.predict(key_batch()).shape[-1] == MAX_ACTIONS
