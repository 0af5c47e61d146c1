"""How the policy server listens: a socket with a limit for open connections, and the limits of its websockets."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from mobile_vla.errors import UserError
from mobile_vla.serving.access import ListenAddress

MAX_THREADS = 320
"""Limit for the whole process: three threads per robot, and two per connection that has sent no request yet.

So at most 160 connections are open at once. With four file descriptors each, they need fewer than the 1024 that a
process may usually have.
"""

_OPEN_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 2.0
_SEND_TIMEOUT_S = 5.0
_PAUSE_S = 0.05
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO}

_TRANSPORT_LOG = logging.getLogger(f"{__name__}.transport")
_TRANSPORT_LOG.setLevel(logging.WARNING)  # below WARNING it logs every health probe


class FrontDoor(socket.socket):
    """A listening socket whose ``accept`` waits while too many connections are open, and retries temporary errors.

    An ordinary socket raises when the process runs out of file descriptors, and websockets then stops listening for
    good. Waiting connections stay in the kernel's queue. Connections that send no request are closed after the
    server's ``open_timeout``.
    """

    @classmethod
    def open(cls, address: ListenAddress, port: int) -> FrontDoor:
        """Listen on ``address``; ``OSError`` or ``OverflowError`` if that is not possible."""
        plain = socket.create_server((address.host, port), family=address.family)
        door = cls(fileno=plain.detach())
        door.settimeout(_PAUSE_S)  # closing the socket does not wake a blocked ``accept``, so it must time out
        return door

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection and its address; a peer that does not read its answers is disconnected."""
        while True:
            if threading.active_count() >= MAX_THREADS and self.fileno() >= 0:
                time.sleep(_PAUSE_S)
                continue
            try:
                connection, address = super().accept()
            except TimeoutError:  # the peer has closed its connection before it was accepted
                continue
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                time.sleep(_PAUSE_S)
                continue
            connection.settimeout(_SEND_TIMEOUT_S)  # affects sending only: websockets reads when there is data
            return connection, address


def open_door(address: ListenAddress, host: str, port: int) -> FrontDoor:
    """Listen on ``address``, which the user gave as ``host``, and ``port``; ``UserError`` if that is not possible."""
    try:
        return FrontDoor.open(address, port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"host={host}, port={port}: cannot listen there ({error}). Expected an address of this machine (0.0.0.0 "
            "for all of them) and a free port, 1 to 65535; choose others with --host and --port."
        ) from error


def listen(
    serve_robot: Callable[[ServerConnection], None],
    answer_http: Callable[[ServerConnection, Request], Response | None],
    door: FrontDoor,
    *,
    max_message_bytes: int,
) -> Server:
    """Return a websocket server behind ``door`` with its limits; it answers when its ``serve_forever`` is called."""
    return serve(
        serve_robot,
        sock=door,
        process_request=answer_http,
        origins=[None],  # None: the header is absent. Web pages in browsers send it, robots do not
        compression=None,  # camera images hardly shrink, and deflating one takes longer than the policy
        max_size=max_message_bytes,
        max_queue=1,  # robots wait for the answer before they send the next image, and a message may have 8 MB or more
        open_timeout=_OPEN_TIMEOUT_S,
        close_timeout=_CLOSE_TIMEOUT_S,
        logger=_TRANSPORT_LOG,
    )
