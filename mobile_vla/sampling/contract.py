"""Say what a sampler is: a pure function from (window table, seed, step, scores) to the windows of one step."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

Measure = Literal["loss", "gradient_norm"]


class Look(Protocol):
    """The one door to forward passes beyond the training step's own; each window that goes through it is counted."""

    def __call__(self, ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
        """Ask the model as it is before the step about the windows ``ids`` [M]; nothing is learnt from it.

        ``loss`` is the window's loss; ``gradient_norm`` the norm of its gradient with respect to what the head's last
        layer puts out. Windows are read as recorded, without augmentation and dropout.
        """
        ...


class Sampler(Protocol):
    """Draws ``batch_size`` windows a step. Holds no state that a second call could see; a cache is none.

    By convention an option that says at which step it changes is called ``..._step``: a run that ends before says so.
    """

    windows: WindowTable

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """Return the windows of ``step`` (0 or more, in any order), the same for the same step, scores and answers."""
        ...

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of the draws that the windows ``ids`` [M] would have, were all steps like this one.

        Over all windows they sum to 1. Where a sampler looks before it draws, the scores stand for what it would see.
        """
        ...

    def no_effect_reason(self) -> str | None:
        """Say why this table leaves no way to differ from ``shuffled``; None where it can differ.

        A reason is given only where no batch prefers a window, whatever the scores: any two could change places.
        """
        ...


class SamplerFactory(Protocol):
    """A sampler whose options are set and whose data is not: what ``_partial_: true`` in a config makes."""

    def __call__(self, *, windows: WindowTable, batch_size: int, stream: Stream) -> Sampler:
        """Return the sampler for this table."""
        ...


class ActionChunks(Protocol):
    """Reads the actions of windows: what a sampler is given besides the table if it has an argument ``chunks``."""

    def __call__(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the actions [B, K, A] from the current frames on, in physical units, and which of them exist [B, K].

        Actions that do not exist are zero.
        """
        ...
