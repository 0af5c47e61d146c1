"""Sample the appearance of a scene: colours, floor pattern and light."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, replace

import numpy as np

from mobile_vla.errors import ConfigError

RGB = tuple[float, float, float]

COLOURS = ("red", "blue")
"""The bottle colours that an instruction can name."""

FLOOR_PATTERNS = ("plain", "checker", "planks", "carpet")


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """The appearance of a scene. Colours are RGB in [0, 1], lengths are in metres.

    ``bottle_rgb`` are the colours of the left and of the right bottle. ``light`` is the position of the lamp;
    ``ambient`` is the light from all directions, ``diffuse`` that from the lamp, and ``tint`` multiplies the three
    channels of both.
    """

    floor_pattern: str
    floor_tile_m: float
    floor_rgb: tuple[RGB, RGB]
    wall_rgb: RGB
    sky_rgb: RGB
    box_rgb: RGB
    bottle_rgb: tuple[RGB, RGB]
    light: tuple[float, float, float]
    ambient: float
    diffuse: float
    tint: RGB


Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class AppearanceRanges:
    """Ranges (low, high) from which appearances are drawn; the defaults are those of the recorded episodes.

    Floors are muted, walls pale, boxes have low and bottles high saturation, so that bottles stand out. Hue, saturation
    and value are in [0, 1]; the position of the lamp is in metres; ``warmth`` is added to red and subtracted from blue.
    Two bottles of the same colour are drawn from ``bottle_*``. A red and a blue bottle are drawn from ``red_hue`` and
    ``blue_hue`` and from ``named_*``. Hues wrap around: -0.1 is the hue 0.9.
    """

    floor_saturation: Range = (0.0, 0.25)
    floor_value: Range = (0.40, 0.75)
    floor_tile_m: Range = (0.15, 0.45)
    wall_saturation: Range = (0.02, 0.20)
    wall_value: Range = (0.70, 0.95)
    box_saturation: Range = (0.25, 0.50)
    box_value: Range = (0.40, 0.75)
    bottle_hue: Range = (0.25, 1.0)
    red_hue: Range = (-0.02, 0.02)
    blue_hue: Range = (0.59, 0.66)
    named_saturation: Range = (0.85, 1.0)
    named_value: Range = (0.75, 1.0)
    bottle_saturation: Range = (0.80, 0.95)
    bottle_value: Range = (0.55, 0.90)
    light_x_m: Range = (-0.8, 2.0)
    light_y_m: Range = (-1.3, 1.3)
    light_z_m: Range = (2.2, 3.2)
    ambient: Range = (0.40, 0.60)
    diffuse: Range = (0.55, 0.90)
    warmth: Range = (-0.06, 0.08)

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            if len(values) != 2 or not all(map(math.isfinite, values)) or values[0] > values[1]:
                raise ConfigError(f"suite: looks.{name}={list(values)}; expected two numbers, the lower first")


RECORDED_APPEARANCES = AppearanceRanges()


def sample_look(
    rng: np.random.Generator, ranges: AppearanceRanges = RECORDED_APPEARANCES, *, colours: tuple[str, str] | None = None
) -> Appearance:
    """Draw an appearance.

    ``colours`` are the colours (of COLOURS) of the left and of the right bottle, each in a shade of its own. None gives
    both bottles the same colour, which can be any. Everything else is drawn in the same way for both.
    """
    floor = _hsv(rng, hue=(0.0, 1.0), saturation=ranges.floor_saturation, value=ranges.floor_value)
    second_floor: RGB = tuple(float(c) * rng.uniform(0.72, 0.92) for c in floor)  # type: ignore[assignment]
    box_hue = (0.06, 0.11) if rng.uniform() < 0.6 else (0.0, 1.0)  # cardboard, or anything
    warmth = rng.uniform(*ranges.warmth)
    look = Appearance(
        floor_pattern=str(rng.choice(FLOOR_PATTERNS)),
        floor_tile_m=rng.uniform(*ranges.floor_tile_m),
        floor_rgb=(floor, second_floor),
        wall_rgb=_hsv(rng, hue=(0.0, 1.0), saturation=ranges.wall_saturation, value=ranges.wall_value),
        sky_rgb=_hsv(rng, hue=(0.5, 0.65), saturation=(0.02, 0.20), value=(0.88, 1.0)),
        box_rgb=_hsv(rng, hue=box_hue, saturation=ranges.box_saturation, value=ranges.box_value),
        bottle_rgb=(
            alike := _hsv(rng, hue=ranges.bottle_hue, saturation=ranges.bottle_saturation, value=ranges.bottle_value),
            alike,
        ),
        light=(rng.uniform(*ranges.light_x_m), rng.uniform(*ranges.light_y_m), rng.uniform(*ranges.light_z_m)),
        ambient=rng.uniform(*ranges.ambient),
        diffuse=rng.uniform(*ranges.diffuse),
        tint=(1.0 + warmth, 1.0, 1.0 - warmth),
    )
    if colours is None:
        return look
    hues = {"red": ranges.red_hue, "blue": ranges.blue_hue}
    # Drawn in the order of COLOURS and not of the sides, so that swapping the sides swaps nothing but the colours.
    rgb = {
        colour: _hsv(rng, hue=hues[colour], saturation=ranges.named_saturation, value=ranges.named_value)
        for colour in COLOURS
    }
    return replace(look, bottle_rgb=(rgb[colours[0]], rgb[colours[1]]))


def _hsv(rng: np.random.Generator, *, hue: Range, saturation: Range, value: Range) -> RGB:
    return colorsys.hsv_to_rgb(rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value))
