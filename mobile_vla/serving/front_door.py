"""Let connections in no faster than they can be served."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Any

from mobile_vla.serving.access import ListenAddress

MAX_THREADS = 320
"""Of the whole process: three for each robot, two for each connection that has not said yet what it wants.

At most 160 connections are open at once then, with four files each: fewer than the 1024 that a process may have.
"""

_SEND_TIMEOUT_S = 5.0
_PAUSE_S = 0.05
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO}


class FrontDoor(socket.socket):
    """A listening socket whose ``accept`` waits while too many connections are open and outlives passing errors.

    Without it, websockets stops listening for good when the process runs out of files. Waiting connections stay in the
    kernel's queue; those that never say what they want are hung up on by the server's ``open_timeout``.
    """

    @classmethod
    def open(cls, address: ListenAddress, port: int) -> FrontDoor:
        """Listen at ``address``; ``OSError`` or ``OverflowError`` where that is not possible."""
        plain = socket.create_server((address.host, port), family=address.family)
        door = cls(fileno=plain.detach())
        door.settimeout(_PAUSE_S)  # or closing it would not wake ``accept``
        return door

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection and its address; a peer that does not read what it is sent is cut off."""
        while True:
            if threading.active_count() >= MAX_THREADS and self.fileno() >= 0:
                time.sleep(_PAUSE_S)
                continue
            try:
                connection, address = super().accept()
            except TimeoutError:  # the peer has gone again
                continue
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                time.sleep(_PAUSE_S)
                continue
            connection.settimeout(_SEND_TIMEOUT_S)  # of sending: it is read from only when there is something to read
            return connection, address
