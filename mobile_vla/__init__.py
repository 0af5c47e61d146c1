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
        try:
            from mobile_vla.policy.policy import Policy
        except ModuleNotFoundError as error:
            if error.name != "mobile_vla.policy.policy":
                raise
            raise ImportError(
                "only the client for robots is installed: pip uninstall mobile-vla-client, then install mobile_vla"
            ) from error

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
