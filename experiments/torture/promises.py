"""List what is promised, how often it is tried, and how what was seen becomes one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

Facts = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one batch of trials: how many they were, figures, and a sentence for each broken promise."""

    num_trials: int
    facts: dict[str, float]
    broken: list[str]


@dataclass(frozen=True, kw_only=True)
class Promise:
    """``num_batches`` processes try it ``batch`` times each, every one within ``limit_s``.

    The module ``name`` has ``trial(seed, number, folder)``, which returns an ``Outcome`` as a dictionary, and
    ``figure(facts)``, which puts those of all batches into words.
    """

    name: str
    text: str
    num_batches: int
    batch: int
    limit_s: float
    at_once: int | None = None

    def trial(self, seed: int, number: int, folder: Path) -> dict[str, Any]:
        """Try it ``batch`` times; the same arguments try the same."""
        outcome: Outcome = self._module().trial(seed, number, folder, self.batch)
        return dict(outcome.__dict__)

    @property
    def figure(self) -> Callable[[Sequence[Facts]], str]:
        """Put the figures of all batches into words."""
        return self._module().figure

    def _module(self) -> Any:
        return import_module(f"trials_{self.name}")


PROMISES: Mapping[str, Promise] = {
    promise.name: promise
    for promise in (
        Promise(
            name="kills",
            text="a run or a sweep that is killed at any moment goes on to the same rows, bit for bit",
            num_batches=21,  # one a sampler
            batch=5,
            limit_s=300,
        ),
        Promise(
            name="episodes",
            text="a mutated episode file is refused by name, or read as what it says",
            num_batches=40,
            batch=250,
            limit_s=300,
        ),
        Promise(
            name="tubs",
            text="a mutated tub is refused by name, or imported as what it says",
            num_batches=20,
            batch=50,
            limit_s=300,
        ),
        Promise(
            name="checkpoints",
            text="a damaged checkpoint is never used: the one before is, or none",
            num_batches=10,
            batch=50,
            limit_s=300,
        ),
        Promise(
            name="wandb",
            text="W&B that fails loses no row here and is heard; sync sends the rest, once",
            num_batches=2,
            batch=1,
            limit_s=400,
        ),
        Promise(
            name="starters",
            text="eight processes that start together on an empty cache build it once and read the same",
            num_batches=4,
            batch=1,
            limit_s=120,
            at_once=1,
        ),
        Promise(
            name="soak",
            text="jobs in one process take no more memory, open files or threads, however many there were",
            num_batches=1,
            batch=100,
            limit_s=600,
        ),
    )
}
