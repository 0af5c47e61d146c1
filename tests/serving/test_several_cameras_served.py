"""A policy of two cameras and a state answers over the wire as it does here, and says what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rigs import SPEC, rig
from tiny_runs import run_in
from websockets.sync.client import connect

from mobile_vla.errors import UserError
from mobile_vla.policy.policy import Policy
from mobile_vla.serving.client import PolicyClient, RemoteError
from mobile_vla.serving.messages import MAX_MESSAGE_BYTES, pack, unpack
from mobile_vla.serving.observations import read_observation
from mobile_vla.serving.server import PolicyServer

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
CAMERAS, SIGNALS = SPEC.camera_names, SPEC.state_names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of two cameras and three signals."""
    root = tmp_path_factory.mktemp("rig")
    ran = run_in(root / "run", *rig("Rig", root, "model.state=all", "evaluation.shortcuts=false"))
    assert ran.exit_code == 0, ran.message
    return ran.folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PolicyServer]:
    with PolicyServer(Policy.load(folder), host="127.0.0.1", port=0) as running:
        yield running


def frames(count: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return images by camera, of different sizes, and states."""
    random = np.random.default_rng(0)
    images = [
        {
            "wrist": random.integers(0, 256, (12, 20, 3), np.uint8),
            "front": random.integers(0, 256, (16, 16, 3), np.uint8),
        }
        for _ in range(count)
    ]
    return images, random.normal(size=(count, 3)).astype(np.float32)


def test_it_answers_over_the_wire_as_it_does_here(folder: Path, server: PolicyServer) -> None:
    policy, (images, states) = Policy.load(folder), frames(5)
    here = [policy.act(views, "go", state=state) for views, state in zip(images, states, strict=True)]

    with PolicyClient(server.url) as robot:
        by_name = [dict(zip(SIGNALS, state.tolist(), strict=True)) for state in states]
        there = [robot.act(views, "go", state=state) for views, state in zip(images, by_name, strict=True)]
        robot.reset()
        again = [robot.act(views, "go", state=state) for views, state in zip(images, states, strict=True)]

    np.testing.assert_array_equal(there, here)
    np.testing.assert_array_equal(again, here)


def test_openpis_robots_send_cameras_and_state_in_their_own_keys(folder: Path, server: PolicyServer) -> None:
    policy, (images, states) = Policy.load(folder), frames(3)
    with connect(server.url, compression=None) as line:
        line.recv()
        for number, (views, state) in enumerate(zip(images, states, strict=True)):
            first = "observation/image" if number % 2 else "observation/front"
            message = {first: views["front"], "observation/wrist": views["wrist"], "observation/state": state}
            line.send(pack({**message, "prompt": "go", "observation/gripper": np.zeros(1)}))
            answer = unpack(line.recv())
            np.testing.assert_array_equal(answer["actions"], policy.act(views, "go", state=state))


def test_the_metadata_says_what_to_send(server: PolicyServer) -> None:
    with PolicyClient(server.url) as robot:
        assert [signal["name"] for signal in robot.metadata["spec"]["state"]] == list(SIGNALS)
        assert [signal["unit"] for signal in robot.metadata["spec"]["state"]] == ["rad"] * 3
        assert [camera["name"] for camera in robot.metadata["spec"]["cameras"]] == list(CAMERAS)
        assert robot.metadata["max_message_bytes"] == 2 * MAX_MESSAGE_BYTES


def test_two_hd_images_fit_and_more_is_refused_before_it_is_sent(server: PolicyServer) -> None:
    hd, state = np.zeros((1080, 1920, 3), np.uint8), [0.0, 0.0, 0.0]
    with PolicyClient(server.url) as robot:
        assert robot.act({"front": hd, "wrist": hd}, "go", state=state).shape == (4, 2)
        with pytest.raises(UserError, match=rf"the server takes {2 * MAX_MESSAGE_BYTES}"):
            robot.act({"front": hd, "wrist": np.zeros((2160, 3840, 3), np.uint8)}, "go", state=state)


def test_what_a_robot_lacks_is_said(server: PolicyServer) -> None:
    (images, *_), (state, *_) = frames(1)
    with PolicyClient(server.url) as robot:
        with pytest.raises(UserError, match="state: missing; expected numbers in the order of 'joint_1', 'joint_2'"):
            robot.act(images, "go")
        with pytest.raises(UserError, match="state: lacks 'joint_3'"):
            robot.act(images, "go", state={"joint_1": 1.0, "joint_2": 1.0})
        with pytest.raises(RemoteError, match="image: lacks 'wrist'; expected 'front', 'wrist'"):
            robot.act({"front": images["front"]}, "go", state=state)
        with pytest.raises(RemoteError, match=r"image: .*; expected one array for each camera by its name"):
            robot.act(images["front"], "go", state=state)
        assert robot.act(images, "go", state=state).shape == (4, 2)


GOOD = {"image": {"front": IMAGE, "wrist": IMAGE}, "instruction": "go", "state": [1.0, 2.0, 3.0]}
OPENPI = {"observation/image": IMAGE, "observation/wrist": IMAGE, "observation/state": [1.0, 2.0, 3.0], "prompt": "go"}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            {key: value for key, value in GOOD.items() if key != "state"},
            "lacks 'state'; expected {'image': {'front': uint8 array [Y, X, 3], 'wrist': uint8 array [Y, X, 3]}, "
            "'instruction': text, 'state': 3 numbers, 'reset': boolean (may be left out)}",
        ),
        (GOOD | {"image": {"front": IMAGE, "wrist": IMAGE / 2}}, "image 'wrist': float64 array [2, 4, 3]"),
        (GOOD | {"image": {"front": IMAGE, "wrist": 1}}, "image 'wrist': int 1; expected"),
        (
            GOOD | {"image": {"front": IMAGE, "wrist": IMAGE, "3": IMAGE}},
            "image: has '3', which this policy does not get",
        ),
        (GOOD | {"state": None}, "state: missing; expected numbers in the order of"),
        (
            GOOD | {"state": "abc"},
            "state: holds what is no number, or lists of different lengths; expected a number for each of",
        ),
        (GOOD | {"state": [[1.0], [2.0]]}, "state: [1, 2, 1] numbers; expected [1, 3]"),
        (
            GOOD | {"state": [1.0, [2.0], 3.0]},
            "state: holds what is no number, or lists of different lengths; expected a number for each of",
        ),
        (GOOD | {"state": {"joint_1": 1.0, "joint_2": [2.0], "joint_3": {}}}, "expected a number for each of"),
        (GOOD | {"state": [1.0, float("inf"), 3.0]}, "state: 'joint_2' is not finite; expected measured numbers"),
        (OPENPI | {"observation/state": [1.0]}, "state: [1, 1] numbers; expected [1, 3]"),
        (
            {"observation/image": IMAGE, "prompt": "go"},
            "lacks 'observation/wrist', lacks 'observation/state'; expected",
        ),
        ({"observation/wrist": IMAGE, "prompt": "go"}, "lacks 'observation/image', lacks 'observation/state'"),
    ],
)
def test_an_observation_of_another_robot_is_refused(message: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as refused:
        read_observation(unpack(pack(message)), cameras=CAMERAS, signals=SIGNALS)
    assert said in str(refused.value)


def test_an_observation_is_put_into_the_order_of_the_spec() -> None:
    message = {
        "image": {"wrist": IMAGE + 1, "front": IMAGE},
        "instruction": "go",
        "state": {"joint_3": 3, "joint_1": 1, "joint_2": np.float32(2)},
    }
    seen = read_observation(unpack(pack(message)), cameras=CAMERAS, signals=SIGNALS)

    assert list(seen.images) == list(CAMERAS)
    np.testing.assert_array_equal(seen.images["wrist"], IMAGE + 1)
    assert seen.state is not None
    assert seen.state.tolist() == [1, 2, 3]


def test_a_camera_called_image_is_that_one() -> None:
    message = {"observation/top": IMAGE, "observation/image": IMAGE + 1, "prompt": "go"}
    seen = read_observation(message, cameras=("top", "image"), signals=())

    np.testing.assert_array_equal(seen.images["image"], IMAGE + 1)
    np.testing.assert_array_equal(seen.images["top"], IMAGE)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3) | st.just(IMAGE),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*CAMERAS, *SIGNALS, "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(key=st.sampled_from(["image", "state"]), value=VALUES, is_openpi=st.booleans())
def test_any_image_and_any_state_is_read_or_refused(key: str, value: object, is_openpi: bool) -> None:
    message = OPENPI | {f"observation/{key}": value} if is_openpi else GOOD | {key: value}
    try:
        seen = read_observation(message, cameras=CAMERAS, signals=SIGNALS)
    except UserError as error:
        assert "expected" in str(error)  # noqa: PT017
    else:
        assert seen.state is not None
        assert np.isfinite(seen.state).all()
        assert [image.shape for image in seen.images.values()] == [IMAGE.shape] * 2
