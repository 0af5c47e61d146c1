"""Robots that speak with openpi's client get chunks, and errors as the text that its ``infer`` raises.

``experiments/openpi_client`` runs the client itself, which needs an older numpy than this package; here are its bytes.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from counting_policy import CountingPolicy, expected_actions, made_image
from websockets.sync.client import ClientConnection, connect

from mobile_vla.serving.messages import pack
from mobile_vla.serving.server import PolicyServer

TOKEN = "correct-horse-battery-staple"

RECORDED = base64.b64decode(
    "hLFvYnNlcnZhdGlvbi9pbWFnZYTEC19fbmRhcnJheV9fw8QEZGF0YcQMAAECAwQFBgcICQoLxAVkdHlwZaN8dTHEBXNoYXBlkwICA7dvYnNlcnZh"
    "dGlvbi93cmlzdF9pbWFnZYTEC19fbmRhcnJheV9fw8QEZGF0YcQDAAAAxAVkdHlwZaN8dTHEBXNoYXBlkwEBA7FvYnNlcnZhdGlvbi9zdGF0ZYTE"
    "C19fbmRhcnJheV9fw8QEZGF0YcQQAAAAAAAAAAAAAAAAAAAAAMQFZHR5cGWjPGY4xAVzaGFwZZECpnByb21wdKJnbw=="
)
"""What openpi-client 0.1.2 packs: an image [2, 2, 3] of 0, 1, 2, ..., a wrist image, a state, the prompt "go"."""


class OpenpiClient:
    """What openpi's ``WebsocketClientPolicy`` does with a connection, step by step."""

    def __init__(self, line: ClientConnection) -> None:
        self._line = line
        self.metadata = msgpack.unpackb(self._line.recv(), object_hook=_unpack_array)

    def infer(self, packed: bytes) -> dict[str, Any]:
        self._line.send(packed)
        response = self._line.recv(timeout=5)
        if isinstance(response, str):
            raise RuntimeError(f"Error in inference server:\n{response}")
        return msgpack.unpackb(response, object_hook=_unpack_array)


def _unpack_array(value: dict[Any, Any]) -> object:
    if b"__ndarray__" in value:
        return np.ndarray(buffer=value[b"data"], dtype=np.dtype(value[b"dtype"]), shape=value[b"shape"])
    return value


@pytest.fixture
def robot() -> Iterator[OpenpiClient]:
    headers = {"Authorization": f"Api-Key {TOKEN}"}
    with (
        PolicyServer(CountingPolicy(), host="127.0.0.1", port=0, token=TOKEN) as server,
        connect(server.url, compression=None, max_size=None, additional_headers=headers) as line,
    ):
        yield OpenpiClient(line)


def seen(value: int, **others: object) -> bytes:
    return pack({"observation/image": made_image(value), "prompt": "go", **others})


def test_the_recorded_bytes_are_answered_with_a_chunk(robot: OpenpiClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = robot.infer(RECORDED)
    np.testing.assert_array_equal(answer["actions"], expected_actions([0], "go"))
    np.testing.assert_array_equal(robot.infer(RECORDED)["actions"], expected_actions([0, 0], "go"))
    assert [signal["name"] for signal in robot.metadata["spec"]["actions"]] == ["linear_x", "angular_z"]
    said = "robot 0 sends 'observation/wrist_image', 'observation/state' as well, which this policy does not use"
    assert caplog.messages.count(said) == 1


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pack({"observation/image": made_image(1)}), "lacks 'prompt'; expected {'observation/image': uint8 array"),
        (pack({"prompt": "go"}), "lacks 'observation/image'"),
        (pack({"images": {"cam_high": made_image(1)}, "state": 1}), "lacks 'image', lacks 'instruction', has the"),
        (pack({"observation/image": made_image(1) / 255, "prompt": "go"}), "observation/image: float64 array"),
        (seen(1, prompt="go" * 5000), "prompt: a text of 10000 characters; expected at most 2000"),
        (seen(1, prompt="break"), "the policy failed (RuntimeError: the wheels came off)"),
        (msgpack.packb([1, 2]), "message: list [1, 2]; expected a map"),
        (RECORDED[:-1], "cannot be read as msgpack"),
        (RECORDED.replace(b"<f8", b"<U8"), "holds an array of dtype '<U8'"),
        (b"", "0 bytes"),
    ],
)
def test_every_error_is_raised_by_infer_and_the_line_lives_on(robot: OpenpiClient, frame: bytes, said: str) -> None:
    robot.infer(seen(1))
    with pytest.raises(RuntimeError) as error:
        robot.infer(frame)
    assert said in str(error.value)
    np.testing.assert_array_equal(robot.infer(seen(2))["actions"], expected_actions([1, 2], "go"))


def test_an_episode_begins_with_the_line_or_with_reset(robot: OpenpiClient) -> None:
    robot.infer(seen(1))
    np.testing.assert_array_equal(robot.infer(seen(2, reset=True))["actions"], expected_actions([2], "go"))
    np.testing.assert_array_equal(robot.infer(seen(3, reset=False))["actions"], expected_actions([2, 3], "go"))
