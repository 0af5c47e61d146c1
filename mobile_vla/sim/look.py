"""Sample how a scene looks: colours, floor pattern and light."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

RGB = tuple[float, float, float]

FLOOR_PATTERNS = ("plain", "checker", "planks", "carpet")


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours as RGB in [0, 1], lengths in metres.

    ``light`` is the lamp's place; ``ambient`` and ``diffuse`` are the light from everywhere and from the lamp, and
    ``tint`` multiplies the three channels of both.
    """

    floor_pattern: str
    floor_tile_m: float
    floor_rgb: tuple[RGB, RGB]
    wall_rgb: RGB
    sky_rgb: RGB
    box_rgb: RGB
    bottle_rgb: RGB
    light: tuple[float, float, float]
    ambient: float
    diffuse: float
    tint: RGB


def sample_look(rng: np.random.Generator) -> Look:
    """Draw a look: muted floors, pale walls, boxes of low and bottles of high saturation, so that bottles stand out."""
    floor = _hsv(rng, hue=(0.0, 1.0), saturation=(0.0, 0.25), value=(0.40, 0.75))
    second_floor: RGB = tuple(float(c) * rng.uniform(0.72, 0.92) for c in floor)  # type: ignore[assignment]
    cardboard = rng.uniform() < 0.6
    warmth = rng.uniform(-0.06, 0.08)
    return Look(
        floor_pattern=str(rng.choice(FLOOR_PATTERNS)),
        floor_tile_m=rng.uniform(0.15, 0.45),
        floor_rgb=(floor, second_floor),
        wall_rgb=_hsv(rng, hue=(0.0, 1.0), saturation=(0.02, 0.20), value=(0.70, 0.95)),
        sky_rgb=_hsv(rng, hue=(0.5, 0.65), saturation=(0.02, 0.20), value=(0.88, 1.0)),
        box_rgb=_hsv(rng, hue=(0.06, 0.11) if cardboard else (0.0, 1.0), saturation=(0.25, 0.50), value=(0.40, 0.75)),
        bottle_rgb=_hsv(rng, hue=(0.25, 1.0), saturation=(0.80, 0.95), value=(0.55, 0.90)),
        light=(rng.uniform(-0.8, 2.0), rng.uniform(-1.3, 1.3), rng.uniform(2.2, 3.2)),
        ambient=rng.uniform(0.40, 0.60),
        diffuse=rng.uniform(0.55, 0.90),
        tint=(1.0 + warmth, 1.0, 1.0 - warmth),
    )


def _hsv(
    rng: np.random.Generator, *, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
) -> RGB:
    return colorsys.hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
