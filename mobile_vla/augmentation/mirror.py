"""Mirror left and right: image, actions that flip, and the words of the instruction and the scenario."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.errors import ConfigError
from mobile_vla.schema import Batch
from mobile_vla.spec import Signal, Spec
from mobile_vla.streams import Stream
from mobile_vla.text import first_few

_PAIRS = [("left", "right"), ("왼쪽", "오른쪽"), ("좌측", "우측"), ("좌회전", "우회전")]
_OPPOSITE = dict(_PAIRS) | {right: left for left, right in _PAIRS}
# Not \b: an underscore is a word character, and scenarios are words joined by underscores.
_SIDES = re.compile(
    r"(?<![^\W_])(left|right)(?=(most|wards?)?(?![^\W_]))|" + "|".join(w for w in _OPPOSITE if not w.isascii()),
    re.IGNORECASE,
)


def mirror_words(text: str) -> str:
    """Return ``text`` with left and right exchanged, in the same case, also in "Leftmost"; "upright" is unchanged."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = _OPPOSITE[word.lower()]
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    return _SIDES.sub(swap, text)


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A mirror image with probability ``probability``; ``spec`` says which signals change sign (``Signal.flips``).

    Raises ``ConfigError`` if nobody said so of a signal, or if there are pairs of a left and a right signal: the mirror
    image of a left arm's command is a right arm's.
    """

    takes_bytes: ClassVar[bool] = True

    probability: Annotated[float, Field(ge=0, le=1)]
    spec: Spec

    def __post_init__(self) -> None:
        _check_flips([*self.spec.actions, *self.spec.state])

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """See ``Transform``."""
        chosen = stream.at(step).random(len(batch)) < self.probability
        chosen_B = torch.from_numpy(chosen).to(batch.images_BTVCYX.device)
        signs_A = torch.tensor(_signs(self.spec.actions), device=batch.actions_BTKA.device)
        signs_S = torch.tensor(_signs(self.spec.state), device=batch.state_BTS.device)
        images_BTVCYX = batch.images_BTVCYX.clone()
        images_BTVCYX[chosen_B] = images_BTVCYX[chosen_B].flip(-1)
        return replace(
            batch,
            images_BTVCYX=images_BTVCYX,
            actions_BTKA=torch.where(chosen_B[:, None, None, None], batch.actions_BTKA * signs_A, batch.actions_BTKA),
            state_BTS=torch.where(chosen_B[:, None, None], batch.state_BTS * signs_S, batch.state_BTS),
            instruction=_mirror_chosen(batch.instruction, chosen),
            scenario=_mirror_chosen(batch.scenario, chosen),
        )


def _mirror_chosen(texts: Sequence[str], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(mirror_words(text) if is_chosen else text for text, is_chosen in zip(texts, chosen, strict=True))


def _signs(signals: Sequence[Signal]) -> list[float]:
    return [-1.0 if signal.flips else 1.0 for signal in signals]


def _check_flips(signals: Sequence[Signal]) -> None:
    names = {signal.name for signal in signals}
    lower = {name.lower() for name in names}
    if pairs := sorted(name for name in names if name.lower().replace("left", "right") in lower - {name.lower()}):
        raise ConfigError(
            f"augmentation=mirror: {len(pairs)} signals of the left side have a counterpart on the right "
            f"({first_few(pairs)}), and a mirror image would exchange the two. That is not supported: leave mirror out."
        )
    if unknown := list(dict.fromkeys(signal.name for signal in signals if signal.flips is None)):
        raise ConfigError(
            f"augmentation=mirror: nobody said whether the sign of {first_few(unknown)} changes in a mirror image "
            f"({len(unknown)} of {len(names)} signals). Say it of each, as in "
            f"dataset.signals={{{unknown[0]}: {{flips: true}}}} (false: it stays), or leave mirror out."
        )
