"""Sample the robot's world: positions and appearance of its objects, without a physics engine.

World frame: x forward, y left, z up, metres; the robot's heading is fixed along x. The target bottle is defined only
by ``side`` and ``named_by`` of ``Scene.scenario``. No random draw depends on these two, so an image cannot reveal it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mobile_vla.errors import UserError
from mobile_vla.sim.appearance import RECORDED_APPEARANCES, Appearance, AppearanceRanges, sample_look
from mobile_vla.streams import Stream

ROBOT_RADIUS_M = 0.18
ACTION_NAMES = ("linear_x", "linear_y", "angular_z")
"""The commands of the world's robot, in order: forward, to the left (m/s), counter-clockwise (rad/s)."""

ROBOT_SPEED_M_S = 1.15
"""Speed along an axis while its key is held; two keys together drive diagonally."""

STEP_S = 0.1

STANDING_SPEED_M_S = 0.25
"""A robot slower than this counts as standing. A keyboard stops it completely, but a regression policy may creep."""

Outcome = Literal["success", "collision", "wrong_target", "left_room", "timeout"]
"""How a drive can end."""

BOTTLE_RADIUS_M = 0.09
STANDOFF_M = 0.5
"""Distance from the place to stop to the bottle, along x."""

STOP_TOLERANCE_M = 0.25

SIDES = ("left", "right")
OTHER_SIDE = {"left": "right", "right": "left"}

BOTTLE_COLOURS = {"redblue": ("red", "blue"), "bluered": ("blue", "red")}
"""Colours of the left and of the right bottle if they differ, by their name in scenarios."""

NamedBy = Literal["side", "colour"]

BOX_HALF_SIZE_M = {"vert": (0.20, 0.15), "hori": (0.12, 0.28)}
"""Half depth and half width: a vertical box points along the robot's heading, a horizontal one across it."""

BOTTLE_X_M = {"close": 2.1, "medium": 2.6, "far": 3.1}

_ROOM_TO_PASS_M = ROBOT_RADIUS_M + 0.22
_MAX_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One cell of the collection: the fields of an episode's file name.

    The target is the bottle on ``side``; the instruction names it by its side or by its colour (``named_by``).
    ``colours`` is a key of BOTTLE_COLOURS, or None: both bottles then have the same colour and differ only in the side.
    """

    num_boxes: int
    layout: str
    side: str
    placement: str
    distance: str
    colours: str | None = None
    named_by: NamedBy = "side"

    def __post_init__(self) -> None:
        if self.colours is not None and self.colours not in BOTTLE_COLOURS:
            raise UserError(f"colours={self.colours}: no such bottles; expected one of {', '.join(BOTTLE_COLOURS)}")
        if self.named_by == "colour" and self.colours is None:
            raise UserError(
                "named_by=colour: both bottles have the same colour, which names neither; expected colours, one of "
                f"{', '.join(BOTTLE_COLOURS)}, or named_by=side"
            )

    @property
    def target(self) -> str:
        """Return the word by which the instruction names the target: ``left``, ``right``, ``red`` or ``blue``."""
        if self.named_by == "side" or self.colours is None:
            return self.side
        return BOTTLE_COLOURS[self.colours][SIDES.index(self.side)]

    @property
    def task(self) -> str | None:
        """Return the target if the bottles have different colours; None if not: then there is only one task."""
        return None if self.colours is None else self.target

    @property
    def name(self) -> str:
        """Return the fields in the format of file names.

        For example ``1box_hori_left_core_medium``, or ``1box_hori_left_core_medium_redblue_task_red``.
        """
        name = f"{self.num_boxes}box_{self.layout}_{self.side}_{self.placement}_{self.distance}"
        return name if self.colours is None else f"{name}_{self.colours}_task_{self.task}"

    @classmethod
    def parse(cls, name: str) -> Scenario:
        """Return the scenario with this ``name``; ``ValueError`` if the format is wrong."""
        boxes, layout, side, placement, distance, *rest = name.split("_")
        colours, _, target = rest or (None, "task", side)
        scenario = cls(
            num_boxes=int(boxes.removesuffix("box")),
            layout=layout,
            side=side,
            placement=placement,
            distance=distance,
            colours=colours,
            named_by="side" if target in SIDES else "colour",
        )
        if scenario.name != name:
            raise ValueError(f"{name}: is no scenario; its fields make {scenario.name}")
        return scenario


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Ranges (low, high) in metres from which a scene is drawn.

    ``box_shift_m`` is the offset of a box to the left or right; ``box_gap_m`` is the distance from box to box along x;
    ``bottle_jitter_m`` moves each bottle along x independently.
    """

    start_x_m: tuple[float, float] = (-0.12, 0.12)
    start_y_m: tuple[float, float] = (-0.20, 0.20)
    box_x_m: tuple[float, float]
    box_shift_m: tuple[float, float]
    box_gap_m: tuple[float, float]
    bottle_y_m: tuple[float, float]
    bottle_jitter_m: tuple[float, float]


PLACEMENTS: Mapping[str, Placement] = {
    "core": Placement(
        box_x_m=(0.80, 0.95),
        box_shift_m=(0.0, 0.08),
        box_gap_m=(0.65, 0.75),
        bottle_y_m=(0.62, 0.75),
        bottle_jitter_m=(-0.05, 0.05),
    ),
    "variant": Placement(
        box_x_m=(0.75, 1.05),
        box_shift_m=(0.08, 0.25),
        box_gap_m=(0.60, 0.80),
        bottle_y_m=(0.55, 0.85),
        bottle_jitter_m=(-0.12, 0.12),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Box:
    """An upright box on the floor: centre and half sizes in metres."""

    x: float
    y: float
    half_x: float
    half_y: float
    height: float

    def distance(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Return the distance in metres of each floor point from the box, 0 inside."""
        return np.hypot(
            np.maximum(np.abs(x - self.x) - self.half_x, 0), np.maximum(np.abs(y - self.y) - self.half_y, 0)
        )


@dataclass(frozen=True, kw_only=True)
class Room:
    """The inner faces of the four walls, and their height, in metres."""

    front_x: float
    back_x: float
    half_width: float
    wall_height: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One world. ``bottles`` maps ``left`` and ``right`` to the floor position of each bottle's axis."""

    scenario: Scenario
    start: tuple[float, float]
    boxes: tuple[Box, ...]
    bottles: Mapping[str, tuple[float, float]]
    room: Room
    look: Appearance

    def goal(self, side: str | None = None) -> tuple[float, float]:
        """Return the place to stop before the bottle on ``side``, by default before the target."""
        x, y = self.bottles[side or self.scenario.side]
        return x - STANDOFF_M, y

    def clearance(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Return the gap in metres between a robot at each point and the nearest object; negative is contact."""
        gaps = [box.distance(x, y) for box in self.boxes]
        gaps += [np.hypot(x - bottle_x, y - bottle_y) - BOTTLE_RADIUS_M for bottle_x, bottle_y in self.bottles.values()]
        gaps += [self.room.front_x - x, x - self.room.back_x, self.room.half_width - np.abs(y)]
        return np.minimum.reduce(np.broadcast_arrays(*gaps)) - ROBOT_RADIUS_M


def sample_scene(
    scenario: Scenario,
    stream: Stream,
    *,
    position: int,
    placements: Mapping[str, Placement] = PLACEMENTS,
    distances_m: Mapping[str, float] = BOTTLE_X_M,
    looks: AppearanceRanges = RECORDED_APPEARANCES,
) -> Scene:
    """Draw the scene at ``position`` of a stream; the draw does not depend on the target or on how it is named.

    A scene without room for the robot before both bottles is drawn again. Raises ``UserError`` if the ranges allow no
    scene with room.
    """
    placement = placements[scenario.placement]
    # Separate streams: layouts that are drawn again do not change the appearance.
    layout_rng = stream.child("layout").at(position)
    colours = None if scenario.colours is None else BOTTLE_COLOURS[scenario.colours]
    # The name "look" is part of its numbers: with another one every recorded scene would change.
    look = sample_look(stream.child("look").at(position), looks, colours=colours)
    for _ in range(_MAX_DRAWS):
        scene = _draw_layout(scenario, placement, distances_m[scenario.distance], look, layout_rng)
        if _has_room(scene):
            return scene
    raise UserError(
        f"scenario {scenario.name}: no scene with room to stand before both bottles in {_MAX_DRAWS} draws; "
        f"move the boxes or bottles of placement {scenario.placement!r} apart ({placement})"
    )


def _draw_layout(
    scenario: Scenario, placement: Placement, bottle_x_m: float, look: Appearance, rng: np.random.Generator
) -> Scene:
    half_x, half_y = BOX_HALF_SIZE_M[scenario.layout]
    boxes = []
    x = rng.uniform(*placement.box_x_m)
    for _ in range(scenario.num_boxes):
        y = rng.choice((-1, 1)) * rng.uniform(*placement.box_shift_m)
        scale = rng.uniform(0.92, 1.08)
        height = rng.uniform(0.16, 0.24)
        boxes.append(Box(x=x, y=float(y), half_x=half_x * scale, half_y=half_y * scale, height=height))
        x += rng.uniform(*placement.box_gap_m)
    bottles = {
        side: (
            bottle_x_m + rng.uniform(*placement.bottle_jitter_m),
            sign * rng.uniform(*placement.bottle_y_m),
        )
        for side, sign in (("left", 1), ("right", -1))
    }
    return Scene(
        scenario=scenario,
        start=(rng.uniform(*placement.start_x_m), rng.uniform(*placement.start_y_m)),
        boxes=tuple(boxes),
        bottles=bottles,
        room=Room(
            front_x=rng.uniform(4.2, 5.2),
            back_x=-rng.uniform(0.9, 1.3),
            half_width=rng.uniform(1.7, 2.3),
            wall_height=rng.uniform(0.9, 1.6),
        ),
        look=look,
    )


def _has_room(scene: Scene) -> bool:
    """Return whether every box leaves enough room at the start, at both bottles and at the places before them.

    Both bottles are checked, whichever is the target: otherwise the layout would reveal the target.
    """
    standing = [scene.start, scene.goal("left"), scene.goal("right"), *scene.bottles.values()]
    gap = min(float(box.distance(*place)) for place in standing for box in scene.boxes)
    return gap > _ROOM_TO_PASS_M
