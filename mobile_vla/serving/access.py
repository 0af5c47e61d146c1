"""Access to the policy server: the address on which it listens, and the token that it requires from robots."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import re
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import read_limited

TOKEN_VARIABLE = "MOBILE_VLA_TOKEN"

MIN_TOKEN_CHARACTERS = 16
"""Short enough to type and too long to guess; a token made as advised below has 43."""

_TOKEN = re.compile(r"[!-~]{16,1000}")  # printable ASCII without spaces, which a header can hold unquoted
_TOKEN_ADVICE = (
    "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))' > FILE; chmod 600 FILE`, for "
    f"`serve --token-file FILE`; on the robot set {TOKEN_VARIABLE} to it."
)
_SCHEMES = ("bearer", "api-key")
"""``PolicyClient`` sends the first, openpi's clients the second."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ListenAddress:
    """A numeric address ``host`` of this machine; ``is_loopback``: no other machine can reach it."""

    host: str
    family: socket.AddressFamily
    is_loopback: bool


def find_address(host: str) -> ListenAddress:
    """Return the address of ``host`` (a name or an address), preferably IPv4; ``UserError`` if it has none.

    The result is used both to decide whether a token is needed and to listen. A second lookup of the name could return
    another address, and open to the network a server that was checked as a loopback one.
    """
    try:
        if not host:
            raise ValueError("empty")
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:
        raise UserError(
            f"host={host[:200]!r}: is no name or address of a machine ({error}). Expected an address of this one, or "
            "0.0.0.0 for all of them; choose another with --host."
        ) from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    numeric = str(address[0])
    return ListenAddress(
        host=numeric, family=socket.AddressFamily(family), is_loopback=ipaddress.ip_address(numeric).is_loopback
    )


def check_access(*, host: str, token: str | None) -> ListenAddress:
    """Return the address to listen on; ``UserError`` if other machines can reach ``host`` and there is no ``token``."""
    address = find_address(host)
    if token is None and not address.is_loopback:
        raise UserError(
            f"host={host}: other machines can reach it, so robots must show a token, and none is set. {_TOKEN_ADVICE} "
            "Without a token the server listens on loopback addresses only, such as 127.0.0.1."
        )
    return address


def read_token(file: Path | None) -> str | None:
    """Return the token in ``file``, else that in the environment (``MOBILE_VLA_TOKEN``), None without either.

    Warns if other users can read or change the file. Raises ``UserError``, which never contains the token, if the file
    cannot be read or the token is not valid.
    """
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE)
        return None if token is None else check_token(token, place=TOKEN_VARIABLE)
    try:
        text = read_limited(file).decode("ascii", errors="replace")
        mode = file.stat().st_mode
    except OSError as error:
        raise UserError(f"{file}: the token cannot be read ({error.strerror}). {_TOKEN_ADVICE}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _LOG.warning("%s: other users of this machine can read or change the token; run `chmod 600 %s`", file, file)
    return check_token(text.strip(), place=str(file))


def check_token(token: str, *, place: str) -> str:
    """Return ``token`` if it is valid; ``UserError`` names the ``place`` that it comes from, but never the token."""
    if not _TOKEN.fullmatch(token):
        raise UserError(
            f"{place}: holds a token of {len(token)} characters, or with characters other than letters, digits and "
            f"signs; expected {MIN_TOKEN_CHARACTERS} to 1000 of those, without spaces. {_TOKEN_ADVICE}"
        )
    return token


def authorization(token: str) -> str:
    """Return the value of the header ``Authorization`` with which a client sends ``token``."""
    return f"Bearer {token}"


def refusal(headers: Sequence[str], *, token: str) -> str | None:
    """Return why a request with these ``Authorization`` headers is refused; None if its only one contains ``token``.

    Comparison takes constant time: it does not reveal how many characters of a guess are right.
    """
    if len(headers) != 1:
        return f"this policy server asks for a token, and {'several were' if headers else 'none was'} sent"
    scheme, _, given = headers[0].partition(" ")
    is_same = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() not in _SCHEMES or not is_same:
        return "the token that was sent is not the one of this policy server"
    return None
