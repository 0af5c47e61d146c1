"""Mirror left and right: image, sideways and turning actions, and the words of the instruction and the scenario."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream

MIRRORED_ACTIONS = ("linear_y", "angular_z")
"""Actions that change sign in a mirror image: positive values mean left and counter-clockwise."""

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
    """A mirror image with probability ``probability``; ``action_names`` determine which action columns change sign."""

    takes_bytes: ClassVar[bool] = True

    probability: Annotated[float, Field(ge=0, le=1)]
    action_names: Sequence[str]

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """See ``Transform``."""
        chosen = stream.at(step).random(len(batch)) < self.probability
        chosen_B = torch.from_numpy(chosen).to(batch.images_BTVCYX.device)
        signs = [-1.0 if name in MIRRORED_ACTIONS else 1.0 for name in self.action_names]
        signs_A = torch.tensor(signs, device=batch.actions_BTKA.device)
        images_BTVCYX = batch.images_BTVCYX.clone()
        images_BTVCYX[chosen_B] = images_BTVCYX[chosen_B].flip(-1)
        return replace(
            batch,
            images_BTVCYX=images_BTVCYX,
            actions_BTKA=torch.where(chosen_B[:, None, None, None], batch.actions_BTKA * signs_A, batch.actions_BTKA),
            instruction=_mirror_chosen(batch.instruction, chosen),
            scenario=_mirror_chosen(batch.scenario, chosen),
        )


def _mirror_chosen(texts: Sequence[str], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(mirror_words(text) if is_chosen else text for text, is_chosen in zip(texts, chosen, strict=True))
