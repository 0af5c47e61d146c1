"""Compare ways of sampling training windows for vision-language-action policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobile_vla.policy.policy import Policy

__version__ = "0.1.0"
__all__ = ["Policy"]


def __getattr__(name: str) -> object:
    """Import ``Policy`` when it is asked for: torch takes a second that ``--help`` should not wait for."""
    if name == "Policy":
        from mobile_vla.policy.policy import Policy

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
