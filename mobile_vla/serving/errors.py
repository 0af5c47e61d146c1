"""The errors of the robot's client, one class for each thing that a robot does about it."""

from __future__ import annotations

from mobile_vla.errors import UserError


class UnreachableError(UserError):
    """No policy server of this protocol answers at the address: start one, or correct the address."""


class AccessRefusedError(UserError):
    """The server does not take this robot: it wants another token, or too many robots are connected."""


class ConnectionLostError(UserError):
    """No answer came in time, or the connection is closed: stop the robot and open a new client."""


class RemoteError(UserError):
    """The policy gave no actions for this request; the connection and the history of frames stay usable."""


class ObservationError(RemoteError):
    """The observation is not what the policy gets, such as a missing camera: the robot's program must be corrected.

    The message has what was given and what is expected. The client finds this itself where the server's metadata say
    so, and nothing is sent then; otherwise the server says so.
    """


class PolicyFailedError(RemoteError):
    """The policy failed on a good observation: the server's log has the details, and the next request may succeed."""


OBSERVATION, POLICY = "observation", "policy"
"""The kinds of errors in an answer, under the key ``kind``. A server of an earlier version sends none."""


def remote_error(message: str, kind: object) -> RemoteError:
    """Return the error for an answer with ``message`` and ``kind``."""
    classes = {OBSERVATION: ObservationError, POLICY: PolicyFailedError}
    return classes[kind](message) if isinstance(kind, str) and kind in classes else RemoteError(message)
