"""The state is one more input: it reaches the actions in every head, and without it nothing is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import ConfigCompositionException
from hypothesis import given, settings
from hypothesis import strategies as st
from made_batches import NUM_PREDICTED, make_batch, make_model
from made_heads import build_model, factory_of
from made_rigs import SPEC, rig
from tiny_runs import compose_config, options_of, run_in

from mobile_vla.config import check_config
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.policy.export.export import Export
from mobile_vla.policy.model import Model
from mobile_vla.policy.policy import Policy
from mobile_vla.policy.weights import load_weights, save_weights
from mobile_vla.run.build import build_dataset, build_run
from mobile_vla.schema import Batch
from mobile_vla.spec import Signal

STATES_FS = np.random.default_rng(0).normal([3, -20, 0.5], [1, 5, 0.1], (50, 3)).astype(np.float32)


def batch_of(seed: int = 0) -> Batch:
    """Return windows of two cameras and three signals; the second window lacks its first frame."""
    batch = make_batch(seed=seed, num_state=3, num_cameras=2)
    history_BT = batch.history_BT.clone()
    history_BT[1, 0] = False
    state_BTS = (batch.state_BTS * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([3.0, -20.0, 0.5])) * history_BT[
        ..., None
    ]
    return replace(batch, history_BT=history_BT, state_BTS=state_BTS, mask_BTK=batch.mask_BTK & history_BT[..., None])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with two cameras and three signals."""
    folder = tmp_path_factory.mktemp("rig")
    ran = run_in(folder / "run", *rig("Rig", folder, "model.state=all", "evaluation.shortcuts=false"))
    assert ran.exit_code == 0, ran.message
    return ran.folder


def train(model: Model, batch: Batch, *, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(batch).loss_B.mean().backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize(
    ("head", "history"),
    [*((head, None) for head in options_of("model/head")), *(("flow", h) for h in options_of("model/head/history"))],
)
def test_every_head_and_history_gets_state_and_cameras(head: str, history: str | None, tmp_path: Path) -> None:
    overrides = [f"model/head/history={history}"] if history else []
    model, other = (build_model(head, *overrides, train_FS=STATES_FS, num_cameras=2, fit=fit) for fit in (True, False))
    batch = batch_of()

    train(model, batch)
    save_weights(model, tmp_path)
    load_weights(other, tmp_path)

    answer = model.predict(batch)
    assert answer.shape == (len(batch), NUM_PREDICTED, 2)
    assert torch.equal(other.eval().predict(batch), answer)
    for name, parameter in model.named_parameters():
        if name.startswith(("state_encoder", "backbone.convolutions")):
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
    # The losses, because the prediction of a classifier need not change.
    assert not torch.equal(model(replace(batch, state_BTS=batch.state_BTS + 1)).loss_B, model(batch).loss_B)


def test_without_state_nothing_of_it_is_there() -> None:
    model = make_model()

    assert model.state_encoder is None
    assert not [name for name in model.state_dict() if "state" in name]
    assert make_model(num_state=3).num_parameters()[0] > model.num_parameters()[0]


@given(seed=st.integers(0, 999), value=st.floats(-1e6, 1e6, width=32))
@settings(max_examples=20)
def test_the_state_of_an_absent_frame_never_matters(seed: int, value: float) -> None:
    model, batch = make_model(num_state=3, num_cameras=2), batch_of(seed)
    dirty = torch.where(batch.history_BT[..., None], batch.state_BTS, value)

    assert torch.equal(model.predict(replace(batch, state_BTS=dirty)), model.predict(batch))
    assert torch.equal(model(replace(batch, state_BTS=dirty)).loss_B, model(batch).loss_B)


@given(scale=st.sampled_from([1e-3, 0.5, 57.3, 1e4]), shift=st.sampled_from([-100.0, 0.0, 3.0]))
def test_the_unit_of_the_state_does_not_matter(scale: float, shift: float) -> None:
    batch = batch_of()
    models = [make_model(num_state=3, num_cameras=2) for _ in range(2)]
    actions_FA = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    models[0].fit(actions_FA, STATES_FS)
    models[1].fit(actions_FA, STATES_FS * np.float32(scale) + np.float32(shift))
    other = replace(batch, state_BTS=batch.state_BTS * scale + shift)

    torch.testing.assert_close(models[1].predict(other), models[0].predict(batch), rtol=1e-2, atol=1e-2)


GRIPPED_FS = np.stack([STATES_FS[:, 0], np.where(np.arange(50) < 48, 0.0, 0.04)], 1).astype(np.float32)
"""A joint and a gripper that is closed in 2 of 50 frames: standardised, its closed value would be 4.9."""


@pytest.mark.parametrize("normalization", ["mean_std", "min_max", "quantile", "none"])
def test_the_two_values_of_a_binary_state_become_minus_one_and_one(normalization: str) -> None:
    signals = [Signal(name="joint", kind="position"), Signal(name="gripper", kind="binary")]
    model = build_model("mlp", train_FS=GRIPPED_FS, normalization=normalization, fit=False)
    model.fit(np.eye(2, dtype=np.float32), GRIPPED_FS, state_signals=signals)
    assert model.state_encoder is not None
    normal_FS = model.state_encoder.normalizer.normalize(torch.from_numpy(GRIPPED_FS))
    assert normal_FS[:, 1].tolist() == [-1.0] * 48 + [1.0] * 2
    torch.testing.assert_close(normal_FS[:, 0].std(correction=0), torch.tensor(1.0))
    # The probe that removes the state says neither open nor closed.
    removed = model.state_encoder.removed
    torch.testing.assert_close(removed, torch.tensor([GRIPPED_FS[:, 0].mean(), 0.02]))


def test_a_measured_gripper_that_shares_the_name_of_a_binary_command_is_as_any_other() -> None:
    signals = [Signal(name="gripper", kind="binary")]
    model = build_model("mlp", train_FS=STATES_FS[:, :1], fit=False)
    model.fit(np.eye(2, dtype=np.float32), STATES_FS[:, :1], state_signals=signals)
    assert model.state_encoder is not None
    normal_FS = model.state_encoder.normalizer.normalize(torch.from_numpy(STATES_FS[:, :1]))
    torch.testing.assert_close(normal_FS.std(correction=0), torch.tensor(1.0))


def test_a_signal_far_outside_of_the_training_is_clipped() -> None:
    model, batch = make_model(num_state=3, num_cameras=2), batch_of()
    far, farther = (replace(batch, state_BTS=torch.full_like(batch.state_BTS, value)) for value in (1e4, 1e9))

    assert torch.equal(model.predict(far), model.predict(farther))


def test_features_of_images_alone_stay_valid_whatever_the_state() -> None:
    model, batch = make_model(num_state=3, num_cameras=2), batch_of()
    features = model.encode(batch.images_BTVCYX, batch.history_BT, batch.instruction).detach()
    cached = replace(batch, images_BTVCYX=torch.zeros_like(batch.images_BTVCYX), features_BTD=features)

    assert torch.equal(model.predict(cached), model.predict(batch))
    assert not torch.equal(model.predict(replace(cached, state_BTS=-cached.state_BTS)), model.predict(batch))


@pytest.mark.parametrize(
    ("state", "num_state", "message"),
    [
        ("all", 0, "model.state=all: has no effect, as the recordings hold no state; expected none"),
        ("none", 2, "model.state=none: names 0 signals, and the data set gives 2."),
        (["joint_1"], 2, r"model.state=\['joint_1'\]: names 1 signals, and the data set gives 2"),
    ],
)
def test_a_state_that_is_not_there_is_refused(state: Any, num_state: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        factory_of("lstm")(fwd_pred_next_n=2, num_actions=2, state=state, num_state=num_state, num_cameras=1)


@pytest.mark.parametrize("dataset", options_of("dataset"))
def test_every_data_set_takes_the_state_of_the_model(dataset: str) -> None:
    more = ["dataset.path=somewhere"] if "sim" not in dataset else []
    for state, expected in (("none", "none"), ("[a,b]", ["a", "b"])):
        cfg = compose_config([f"dataset={dataset}", f"model.state={state}", *more])
        check_config(cfg)
        assert build_dataset(cfg).state == expected


def test_the_state_has_one_name() -> None:
    with pytest.raises(ConfigCompositionException, match=r"dataset\.state"):
        compose_config(["dataset.state=all"])
    with pytest.raises(ConfigError, match=r"dataset\.state: is set by the run; remove it"):
        check_config(compose_config(["+dataset.state=all"]))


def test_a_state_that_is_no_list_of_names_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.state: 'joint_1'; .*'all' or 'none' or Input should be a valid array"
    ):
        check_config(compose_config(["model.state=joint_1"]))


WAYS: dict[str, tuple[str, ...]] = {
    "both": (),
    "end": ("dataset.padding=end",),
    "none": ("dataset.padding=none",),
    "towers apart, another order": (
        "model.backbone.camera_towers=apart",
        "dataset.cameras=[wrist,front]",
        "model.state=[joint_3,joint_1]",
    ),
    "one camera, attention": ("dataset.cameras=[wrist]", "model/head=gpt"),
    "state alone is cut": ("model.state=[joint_2]", "model/head=flow"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_live_drive_is_what_training_predicts_for_the_recorded_one(way: str, tmp_path: Path) -> None:
    overrides = rig("Rig", tmp_path, "model.state=all", "evaluation.shortcuts=false", *WAYS[way])
    ran = run_in(tmp_path / "run", *overrides)
    assert ran.exit_code == 0, ran.message
    run = build_run(compose_config(overrides))
    policy = Policy.load(ran.folder)
    run.model.load_state_dict(policy._model.state_dict())
    run.model.eval()
    spec, size = policy.description.spec, policy.description.window_size
    assert spec == run.data.spec
    reader = run.data.readers["val"]
    predicted_NKA = run.model.predict(reader.gather(np.arange(len(reader.windows)))).numpy()

    num_compared = 0
    for number, name in enumerate(reader.windows.episode_names):
        episode, first = run.data.episodes[name], run.data.frames.first_row[name]
        policy.reset()
        said = []
        for frame in range(episode.num_frames):
            images = {camera: frames[first + frame] for camera, frames in run.data.frames.cameras.items()}
            state = dict(zip(spec.state_names, episode.state[frame].tolist(), strict=True))
            said.append(policy.act(images, episode.instruction, state=state if frame % 2 else episode.state[frame]))
        for row in np.flatnonzero(reader.windows.episode == number):
            frame = int(reader.windows.start[row]) + size - 1
            np.testing.assert_allclose(said[frame], predicted_NKA[row], atol=1e-5)
            num_compared += 1
    assert num_compared == len(reader.windows) > 15


def test_robots_driven_together_answer_as_each_alone(trained: Path) -> None:
    together, alone = Policy.load(trained), Policy.load(trained)
    random = np.random.default_rng(0)
    front, wrist = (random.integers(0, 256, (4, 2, rows, 20, 3), dtype=np.uint8) for rows in (16, 12))
    states = random.normal(size=(4, 2, 3))
    said = [
        together.act({"wrist": wrist[t], "front": front[t]}, ["go", "stop"], state=states[t], robots=["a", "b"])
        for t in range(4)
    ]

    for robot, text in enumerate(["go", "stop"]):
        alone.reset()
        for t in range(4):
            images = {"front": front[t, robot], "wrist": wrist[t, robot]}
            np.testing.assert_allclose(alone.act(images, text, state=states[t, robot]), said[t][robot], atol=1e-5)


def test_what_a_policy_lacks_is_said_and_not_remembered(trained: Path) -> None:
    policy, other = Policy.load(trained), Policy.load(trained)
    image = np.zeros((16, 16, 3), np.uint8)
    both, state = {"front": image, "wrist": image}, [1.0, 2.0, 3.0]
    bad: list[tuple[Any, Any, str]] = [
        (image, state, "image: uint8 .*; expected one array for each camera by its name, 'front', 'wrist'"),
        ({"front": image}, state, "image: lacks 'wrist'; expected 'front', 'wrist'"),
        (both | {"rear": image}, state, "image: has 'rear', which this policy does not get; expected 'front', 'wrist'"),
        (both | {"wrist": image / 2}, state, "image 'wrist': float64"),
        (both, None, "state: missing; expected numbers in the order of 'joint_1', 'joint_2', 'joint_3', or by name"),
        (both, state[:2], r"state: \[1, 2\] numbers; expected \[1, 3\]"),
        (both, {"joint_1": 1.0}, "state: lacks 'joint_2', 'joint_3'"),
        (both, [1.0, float("nan"), 3.0], "state: 'joint_2' is not finite"),
        (both, [1.0, 2.0, 1e40], "state: 'joint_3' is not finite"),
        (
            both,
            ["1", "2", "3"],
            "state: holds what is no number, or lists of .*; expected a number for each of 'joint_1'",
        ),
        (
            both,
            [[1.0], 2.0, 3.0],
            "state: holds what is no number, or lists of .*; expected a number for each of 'joint_1'",
        ),
    ]
    for images, given_state, message in bad:
        with pytest.raises(UserError, match=message):
            policy.act(images, "go", state=given_state)
    np.testing.assert_array_equal(policy.act(both, "go", state=state), other.act(both, "go", state=state))


def test_a_policy_without_state_takes_none_and_a_single_camera_has_a_name_too(tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *rig("Rig", tmp_path, "dataset.cameras=[wrist]", "evaluation.shortcuts=false"))
    policy, other = Policy.load(ran.folder), Policy.load(ran.folder)
    image = np.full((9, 7, 3), 50, np.uint8)

    with pytest.raises(UserError, match="state: given, and this policy gets none; leave it out"):
        policy.act(image, "go", state=[1.0])
    with pytest.raises(UserError, match="image: lacks 'wrist'"):
        policy.act({"front": image}, "go")
    np.testing.assert_array_equal(policy.act(image, "go"), other.act({"wrist": image}, "go"))


def test_the_card_says_what_the_policy_gets(trained: Path, tmp_path: Path) -> None:
    Export(source=trained, out=tmp_path / "out", checkpoint="last", merge=False, base=None, trust=[]).run()

    card = (tmp_path / "out" / "README.md").read_text()
    assert "the last 3 images of 2 cameras, the robot's state and an instruction" in card
    assert "- Cameras: front, wrist" in card
    assert "- State: joint_1 (rad, position), joint_2 (rad, position), joint_3 (rad, position)" in card
    assert "policy.act({'front': image_1, 'wrist': image_2}, 'go left', state=[joint_1, joint_2, joint_3])" in card
    assert Policy.load(tmp_path / "out").description.spec == SPEC
