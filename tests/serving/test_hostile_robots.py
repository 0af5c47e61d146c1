"""Robots that send rubbish, say nothing, never read or come in crowds do not hold up the others."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from counting_policy import CountingPolicy, expected_actions, made_image
from hostile_messages import KINDS, hostile_messages
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mobile_vla.errors import UserError
from mobile_vla.serving import front_door
from mobile_vla.serving import server as serving_server
from mobile_vla.serving.client import PolicyClient
from mobile_vla.serving.messages import pack, unpack
from mobile_vla.serving.server import PolicyServer

LONGEST_WAIT_S = 0.5
"""Of a robot beside a hostile one: what was refused took seconds; two busy test machines' cores explain the rest."""

FRAME = pack({"image": made_image(1), "instruction": "go"})


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as running:
        yield running


def open_line(server: PolicyServer, *, receive_buffer: int | None = None) -> socket.socket:
    """Return a bare TCP connection to ``server``, which has sent nothing yet."""
    line = socket.socket()
    if receive_buffer is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    host, port = server.url.removeprefix("ws://").split(":")
    line.connect((host, int(port)))
    return line


def shake_hands(line: socket.socket) -> None:
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    lines = ["GET / HTTP/1.1", "Host: robot", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}"]
    line.sendall("\r\n".join([*lines, "Sec-WebSocket-Version: 13", "", ""]).encode())
    assert line.recv(12) == b"HTTP/1.1 101"


def send_until_refused(line: socket.socket | ClientConnection, message: Any) -> None:
    """Send ``message`` again and again; returns by an exception only."""
    send = line.sendall if isinstance(line, socket.socket) else line.send
    while True:
        send(message)


def masked(payload: bytes) -> bytes:
    """Return a whole binary websocket frame; its mask is zero, so that the payload stands as it is."""
    return b"\x82\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


def longest_wait_s(server: PolicyServer, until: threading.Event) -> float:
    """Ask as a robot until then; return the longest time that an answer took."""
    longest = 0.0
    with PolicyClient(server.url) as robot:
        while not until.wait(0.005):
            begun = time.perf_counter()
            robot.act(made_image(1), "go", reset=True)
            longest = max(longest, time.perf_counter() - begun)
    return longest


def test_hostile_messages_are_refused_in_words_and_others_do_not_wait(server: PolicyServer) -> None:
    frames = list(hostile_messages(seed=1, count=4 * len(KINDS)))
    done = threading.Event()
    waits: list[float] = []
    other = threading.Thread(target=lambda: waits.append(longest_wait_s(server, done)))
    other.start()
    with connect(server.url, compression=None) as line:
        line.recv()
        for kind, frame in frames:
            line.send(frame)
            answer = line.recv(timeout=5)
            answer = {"error": answer} if isinstance(answer, str) else unpack(answer)
            assert ("error" in answer) != ("actions" in answer), kind
            assert "error" in answer or kind in ("mutilated", "odd keys"), kind
            assert len(answer.get("error", "")) <= 2000, kind
            assert "policy failed" not in answer.get("error", ""), kind
    done.set()
    other.join()
    assert waits[0] < LONGEST_WAIT_S


def test_the_same_seed_makes_the_same_messages() -> None:
    first, again, another = (list(hostile_messages(seed=seed, count=40)) for seed in (3, 3, 4))
    assert first == again != another
    assert {kind for kind, _ in first} == set(KINDS)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            {"image": made_image(1), "instruction": "go" * 10**6},
            "instruction: a text of 2000000 characters; expected at",
        ),
        ({"image": np.zeros((2_000_000, 1, 3), np.uint8), "instruction": "go"}, "image: uint8 array [2000000, 1, 3]; "),
        ({"image": np.zeros((1, 4097, 3), np.uint8), "instruction": "go"}, "expected at most 4096 rows and columns"),
    ],
    ids=["text", "tall", "wide"],
)
def test_what_would_take_long_is_refused_while_the_policy_is_busy(message: dict[str, object], said: str) -> None:
    policy = CountingPolicy(pause_s=1.0)
    with PolicyServer(policy, host="127.0.0.1", port=0) as server, PolicyClient(server.url) as busy:
        thread = threading.Thread(target=busy.act, args=(made_image(1), "go"))
        thread.start()
        while not policy.is_busy:
            time.sleep(0.005)
        with connect(server.url, compression=None) as line:
            line.recv()
            line.send(pack(message))
            assert said in unpack(line.recv(timeout=5))["error"]
            assert policy.is_busy
        thread.join()


def test_a_robot_that_never_reads_is_cut_off(server: PolicyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "_SEND_TIMEOUT_S", 0.3)
    crowd = masked(pack({"image": 1, "instruction": "go"})) * 200
    with PolicyClient(server.url) as other, open_line(server, receive_buffer=4096) as line:
        shake_hands(line)
        line.settimeout(10)
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_until_refused(line, crowd)
        begun = time.perf_counter()
        np.testing.assert_array_equal(other.act(made_image(4), "go"), expected_actions([4], "go"))
        assert time.perf_counter() - begun < LONGEST_WAIT_S
        while server.health()["robots"] > 1:
            time.sleep(0.01)


def test_a_service_stops_although_a_robot_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "_SEND_TIMEOUT_S", 1.0)
    crowd = masked(pack({"image": 1, "instruction": "go"})) * 200
    with (
        PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server,
        open_line(server, receive_buffer=4096) as line,
    ):
        shake_hands(line)
        line.setblocking(False)
        num_blocked = 0
        while num_blocked < 20:
            try:
                line.send(crowd)
                num_blocked = 0
            except BlockingIOError:
                num_blocked += 1
                time.sleep(0.01)
        begun = time.perf_counter()
    assert time.perf_counter() - begun < 5


def test_slow_senders_and_silent_lines_hold_up_nobody(server: PolicyServer) -> None:
    with ExitStack() as lines:
        slow = [lines.enter_context(open_line(server)) for _ in range(20)]
        for number, line in enumerate(slow):
            if number % 2:
                line.sendall(b"GET / HTTP/1.1\r\nHost: ")
            else:
                shake_hands(line)
                line.sendall(masked(FRAME)[: 10 * number + 1])
        begun = time.perf_counter()
        with PolicyClient(server.url) as robot:
            np.testing.assert_array_equal(robot.act(made_image(4), "go"), expected_actions([4], "go"))
        assert time.perf_counter() - begun < LONGEST_WAIT_S


def test_a_crowd_of_silent_lines_is_bounded_and_passes(server: PolicyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "MAX_THREADS", threading.active_count() + 12)
    with PolicyClient(server.url) as robot, ExitStack() as lines:
        for _ in range(60):
            lines.enter_context(open_line(server))
        time.sleep(0.3)
        assert threading.active_count() <= front_door.MAX_THREADS + 1
        np.testing.assert_array_equal(robot.act(made_image(4), "go"), expected_actions([4], "go"))
        lines.close()  # or the server's open_timeout has passed
        with PolicyClient(server.url) as newcomer:
            np.testing.assert_array_equal(newcomer.act(made_image(5), "go"), expected_actions([5], "go"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the lines that it cost
def test_running_out_of_files_passes(server: PolicyServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with PolicyClient(server.url) as robot, ExitStack() as lines, socket.socket() as free:
        crowd = [lines.enter_context(socket.socket()) for _ in range(12)]
        host, port = server.url.removeprefix("ws://").split(":")
        resource.setrlimit(resource.RLIMIT_NOFILE, (free.fileno() + len(crowd) + 6, hard))
        try:
            for line in crowd:
                line.connect((host, int(port)))
            time.sleep(0.3)
            np.testing.assert_array_equal(robot.act(made_image(4), "go"), expected_actions([4], "go"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        lines.close()
        with PolicyClient(server.url) as newcomer:
            np.testing.assert_array_equal(newcomer.act(made_image(5), "go"), expected_actions([5], "go"))


def test_one_robot_too_many_is_turned_away_in_words(server: PolicyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_server, "MAX_ROBOTS", 2)
    with PolicyClient(server.url), PolicyClient(server.url) as second:
        with pytest.raises(UserError, match=r"does not take this robot now \(HTTP 503: 2 robots are connected"):
            PolicyClient(server.url)
        second.close()
        while server.health()["robots"] > 1:
            time.sleep(0.01)
        PolicyClient(server.url).close()


def test_a_message_in_crumbs_ends_that_connection_alone(server: PolicyServer) -> None:
    with PolicyClient(server.url) as other, connect(server.url, compression=None) as line:
        line.recv()
        with pytest.raises(ConnectionClosed):
            send_until_refused(line, [b"\x00"] * 6000)
        np.testing.assert_array_equal(other.act(made_image(4), "go"), expected_actions([4], "go"))


def test_a_page_in_a_browser_is_no_robot(server: PolicyServer) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(server.url, additional_headers={"Origin": "http://127.0.0.1:8000"})
