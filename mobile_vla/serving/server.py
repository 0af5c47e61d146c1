"""The policy server: observations in and chunks of actions out over websockets, with one robot per connection."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from mobile_vla.errors import UserError
from mobile_vla.policy.description import PolicyDescription
from mobile_vla.serving.access import check_access, check_token, refusal
from mobile_vla.serving.errors import OBSERVATION, POLICY
from mobile_vla.serving.figures import Figures
from mobile_vla.serving.front_door import listen, open_door
from mobile_vla.serving.messages import (
    MAX_IMAGE_SIDE,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_CHARACTERS,
    PROTOCOL_VERSION,
    SERVER_NAME,
    pack,
    unpack,
)
from mobile_vla.serving.observations import Observation, is_in_own_keys, read_observation

HEALTH_PATH = "/healthz"

MAX_ROBOTS = 64
"""Limit for robots connected at the same time."""

_LOG = logging.getLogger(__name__)


class ServedPolicy(Protocol):
    """The part of ``mobile_vla.Policy`` that the server uses; see there."""

    @property
    def description(self) -> PolicyDescription: ...

    def act(
        self,
        image: Mapping[str, NDArray[np.uint8]],
        instruction: str,
        *,
        state: NDArray[np.float32] | None,
        robots: Sequence[Hashable],
    ) -> NDArray[np.float32]: ...

    def reset(self, robots: Sequence[Hashable]) -> None: ...


def serve(policy: ServedPolicy, *, host: str, port: int, token: str | None = None) -> None:
    """Answer robots until SIGINT or SIGTERM, then print the latency figures. Call it from the main thread.

    Raises ``UserError`` if it cannot listen on ``host`` and ``port``, or if other machines can reach ``host`` and there
    is no ``token``.
    """
    # Shells start background jobs with SIGINT ignored, and the default for SIGTERM would end the process without
    # closing the robots' connections.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    server = PolicyServer(policy, host=host, port=port, token=token)
    try:
        with server:
            print(f"serving at {server.url}, health at {server.health_url}; Ctrl-C stops it", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print(f"stopped: {server.in_words()}", flush=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class PolicyServer:
    """A server that answers robots from its own threads while a ``with`` block runs.

    The server sends its metadata when a robot connects. It answers each message (``observations.Observation``) with
    ``actions`` float32 [K, A] in physical units, ``action_names`` and ``server_timing`` (ms spent waiting for other
    robots and in the policy), or with ``error``, a text, and its ``kind`` (see ``errors``; bare text for openpi's
    clients, see ``observations``).
    A message that is refused as malformed does not change the history. The history of frames begins and ends with the
    connection. ``port`` 0 takes any free port.

    With a ``token``, only robots that send it are accepted; without one, ``host`` must be a loopback address. Web pages
    in a browser are always refused, by their header ``Origin``, because they can reach a loopback address as well.

    A robot cannot block the others: messages are read, checked and sent in the robot's own thread; a message has limits
    in bytes, image sides, characters and items; at most ``MAX_ROBOTS`` are connected; and a connection that sends no
    request or does not read its answers is closed.
    """

    def __init__(self, policy: ServedPolicy, *, host: str, port: int, token: str | None = None) -> None:
        self._policy = policy
        self._policy_lock = threading.Lock()
        self._host, self._port = host, port
        self._token = None if token is None else check_token(token, place="token")
        self._address = check_access(host=host, token=token)
        self._spec = policy.description.spec
        self._max_message_bytes = MAX_MESSAGE_BYTES * len(self._spec.cameras)
        self._metadata = pack(_public_facts(policy.description))
        self._numbers = itertools.count()
        self._figures = Figures()
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        self._server = listen(
            self._serve_robot,
            self._answer_http,
            open_door(self._address, self._host, self._port),
            max_message_bytes=self._max_message_bytes,
        )
        self._port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="policy-server")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(reason="the policy server was stopped")
        self._thread.join()

    @property
    def url(self) -> str:
        """The address to which robots connect."""
        return f"ws://{self._place}"

    @property
    def health_url(self) -> str:
        """The address at which a GET returns ``health()`` as JSON."""
        return f"http://{self._place}{HEALTH_PATH}"

    @property
    def _place(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def health(self) -> dict[str, Any]:
        """Return ``status``, ``robots`` connected now, ``requests`` and ``errors`` so far, and ``latency_ms``.

        The latency (``median``, ``p95``, ``max`` of the newest ``NUM_LATENCIES`` answers, None before the first) is the
        time from the arrival of a complete message until its answer is ready. It includes waiting for other robots, but
        not the network.
        """
        return {"status": "ok", **self._figures.as_dict()}

    def in_words(self) -> str:
        """Return ``health()`` as one line of text."""
        health = self.health()
        said = f"{health['requests']} requests, {health['errors']} of them refused or failed"
        if latency := health["latency_ms"]:
            said += "; latency " + ", ".join(f"{name} {value:.1f} ms" for name, value in latency.items())
        return said

    def _serve_robot(self, connection: ServerConnection) -> None:
        robot = f"robot {next(self._numbers)}"  # a new key for the policy, whose histories are kept by robot
        _LOG.info("%s connected from %s", robot, _peer(connection))
        self._figures.robot_came()
        try:
            connection.send(self._metadata)
            for frame in connection:
                connection.send(self._answer(robot, frame))
            _LOG.info("%s left", robot)
        except ConnectionClosed as error:
            _LOG.warning("%s was cut off: %s", robot, error)
        finally:
            self._figures.robot_went()
            self._told.discard(robot)
            with self._policy_lock:
                self._policy.reset([robot])

    def _answer(self, robot: str, frame: bytes | str) -> bytes | str:
        begun = perf_counter()
        is_own = False
        try:
            message = unpack(frame)
            is_own = is_in_own_keys(message)
            observation = read_observation(message, cameras=self._spec.camera_names, signals=self._spec.state_names)
            self._say_unused(robot, observation.unused)
            answer = pack(self._act(robot, observation))
        except UserError as error:
            _LOG.warning("%s was refused: %s", robot, error)
            problem, kind = str(error), OBSERVATION
        except Exception as error:  # a failure at one robot's message must not end the service for the others
            _LOG.exception("%s got no answer", robot)
            problem = f"the policy failed ({type(error).__name__}: {error}); the server's log has the details"
            kind = POLICY
        else:
            self._figures.answered(latency_ms=1000 * (perf_counter() - begun))
            return answer
        self._figures.refused()
        problem = problem[:MAX_TEXT_CHARACTERS]
        return pack({"error": problem, "kind": kind}) if is_own else problem

    def _say_unused(self, robot: str, keys: Sequence[str]) -> None:
        if keys and robot not in self._told:
            self._told.add(robot)
            _LOG.info(
                "%s sends %s as well, which this policy does not use", robot, ", ".join(f"{key[:60]!r}" for key in keys)
            )

    def _act(self, robot: str, observation: Observation) -> dict[str, Any]:
        waiting = perf_counter()
        # One thread at a time may use the policy.
        with self._policy_lock:
            begun = perf_counter()
            if observation.reset:
                self._policy.reset([robot])
            actions_KA = self._policy.act(
                observation.images, observation.instruction, state=observation.state, robots=[robot]
            )
            done = perf_counter()
        timing = {"queue_ms": 1000 * (begun - waiting), "infer_ms": 1000 * (done - begun)}
        return {"actions": actions_KA, "action_names": self._spec.action_names, "server_timing": timing}

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to a health probe or a refusal; None continues with the websocket's handshake.

        Health needs no token: it contains only counts and times, and monitoring probes cannot send one.
        """
        path = request.path.partition("?")[0]
        if path == "/":
            return self._refuse(connection, request)
        if path == HEALTH_PATH:
            response = connection.respond(HTTPStatus.OK, json.dumps(self.health()) + "\n")
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            return response
        return connection.respond(
            HTTPStatus.NOT_FOUND, f"no such path; robots connect to {self.url}, health is at {HEALTH_PATH}\n"
        )

    def _refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the refusal of a robot without the token, or beyond ``MAX_ROBOTS``; None if it is accepted."""
        if self._token is not None:
            reason = refusal(request.headers.get_all("Authorization"), token=self._token)
            if reason is not None:
                _LOG.warning("a robot at %s was refused: %s", _peer(connection), reason)
                response = connection.respond(HTTPStatus.UNAUTHORIZED, f"{reason}\n")
                response.headers["WWW-Authenticate"] = "Bearer"
                return response
        if self._figures.num_robots >= MAX_ROBOTS:
            _LOG.warning("a robot at %s was refused: %d are connected", _peer(connection), MAX_ROBOTS)
            return connection.respond(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_ROBOTS} robots are connected, and no more are taken\n"
            )
        return None


def _public_facts(description: PolicyDescription) -> dict[str, Any]:
    return {
        "server": SERVER_NAME,
        "protocol": PROTOCOL_VERSION,
        "spec": description.spec.to_json(),
        "window_size": description.window_size,
        "fwd_pred_next_n": description.fwd_pred_next_n,
        "image": asdict(description.image),
        "instructions": [text for text in description.instructions if len(text) <= MAX_TEXT_CHARACTERS],
        "max_message_bytes": MAX_MESSAGE_BYTES * len(description.spec.cameras),
        "max_image_side": MAX_IMAGE_SIDE,
        "max_text_characters": MAX_TEXT_CHARACTERS,
    }


def _peer(connection: ServerConnection) -> str:
    try:
        return str(connection.remote_address[0])
    except OSError:
        return "an address that has hung up"
