"""A real server on a real socket: histories stay apart, bad input is refused in words, and nothing brings it down."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting_policy import DESCRIPTION, CountingPolicy, expected_actions, made_image
from made_batches import NUM_HISTORY, NUM_PREDICTED, make_model
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mobile_vla.errors import UserError
from mobile_vla.policy.digests import seal
from mobile_vla.policy.policy import Policy
from mobile_vla.policy.weights import save_weights
from mobile_vla.serving.client import PolicyClient, RemoteError
from mobile_vla.serving.messages import MAX_MESSAGE_BYTES, pack, unpack
from mobile_vla.serving.server import PolicyServer, serve


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer(CountingPolicy(pause_s=0.0005), host="127.0.0.1", port=0) as running:
        yield running


def get(server: PolicyServer, path: str, **headers: str) -> tuple[int, str, str]:
    """Return status, content type and body of an HTTP request."""
    host, port = server.url.removeprefix("ws://").split(":")
    line = http.client.HTTPConnection(host, int(port), timeout=5)
    line.request("GET", path, headers=headers)
    response = line.getresponse()
    return response.status, response.headers["Content-Type"], response.read().decode()


def health(server: PolicyServer) -> dict[str, Any]:
    status, content_type, body = get(server, "/healthz")
    assert (status, content_type) == (200, "application/json")
    return json.loads(body)


def drive(url: str, frames: list[int], instruction: str) -> list[np.ndarray]:
    with PolicyClient(url, timeout_s=5) as client:
        return [client.act(made_image(frame), instruction) for frame in frames]


def test_the_metadata_says_what_a_robot_needs_and_no_more(server: PolicyServer) -> None:
    with PolicyClient(server.url) as client:
        assert client.metadata == {
            "server": "mobile_vla",
            "protocol": 1,
            "spec": json.loads(json.dumps(DESCRIPTION.spec.to_json())),  # lists, where the spec has tuples
            "window_size": 8,
            "fwd_pred_next_n": 3,
            "image": {"size": [16, 16], "resize": "direct", "channel_order": "rgb"},
            "instructions": ["go"],
            "max_message_bytes": MAX_MESSAGE_BYTES,
            "max_image_side": 4096,
            "max_text_characters": 2000,
        }


def test_an_answer_holds_actions_names_and_timing(server: PolicyServer) -> None:
    with connect(server.url) as line:
        line.recv()
        line.send(pack({"image": made_image(7), "instruction": "go"}))
        answer = unpack(line.recv())
    assert answer.keys() == {"actions", "action_names", "server_timing"}
    assert answer["actions"].dtype == np.float32
    assert answer["action_names"] == ["linear_x", "angular_z"]
    assert answer["server_timing"]["infer_ms"] >= 0.5
    assert answer["server_timing"]["queue_ms"] >= 0


def test_robots_at_once_get_what_each_gets_alone(server: PolicyServer) -> None:
    drives = [([(17 * robot + 3 * step) % 256 for step in range(12)], "go" * robot) for robot in range(6)]
    with ThreadPoolExecutor(len(drives)) as pool:
        answers = list(pool.map(lambda drive_: drive(server.url, *drive_), drives))
    for (frames, instruction), actions in zip(drives, answers, strict=True):
        for step, chunk in enumerate(actions):
            np.testing.assert_array_equal(chunk, expected_actions(frames[: step + 1], instruction))


def test_a_robot_that_comes_back_starts_anew_and_nothing_of_it_stays() -> None:
    policy = CountingPolicy()
    with PolicyServer(policy, host="127.0.0.1", port=0) as server:
        first, again = (drive(server.url, [1, 2, 3], "go") for _ in range(2))
        np.testing.assert_array_equal(first, again)
    assert policy.seen == {}


def test_reset_begins_a_history(server: PolicyServer) -> None:
    with PolicyClient(server.url) as client:
        client.act(made_image(1), "go")
        client.reset()
        np.testing.assert_array_equal(client.act(made_image(2), "go"), expected_actions([2], "go"))
        np.testing.assert_array_equal(client.act(made_image(3), "go"), expected_actions([2, 3], "go"))
        np.testing.assert_array_equal(client.act(made_image(4), "go", reset=True), expected_actions([4], "go"))
        client.reset()
        with pytest.raises(RemoteError):
            client.act(made_image(5)[0], "go")
        np.testing.assert_array_equal(client.act(made_image(6), "go"), expected_actions([6], "go"))


BAD_FRAMES: dict[str, bytes | str] = {
    "text": "hello",
    "no msgpack": b"\xc1",
    "cut off": pack({"image": made_image(1), "instruction": "go"})[:-3],
    "too much": pack({}) + b"\x00",
    "empty": b"",
    "no map": pack([1, 2]),
    "no image": pack({"instruction": "go"}),
    "no instruction": pack({"image": made_image(1)}),
    "unknown key": pack({"image": made_image(1), "instruction": "go", "state": [0.0]}),
    "floats": pack({"image": made_image(1) / 255, "instruction": "go"}),
    "grey": pack({"image": made_image(1)[..., 0], "instruction": "go"}),
    "no pixels": pack({"image": made_image(1)[:0], "instruction": "go"}),
    "bytes": pack({"image": made_image(1).tobytes(), "instruction": "go"}),
    "number": pack({"image": made_image(1), "instruction": 3}),
    "reset with a bad image": pack({"image": made_image(1)[0], "instruction": "go", "reset": True}),
    "objects": pack({"image": made_image(1), "instruction": "go"}).replace(b"|u1", b"|O8"),
}


WITHOUT_OUR_KEYS = {"text", "no msgpack", "cut off", "too much", "empty", "no map", "objects"}


def test_bad_input_is_refused_in_words_and_harms_no_history(server: PolicyServer) -> None:
    with connect(server.url) as line:
        line.recv()
        seen = []
        for step, (name, frame) in enumerate(BAD_FRAMES.items()):
            line.send(frame)
            refused = line.recv()
            assert isinstance(refused, str) == (name in WITHOUT_OUR_KEYS), name
            words = refused if isinstance(refused, str) else unpack(refused)["error"]
            assert "expected" in words, name
            line.send(pack({"image": made_image(step), "instruction": "go"}))
            seen.append(step)
            np.testing.assert_array_equal(unpack(line.recv())["actions"], expected_actions(seen, "go"), name)
    assert server.health()["errors"] == len(BAD_FRAMES)


def test_a_failing_policy_is_logged_and_serves_on(server: PolicyServer, caplog: pytest.LogCaptureFixture) -> None:
    with PolicyClient(server.url) as client, PolicyClient(server.url) as other:
        client.act(made_image(1), "go")
        with pytest.raises(RemoteError, match=r"policy failed \(RuntimeError: the wheels came off\)"):
            client.act(made_image(2), "break")
        np.testing.assert_array_equal(client.act(made_image(3), "go"), expected_actions([1, 3], "go"))
        np.testing.assert_array_equal(other.act(made_image(4), "go"), expected_actions([4], "go"))
    assert any(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)


def test_a_message_over_the_limit_ends_that_connection_alone(server: PolicyServer) -> None:
    with PolicyClient(server.url) as other, connect(server.url) as line:
        line.recv()
        line.send(bytes(MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed, match=rf"1009.*exceeds limit of {MAX_MESSAGE_BYTES} bytes"):
            line.recv(timeout=5)
        np.testing.assert_array_equal(other.act(made_image(4), "go"), expected_actions([4], "go"))


def test_a_hd_image_is_taken(server: PolicyServer) -> None:
    with PolicyClient(server.url) as client:
        image = made_image(9, rows=1080, columns=1920)
        np.testing.assert_array_equal(client.act(image, "go"), expected_actions([9], "go"))


def test_health_counts_robots_requests_errors_and_latency(server: PolicyServer) -> None:
    assert health(server) == {"status": "ok", "robots": 0, "requests": 0, "errors": 0, "latency_ms": None}
    with PolicyClient(server.url) as client, PolicyClient(server.url):
        for _ in range(3):
            client.act(made_image(1), "go")
        with pytest.raises(RemoteError):
            client.act(made_image(1)[0], "go")
        told = health(server)
        assert {key: told[key] for key in ("robots", "requests", "errors")} == {"robots": 2, "requests": 4, "errors": 1}
        assert 0.5 <= told["latency_ms"]["median"] <= told["latency_ms"]["p95"] <= told["latency_ms"]["max"]
        client_ms = client.latency_ms
        assert client_ms is not None
        assert client_ms["max"] >= told["latency_ms"]["median"]


def test_health_answers_while_the_policy_thinks() -> None:
    policy = CountingPolicy(pause_s=1.0)
    with PolicyServer(policy, host="127.0.0.1", port=0) as server, PolicyClient(server.url) as client:
        thread = threading.Thread(target=client.act, args=(made_image(1), "go"))
        thread.start()
        while not policy.is_busy:
            threading.Event().wait(0.005)
        assert health(server)["requests"] == 0
        assert policy.is_busy
        thread.join()


def test_other_paths_say_where_to_go(server: PolicyServer) -> None:
    status, _, body = get(server, "/metrics")
    assert status == 404
    assert server.url in body
    assert "/healthz" in body
    assert get(server, "/")[0] == 426
    with pytest.raises(UserError, match=r"HTTP 404: no such path; robots connect to ws://127"):
        PolicyClient(f"{server.url}/policy")


def test_a_taken_port_is_a_message(server: PolicyServer) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=rf"host=127\.0\.0\.1, port={port}: cannot listen there .*free port"):
        serve(CountingPolicy(), host="127.0.0.1", port=port)
    with pytest.raises(UserError, match="port=70000: cannot listen there"):
        serve(CountingPolicy(), host="127.0.0.1", port=70000)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_service_says_goodbye_and_its_latency(stop: signal.Signals) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from counting_policy import CountingPolicy\n"
        "from mobile_vla.serving.server import serve\n"
        "serve(CountingPolicy(), host='127.0.0.1', port=0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].rstrip(",")
        with PolicyClient(url) as client:
            client.act(made_image(1), "go")
            process.send_signal(stop)
            rest = process.stdout.read()
            with pytest.raises(UserError, match="the policy server was stopped"):
                client.act(made_image(2), "go")
        assert process.wait(timeout=5) == 0
    assert "stopped: 1 requests, 0 of them refused or failed; latency median " in rest


def test_a_checkpoint_answers_over_the_wire_as_it_does_here(tmp_path: Path) -> None:
    model = make_model(seed=2)
    description = {
        "model": {
            "_target_": "mobile_vla.policy.model.Model",
            "backbone": {
                "_target_": "mobile_vla.policy.backbones.compact.CompactBackbone",
                "_partial_": True,
                "channels": [4, 4, 4],
                "feature_dim": 8,
                "vocabulary_size": 64,
                "camera_towers": "shared",
            },
            "head": {
                "_target_": "mobile_vla.policy.heads.regression.RegressionHead",
                "_partial_": True,
                "history": {
                    "_target_": "mobile_vla.policy.history.lstm.LstmHistory",
                    "_partial_": True,
                    "hidden_dim": 8,
                    "num_layers": 1,
                },
                "loss": "mse",
            },
            "state": "none",
            "state_dim": 8,
            "normalization": "mean_std",
        },
        "spec": DESCRIPTION.spec.to_json(),
        "window_size": NUM_HISTORY,
        "fwd_pred_next_n": NUM_PREDICTED,
        "padding": "both",
        "image": {"size": [16, 16], "resize": "letterbox", "channel_order": "bgr"},
        "instructions": [],
        "world": None,
    }
    save_weights(model, tmp_path)
    (tmp_path / "policy.json").write_text(json.dumps(description))
    seal(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 20, 30, 3), np.uint8)
    policy = Policy.load(tmp_path)
    here = [[policy.act(image, f"go to {robot}", robots=[robot]) for image in images[robot]] for robot in range(3)]

    def drive_one(robot: int) -> list[np.ndarray]:
        with PolicyClient(server.url) as client:
            return [client.act(image, f"go to {robot}") for image in images[robot]]

    with PolicyServer(Policy.load(tmp_path), host="127.0.0.1", port=0) as server, ThreadPoolExecutor(3) as pool:
        there = list(pool.map(drive_one, range(3)))
    np.testing.assert_array_equal(there, here)
    assert np.unique(np.asarray(here)[:, :, 0, 0]).size == 18, "else nothing was shown: this policy ignores its images"
