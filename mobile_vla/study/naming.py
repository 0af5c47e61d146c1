"""Name the folders of sweeps and jobs, so that a second call of a sweep finds the jobs of the first call."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from mobile_vla.config_keys import key_of, trains_nothing

_UNNAMED = "default"

_NOT_IN_NAMES = re.compile(r"\W+")

_SAID_BY_THE_NAME = ("sampler", "seed")
"""Keys that the job's folder name contains in plain text, so that the digest does not need them."""


def folder_name(path: str | None) -> str:
    """Return the last part of ``path`` as a part of a study's name: letters, digits and ``_``."""
    return _NOT_IN_NAMES.sub("_", Path(path or "").expanduser().resolve().name) or "data"


def sweep_folder(name: str, stamp: str) -> str:
    """Return the folder of the jobs of study ``name``: always the same for a named study, else one per ``stamp``."""
    return f"outputs/multirun/{stamp}-{name}" if name == _UNNAMED else f"outputs/multirun/{name}"


def job_digest(overrides: Sequence[str]) -> str:
    """Return a digest of 8 hexadecimal digits of the ``overrides`` (``key=value``) that change training.

    Their order does not matter. Sampler and seed are left out, and so are overrides that only change how the policy is
    measured and logged, or the name of the study.
    """
    kept = sorted(text for text in overrides if _names_a_job(key_of(text)))
    return hashlib.blake2b("\n".join(kept).encode(), digest_size=4).hexdigest()


def _names_a_job(key: str) -> bool:
    return key not in _SAID_BY_THE_NAME and not trains_nothing(key)
