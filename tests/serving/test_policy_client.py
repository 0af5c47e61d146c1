"""The client is light enough for a robot and says in words what is wrong at the other end."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from counting_policy import CountingPolicy, expected_actions, made_image
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as listen

from mobile_vla.errors import UserError
from mobile_vla.serving.client import (
    AccessRefusedError,
    ConnectionLostError,
    ObservationError,
    PolicyClient,
    PolicyFailedError,
    RemoteError,
    UnreachableError,
)
from mobile_vla.serving.messages import MAX_MESSAGE_BYTES, PROTOCOL_VERSION, pack
from mobile_vla.serving.server import PolicyServer


@contextmanager
def websocket(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    """Run a websocket server that is not ours and yield its address."""
    with listen(handler, "127.0.0.1", 0, close_timeout=0.2) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"


def test_importing_the_client_imports_no_torch() -> None:
    code = "import sys, mobile_vla.serving.client; print([m for m in ('torch', 'h5py', 'mujoco') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=rf"ws://127.0.0.1:{port}: nothing listens there. Start one with `python -m"):
        PolicyClient(f"ws://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1:8000", "ws://", "", "ws://127.0.0.1:http"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UserError, match=r"is no address of a websocket.*ws://HOST:PORT"):
        PolicyClient(url)


def test_an_address_that_cannot_be_reached() -> None:
    with pytest.raises(UserError, match=r"no policy server answers there \(\[Errno"):
        PolicyClient("ws://255.255.255.255:8000")


def test_a_silent_port_times_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UserError, match=r"no answer within 0\.2 s"),
    ):
        PolicyClient(f"ws://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)


def test_an_http_server_is_none_of_ours() -> None:
    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_error(404, "no page")

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.handle_request).start()
        with pytest.raises(UserError, match=r"answers, but not as a policy server does \(HTTP 404"):
            PolicyClient(f"ws://127.0.0.1:{server.server_port}")


def test_a_port_that_speaks_no_http() -> None:
    def greet() -> None:
        line, _ = server.accept()
        with line:
            line.recv(4096)
            line.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(UserError, match="no policy server answers there"):
            PolicyClient(f"ws://127.0.0.1:{server.getsockname()[1]}", timeout_s=2)
        thread.join()


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (pack({}), "no policy server of mobile_vla"),
        (pack([1]), "no policy server of mobile_vla"),
        (b"\xc1", "cannot be read as msgpack"),
        ("hello", "is text; expected a binary message"),
        (pack({"server": "mobile_vla", "protocol": PROTOCOL_VERSION + 1}), "speaks protocol 2, this client 1"),
    ],
    ids=["openpi", "list", "bytes", "text", "newer"],
)
def test_a_websocket_that_is_none_of_ours(greeting: bytes | str, said: str) -> None:
    with websocket(lambda line: line.send(greeting)) as url, pytest.raises(UserError, match=said):
        PolicyClient(url)


def test_a_websocket_that_hangs_up_or_says_nothing() -> None:
    with websocket(lambda line: line.close()) as url, pytest.raises(UserError, match="no policy server of mobile_vla"):
        PolicyClient(url)
    with (
        websocket(lambda line: threading.Event().wait(0.5) and None) as url,
        pytest.raises(UserError, match=r"no policy server of mobile_vla \(timed out in 0\.1s\)"),
    ):
        PolicyClient(url, timeout_s=0.1)


def test_a_late_answer_is_never_taken_for_the_next() -> None:
    with PolicyServer(CountingPolicy(pause_s=1.0), host="127.0.0.1", port=0) as server:
        with PolicyClient(server.url, timeout_s=0.5) as client:
            with pytest.raises(UserError, match=r"no answer within 0\.5 s.*Stop the robot"):
                client.act(made_image(1), "go")
            with pytest.raises(UserError, match=r"connection is closed.*open a new PolicyClient"):
                client.act(made_image(2), "go")
        assert server.health()["status"] == "ok"


def test_too_large_an_image_is_refused_before_it_is_sent() -> None:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server, PolicyClient(server.url) as client:
        with pytest.raises(UserError, match=rf"takes {MAX_MESSAGE_BYTES}, .*the policy sees 16 rows of 16 anyway"):
            client.act(np.zeros((2160, 3840, 3), np.uint8), "go")
        assert client.act(made_image(1), "go").shape == (3, 2)


def test_the_actions_are_the_robots_own() -> None:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server, PolicyClient(server.url) as client:
        actions = client.act(made_image(1), "go")
        actions *= 0.5  # a view of the message would be read-only
        assert client.server_timing.keys() == {"queue_ms", "infer_ms"}


def test_the_servers_words_arrive() -> None:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server, PolicyClient(server.url) as client:
        assert client.latency_ms is None
        with pytest.raises(RemoteError, match=r"image: float64 array \[4, 6, 3\]; expected a uint8 array \[Y, X, 3\]"):
            client.act(made_image(1) / 255, "go")
        with pytest.raises(UserError, match="a object cannot be sent"):
            client.act(object(), "go")  # pyright: ignore[reportArgumentType]


def test_an_episode_that_was_to_begin_with_a_refused_image_begins_with_the_next() -> None:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server, PolicyClient(server.url) as client:
        client.act(made_image(1), "go")
        with pytest.raises(RemoteError):
            client.act(made_image(2).astype(float), "go", reset=True)  # pyright: ignore[reportArgumentType]
        np.testing.assert_array_equal(client.act(made_image(3), "go"), expected_actions([3], "go"))


@pytest.mark.parametrize(
    ("image", "instruction", "state", "said"),
    [
        (made_image(1) / 255, "go", None, r"image: float64 array .*; expected a uint8 array \[Y, X, 3\]"),
        ({"wrist": made_image(1)}, "go", None, "image: lacks 'camera'; expected 'camera'"),
        (made_image(1), 7, None, "instruction: int 7; expected a text"),
        (made_image(1), "go", [0.5], "state: given, and this policy gets none; leave it out"),
        (object(), "go", None, "a object cannot be sent; expected texts, numbers, lists, dicts or numpy arrays"),
        (np.zeros((2160, 3840, 3), np.uint8), "go", None, "the server takes .* Send smaller images"),
    ],
)
def test_what_the_robot_sends_wrongly_is_one_kind_of_error_whoever_finds_it(
    image: object, instruction: object, state: object, said: str
) -> None:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server, PolicyClient(server.url) as client:
        with pytest.raises(ObservationError, match=said):
            client.act(image, instruction, state=state)  # pyright: ignore[reportArgumentType]
        assert client.act(made_image(2), "go")[0].tolist() == expected_actions([2], "go")[0].tolist()


def test_a_failing_policy_a_lost_connection_and_a_refusal_are_told_apart() -> None:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0, token="a" * 32) as server:
        with pytest.raises(AccessRefusedError, match="does not let this robot in"):
            PolicyClient(server.url, token="b" * 32)
        with PolicyClient(server.url, token="a" * 32) as client, pytest.raises(PolicyFailedError, match="wheels"):
            client.act(made_image(1), "break")
    with pytest.raises(ConnectionLostError, match="open a new PolicyClient"):
        client.act(made_image(1), "go")
    with pytest.raises(UnreachableError, match="nothing listens there"):
        PolicyClient(server.url)


def test_the_error_of_a_server_that_says_no_kind_is_a_remote_one() -> None:
    def answer(line: ServerConnection) -> None:
        with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server, PolicyClient(server.url) as client:
            line.send(pack(client.metadata))
        line.recv()
        line.send(pack({"error": "no"}))

    with websocket(answer) as url, PolicyClient(url) as client, pytest.raises(RemoteError, match="no") as found:
        client.act(made_image(1), "go")
    assert found.type is RemoteError
