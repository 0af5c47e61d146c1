"""Counter-based random streams, one per purpose, so that no random choice depends on another or on global state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stream:
    """Random numbers that are a pure function of (seed, purpose, position).

    A Philox generator whose key is a hash of seed and purpose and whose counter is set by an integer position (the
    training step, the pass). Position 10,000 is reached as fast as position 0, so a resumed run needs no replay, and
    streams with different purposes are independent. Source: Salmon et al., SC 2011.
    """

    seed: int
    purpose: str

    def at(self, position: int) -> np.random.Generator:
        """Return the generator for ``position`` (0 or more)."""
        # Not Python's hash(): for strings it differs from process to process.
        digest = hashlib.blake2b(f"{self.seed}/{self.purpose}".encode(), digest_size=16).digest()
        key = np.frombuffer(digest, "<u8").astype(np.uint64)
        # The position is the highest of the counter's four words. Drawing increments the lowest word, so the numbers of
        # one position reach those of the next only after 2**192 blocks.
        return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, position], np.uint64)))

    def integer(self, position: int) -> int:
        """Return one integer in 0 .. 2**63-2, as a seed for the generator of another library."""
        return int(self.at(position).integers(0, 2**63 - 1))

    def child(self, purpose: str) -> Stream:
        """Return an independent stream whose purpose is ``purpose`` within this stream's purpose."""
        return Stream(self.seed, f"{self.purpose}/{purpose}")
