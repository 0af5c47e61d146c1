"""Instructions that name the target bottle in one of several phrases; none describes the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mobile_vla.sim.scene import NamedBy, Scenario

_SIDE_PHRASES = (
    "Navigate around the {obstacle} and stop in front of the {target} bottle",
    "Drive past the {obstacle} and stop before the bottle on the {target}",
    "Stop in front of the {target} bottle without touching the {obstacle}",
    "Avoid the {obstacle} and reach the {target} bottle",
    "Go to the {target} bottle, mind the {obstacle}",
    "Find the bottle on the {target} and stop before it",
)
_COLOUR_PHRASES = (
    "Navigate around the {obstacle} and stop in front of the {target} bottle",
    "Drive past the {obstacle} and stop before the {target} bottle",
    "Stop in front of the {target} bottle without touching the {obstacle}",
    "Avoid the {obstacle} and reach the {target} bottle",
    "Go to the {target} bottle, mind the {obstacle}",
    "Find the {target} bottle and stop before it",
)
PHRASES: Mapping[NamedBy, Sequence[str]] = {"side": _SIDE_PHRASES, "colour": _COLOUR_PHRASES}


def instruction(scenario: Scenario, rng: np.random.Generator) -> str:
    """Return a random phrase that names the scenario's target."""
    phrase = str(rng.choice(PHRASES[scenario.named_by]))
    return phrase.format(target=scenario.target, obstacle="box" if scenario.num_boxes == 1 else "boxes")
