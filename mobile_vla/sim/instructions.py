"""Say which bottle is meant, in one of several ways; no phrase says anything about how to drive there."""

from __future__ import annotations

import numpy as np

PHRASES = (
    "Navigate around the {obstacle} and stop in front of the {side} bottle",
    "Drive past the {obstacle} and stop before the bottle on the {side}",
    "Stop in front of the {side} bottle without touching the {obstacle}",
    "Avoid the {obstacle} and reach the {side} bottle",
    "Go to the {side} bottle, mind the {obstacle}",
    "Find the bottle on the {side} and stop before it",
)


def instruction(*, side: str, num_boxes: int, rng: np.random.Generator) -> str:
    """Return one phrase naming ``side`` (``left`` or ``right``)."""
    return str(rng.choice(PHRASES)).format(side=side, obstacle="box" if num_boxes == 1 else "boxes")
