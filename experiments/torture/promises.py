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
            name="soak",
            text="jobs in one process take no more memory, open files or threads, however many there were",
            num_batches=1,
            batch=100,
            limit_s=600,
        ),
        Promise(
            name="starters",
            text="processes that start together on an empty cache build it once and read the same",
            num_batches=4,
            batch=1,
            limit_s=120,
            at_once=1,
        ),
    )
}
