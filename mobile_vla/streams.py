"""Give every random choice its own counter-based stream, so that no choice depends on another or on global state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stream:
    """Random numbers that are a pure function of (seed, purpose, position).

    A Philox counter keyed by seed and purpose and positioned by an integer (the step, the pass): going to position
    10,000 costs what going to 0 costs, and streams of different purpose never meet. Source: Salmon et al., SC 2011.
    """

    seed: int
    purpose: str

    def at(self, position: int) -> np.random.Generator:
        """Return the generator that stands at ``position`` (0 or more)."""
        digest = hashlib.blake2b(f"{self.seed}/{self.purpose}".encode(), digest_size=16).digest()
        key = np.frombuffer(digest, "<u8").astype(np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, position], np.uint64)))

    def integer(self, position: int) -> int:
        """Return one integer in 0 .. 2**63-2, to seed a generator of another library."""
        return int(self.at(position).integers(0, 2**63 - 1))

    def child(self, purpose: str) -> Stream:
        """Return an independent stream below this one."""
        return Stream(self.seed, f"{self.purpose}/{purpose}")
