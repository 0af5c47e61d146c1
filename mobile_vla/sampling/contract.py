"""The interface of samplers: a pure function from (window table, seed, step, scores) to the windows of one step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

Measure = Literal["loss", "gradient_norm"]

Difference = Literal["order", "preference"]
"""How a sampler can differ from ``shuffled``: only in the order of the windows, or by preferring some windows."""

CHANGES_THE_SAMPLER = "changes the sampler"
"""Metadata of an option that is a step at which the sampler changes: ``Annotated[PositiveInt, CHANGES_THE_SAMPLER]``.

A run that ends earlier prints a warning.
"""


class ScoreWindows(Protocol):
    """A function that measures windows with the model before they are drawn.

    It runs forward passes in addition to those of the training step. They are counted as part of the sampler's cost.
    """

    def __call__(self, ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
        """Return the ``measure`` [M] of the windows ``ids`` [M] under the model as it is before the step.

        ``loss`` is the window's loss. ``gradient_norm`` is the norm of the gradient of that loss with respect to the
        output of the head's last layer. Windows are read as recorded, without augmentation and without dropout. The
        weights of the model do not change.
        """
        ...


DrawStep = Callable[[int, Scores], Draw] | Callable[[int, Scores, ScoreWindows], Draw]


class Sampler(Protocol):
    """A rule that draws ``batch_size`` windows a step.

    It keeps no state that could change the result of a later call. A cache is allowed.
    """

    windows: WindowTable

    @property
    def differs_in(self) -> Difference | None:
        """How it can differ from ``shuffled`` on some data; None for ``shuffled`` itself."""
        ...

    @property
    def draw(self) -> DrawStep:
        """A method ``draw(step, scores)``, or ``draw(step, scores, score_windows)`` if it measures windows first.

        It returns the windows of ``step``. Steps are 0 or more and may be passed in any order. The same step, scores
        and measures give the same windows.
        """
        ...

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of all draws [M] that each window of ``ids`` [M] would get if every step were like this one.

        The shares of all windows sum to 1. A sampler that measures windows before it draws has no measures here and
        uses ``scores`` in their place.
        """
        ...

    def no_effect_reason(self) -> str | None:
        """Return why the sampler cannot differ from ``shuffled`` on this table, or None if it can.

        A reason is returned only if, for all possible scores, no batch prefers any window: any two windows could be
        exchanged without changing the distribution.
        """
        ...


def check_sampler(sampler: object) -> None:
    """Raise ``ConfigError`` if ``sampler``, maybe of the user's own class, does not have the form of a ``Sampler``."""
    name = type(sampler).__name__
    wanted = ("windows", "differs_in", "draw", "probabilities", "no_effect_reason")
    if missing := [attribute for attribute in wanted if not hasattr(sampler, attribute)]:
        raise ConfigError(f"sampler: {name} has no {', '.join(missing)}; see Sampler in sampling/contract.py")
    arguments = list(inspect.signature(cast(Sampler, sampler).draw).parameters)
    if arguments not in (["step", "scores"], ["step", "scores", "score_windows"]):
        raise ConfigError(
            f"sampler: {name}.draw takes {', '.join(arguments) or 'nothing'}; expected draw(self, step, scores), or "
            "draw(self, step, scores, score_windows) where it measures windows first"
        )


def draw_windows(sampler: Sampler, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
    """Return the draw of ``step``; ``score_windows`` is passed only if ``draw`` has an argument of that name."""
    # The signature decides, so that a sampler which measures nothing, such as a user's own, needs no unused argument.
    draw = cast(Callable[..., Draw], sampler.draw)
    if _measures_first(getattr(draw, "__func__", draw)):
        return draw(step, scores, score_windows)
    return draw(step, scores)


@cache  # reading a signature takes some 10 us, as long as the draw of a simple sampler
def _measures_first(draw: Callable[..., Draw]) -> bool:
    return "score_windows" in inspect.signature(draw).parameters


def reason_through(base: Sampler) -> str | None:
    """Return why a sampler whose draws depend only on ``base`` cannot differ from ``shuffled``; None if it can."""
    return "the sampler it is based on is shuffled" if base.differs_in is None else base.no_effect_reason()


class SamplerFactory(Protocol):
    """A sampler whose options are set but not its data: the result of ``_partial_: true`` in a config."""

    def __call__(self, *, windows: WindowTable, batch_size: int, stream: Stream) -> Sampler:
        """Return the sampler for this table."""
        ...


class ActionChunks(Protocol):
    """A function that reads the actions of windows; a sampler with an argument ``chunks`` receives it."""

    def __call__(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the actions [B, K, A] from the current frame on, in physical units, and a mask [B, K].

        Actions that do not exist are zero and False in the mask.
        """
        ...
