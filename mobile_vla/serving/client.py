"""The client of a policy server. It runs on the robot, so it needs numpy, msgpack and websockets but no torch."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from http import HTTPStatus
from time import perf_counter
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect

from mobile_vla.errors import UserError
from mobile_vla.policy.observation import Images, State, by_camera, state_of_robot
from mobile_vla.serving.access import TOKEN_VARIABLE, authorization, check_token, read_token
from mobile_vla.serving.errors import (
    AccessRefusedError,
    ConnectionLostError,
    ObservationError,
    PolicyFailedError,
    RemoteError,
    UnreachableError,
    remote_error,
)
from mobile_vla.serving.messages import (
    MAX_MESSAGE_BYTES,
    NUM_LATENCIES,
    PROTOCOL_VERSION,
    SERVER_NAME,
    pack,
    summarise_ms,
    unpack,
)

__all__ = [
    "AccessRefusedError",
    "ConnectionLostError",
    "ObservationError",
    "PolicyClient",
    "PolicyFailedError",
    "RemoteError",
    "UnreachableError",
]

_CLOSE_TIMEOUT_S = 1.0
_TRANSPORT_LOG = logging.getLogger(f"{__name__}.transport")
_TRANSPORT_LOG.setLevel(logging.WARNING)  # at DEBUG it logs the header that contains the token
_WHAT_TO_DO = "Start one with `python -m mobile_vla serve RUN` and give the address that it prints, ws://HOST:PORT."


class PolicyClient:
    """One robot's connection to a policy server; use it in a ``with`` block and from one thread.

    ``metadata`` holds the policy's ``spec`` (its ``actions`` and ``state``, lists of signals with name, unit and kind,
    its ``cameras`` and ``rate_hz``), ``window_size``, ``fwd_pred_next_n``, ``image`` (size, resize and channel order of
    the training images), ``instructions`` from the training data, and the limits ``max_message_bytes``,
    ``max_image_side`` and ``max_text_characters``. ``server_timing`` is the time that the newest
    answer took on the server, in ms. ``token`` is the token that the server requires, by default that in the
    environment (``MOBILE_VLA_TOKEN``). ``timeout_s`` limits the time for connecting and for each answer. Raises
    ``UnreachableError`` if no policy server of this protocol answers at ``url``, ``AccessRefusedError`` if it does not
    take this robot, and ``UserError`` if ``url`` or ``token`` cannot be used. All are kinds of ``UserError``.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        _check_url(url)
        token = read_token(None) if token is None else check_token(token, place="token")
        self.url = url
        self.server_timing: dict[str, float] = {}
        self._timeout_s = timeout_s
        self._begins_episode = False
        self._latencies_ms: deque[float] = deque(maxlen=NUM_LATENCIES)
        self._line = ExitStack()
        self._connection = _connect(self._line, url, token, timeout_s)
        try:
            self.metadata = _receive_metadata(self._connection, url, timeout_s)
        except UserError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the server drops this robot's frames."""
        self._line.close()

    def reset(self) -> None:
        """Begin an episode: the next ``act`` starts a new history of frames. Nothing is sent before that."""
        self._begins_episode = True

    def act(
        self, image: Images, instruction: str, *, state: State | None = None, reset: bool = False
    ) -> NDArray[np.float32]:
        """Send the newest ``image`` [Y, X, 3] uint8 and return the next actions, float32 [K, A].

        ``image`` has the channel order of the training files and any size; for a policy that sees several cameras it is
        a dict with one array for each, by its name. ``state`` is needed by a policy with state and by no other: numbers
        in the order and the units of ``metadata["spec"]["state"]``, or a dict with one for each signal, by its name.
        ``reset`` begins an episode with this image. Raises ``ObservationError`` if image, state or instruction are not
        what the policy gets, ``PolicyFailedError`` if the policy failed on them, and ``ConnectionLostError`` if no
        answer comes: then open a new client.
        """
        message = self._observation(image, instruction, state, reset=reset)
        sent = perf_counter()
        answer = self._exchange(message)
        if "error" in answer:
            raise remote_error(answer["error"], answer.get("kind"))
        self._latencies_ms.append(1000 * (perf_counter() - sent))
        self._begins_episode = False
        self.server_timing = answer["server_timing"]
        return answer["actions"].copy()  # decoded arrays are read-only views of the message

    def _observation(self, image: Images, instruction: str, state: State | None, *, reset: bool) -> bytes:
        """Return the message to send; raise ``ObservationError`` where the metadata show that it would be refused."""
        spec = self.metadata["spec"]
        signals, cameras = ([entry["name"] for entry in spec[part]] for part in ("state", "cameras"))
        if reset:
            self.reset()  # stays set until the server accepts an image, so that a refused first image loses no reset
        images = dict(image) if isinstance(image, Mapping) else image
        observation = {"image": images, "instruction": instruction, "reset": self._begins_episode}
        try:
            measured = state_of_robot(state, signals)
            by_camera(images, cameras)  # only its check: the server takes a single image of the only camera as it is
            message = pack(observation if measured is None else {**observation, "state": measured})
        except UserError as error:
            raise ObservationError(str(error)) from error
        limit = self.metadata["max_message_bytes"]
        if len(message) > limit:
            size = self.metadata["image"]["size"]
            raise ObservationError(
                f"image: makes, with its instruction, a message of {len(message)} bytes; the server takes {limit}, "
                f"enough for 1920 x 1080 pixels. Send smaller images: the policy sees {size[0]} rows of {size[1]} "
                "anyway."
            )
        return message

    @property
    def latency_ms(self) -> dict[str, float] | None:
        """Round-trip times of the newest answers: ``median``, ``p95`` and ``max`` in ms; None before the first."""
        return summarise_ms(self._latencies_ms)

    def _exchange(self, message: bytes) -> dict[str, Any]:
        try:
            self._connection.send(message)
            answer = self._connection.recv(self._timeout_s)
            return {"error": answer} if isinstance(answer, str) else unpack(answer)
        except TimeoutError as error:
            self.close()  # else a late answer would be taken for the answer to the next image
            raise ConnectionLostError(
                f"{self.url}: no answer within {self._timeout_s:g} s, so the connection was closed. Stop the robot and "
                "open a new PolicyClient, with a larger timeout_s if the policy is slow."
            ) from error
        except ConnectionClosed as error:
            raise ConnectionLostError(
                f"{self.url}: the connection is closed ({error}). Stop the robot and open a new PolicyClient."
            ) from error


def _check_url(url: str) -> None:
    """Raise ``UserError`` if an address may contain a secret, before it is printed in any other message."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{url}: is no address of a websocket. {_WHAT_TO_DO}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            "url: holds a user name, a password or a query; expected ws://HOST:PORT alone. Give a token as "
            f"PolicyClient(url, token=...) or in {TOKEN_VARIABLE}."
        )


def _connect(line: ExitStack, url: str, token: str | None, timeout_s: float) -> ClientConnection:
    try:
        return line.enter_context(
            connect(
                url,
                additional_headers=None if token is None else {"Authorization": authorization(token)},
                open_timeout=timeout_s,
                close_timeout=_CLOSE_TIMEOUT_S,
                compression=None,  # as in the server: camera images hardly shrink
                max_size=MAX_MESSAGE_BYTES,
                logger=_TRANSPORT_LOG,
                proxy=None,  # the server is on the robot's own network
            )
        )
    except (InvalidURI, ValueError) as error:
        raise UnreachableError(f"{url}: is no address of a websocket. {_WHAT_TO_DO}") from error
    except InvalidStatus as error:
        raise _refused(url, error.response) from error
    except ConnectionRefusedError as error:
        raise UnreachableError(f"{url}: nothing listens there. {_WHAT_TO_DO}") from error
    except TimeoutError as error:
        raise UnreachableError(f"{url}: no answer within {timeout_s:g} s. {_WHAT_TO_DO}") from error
    except (OSError, WebSocketException) as error:
        raise UnreachableError(f"{url}: no policy server answers there ({error}). {_WHAT_TO_DO}") from error


def _refused(url: str, response: Response) -> AccessRefusedError | UnreachableError:
    status, said = response.status_code, (response.body or b"").decode(errors="replace").strip()[:200]
    if status == HTTPStatus.UNAUTHORIZED:
        return AccessRefusedError(
            f"{url}: does not let this robot in (HTTP {status}: {said}). Give the server's token as "
            f"PolicyClient(url, token=...) or in {TOKEN_VARIABLE}."
        )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return AccessRefusedError(f"{url}: does not take this robot now (HTTP {status}: {said}). Try again later.")
    return UnreachableError(f"{url}: answers, but not as a policy server does (HTTP {status}: {said}). {_WHAT_TO_DO}")


def _receive_metadata(connection: ClientConnection, url: str, timeout_s: float) -> dict[str, Any]:
    try:
        metadata = unpack(connection.recv(timeout_s))
    except (TimeoutError, ConnectionClosed, UserError) as error:
        raise UnreachableError(
            f"{url}: a websocket, but no policy server of mobile_vla ({error}). {_WHAT_TO_DO}"
        ) from error
    if not isinstance(metadata, dict) or metadata.get("server") != SERVER_NAME:
        raise UnreachableError(f"{url}: a websocket, but no policy server of mobile_vla. {_WHAT_TO_DO}")
    if metadata.get("protocol") != PROTOCOL_VERSION:
        raise UnreachableError(
            f"{url}: speaks protocol {metadata.get('protocol')!r}, this client {PROTOCOL_VERSION}. Install the same "
            "version of mobile_vla on both sides."
        )
    return metadata
