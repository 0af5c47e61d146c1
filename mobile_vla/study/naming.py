"""Name folders such that a second call of a sweep finds the jobs of the first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mobile_vla.config_keys import key_of, trains_nothing

_UNNAMED = "default"

_SAID_BY_THE_NAME = ("sampler", "seed")


def sweep_folder(name: str, stamp: str) -> str:
    """Return where the jobs of study ``name`` lie: one place for a named study, one a ``stamp`` for the others."""
    return f"outputs/multirun/{stamp}-{name}" if name == _UNNAMED else f"outputs/multirun/{name}"


def job_digest(overrides: Sequence[str]) -> str:
    """Return 8 hexadecimal digits for what ``overrides`` (``key=value``) train beside sampler and seed, in any order.

    How the policy is measured and logged is no part of it, nor is what the study is called.
    """
    kept = sorted(text for text in overrides if _names_a_job(key_of(text)))
    return hashlib.blake2b("\n".join(kept).encode(), digest_size=4).hexdigest()


def _names_a_job(key: str) -> bool:
    return key not in _SAID_BY_THE_NAME and not trains_nothing(key)
