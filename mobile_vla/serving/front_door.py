"""A listening socket with a limit for open connections."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Any

from mobile_vla.serving.access import ListenAddress

MAX_THREADS = 320
"""Limit for the whole process: three threads per robot, and two per connection that has sent no request yet.

So at most 160 connections are open at once. With four file descriptors each, they need fewer than the 1024 that a
process may usually have.
"""

_SEND_TIMEOUT_S = 5.0
_PAUSE_S = 0.05
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO}


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
