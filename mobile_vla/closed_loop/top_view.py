"""Draw the floor of the embedded world from above, with the paths of the robot and of the expert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from mobile_vla.closed_loop.rollout import Drive
from mobile_vla.sim.scene import BOTTLE_RADIUS_M, ROBOT_RADIUS_M, STOP_TOLERANCE_M, Scene

TOP_VIEW_SIZE = (240, 360)
"""Width and height in pixels."""

Colour = tuple[int, int, int]

# Colours of Okabe and Ito (2008), which people with any type of colour blindness can tell apart. Objects that are not
# the target are grey or beige.
DRIVEN: Colour = (213, 94, 0)
EXPERT: Colour = (84, 116, 156)
_TARGET, _TOLERANCE = (0, 130, 95), (210, 238, 228)
_BOX, _BOX_EDGE = (214, 208, 196), (140, 132, 118)
INK, _GREY, PALE, WHITE = (34, 34, 34), (120, 120, 120), (228, 228, 224), (255, 255, 255)

DRIVEN_PX, _EXPERT_PX, DASH_PX, GAP_PX, _EDGE_PX = 5, 1.7, 6, 5, 1

_FINER = 3
"""The top view is drawn this many times larger and then reduced, for smooth edges."""

_AROUND_M, _MARGIN_M, _WALL_M = 3.0, 0.15, 0.05

_TICK = (((0.0, 0.5), (-0.35, 0.1), (0.4, -0.5)),)
_CROSS = (((-0.4, -0.4), (0.4, 0.4)), ((-0.4, 0.4), (0.4, -0.4)))
"""Strokes in radii of the robot, (forward, left)."""


@dataclass(frozen=True, kw_only=True)
class TopView:
    """A map view of the floor: forward is up, left is left, and ``centre`` (x, y) in metres is in the middle."""

    centre: tuple[float, float]
    px_per_m: float

    @classmethod
    def of(cls, drive: Drive) -> TopView:
        """Return the view of the whole room, but of at most 3 m around the bottles and the drive."""
        room = drive.state.scene.room
        places = np.array([*drive.state.scene.bottles.values(), *drive.position])
        low = np.maximum(places.min(0) - _AROUND_M, (room.back_x, -room.half_width))
        high = np.minimum(places.max(0) + _AROUND_M, (room.front_x, room.half_width))
        # Also contain positions outside the room, for a robot that has left it.
        low, high = np.minimum(low, places.min(0)) - _MARGIN_M, np.maximum(high, places.max(0)) + _MARGIN_M
        width_px, height_px = TOP_VIEW_SIZE
        px_per_m = min(np.array([height_px, width_px]) / (high - low))
        return cls(centre=tuple((low + high) / 2), px_per_m=float(px_per_m))

    def pixels(self, places_m: ArrayLike) -> NDArray[np.float64]:
        """Return (column, row) [..., 2] from the view's upper left corner for floor positions [..., 2] (x, y)."""
        offset = np.asarray(places_m, np.float64) - self.centre
        return np.array(TOP_VIEW_SIZE) / 2 - offset[..., ::-1] * self.px_per_m


def top_views(drive: Drive, expert_path: NDArray[np.float64] | None) -> Iterator[Image.Image]:
    """Yield the top view at every position, with the path driven so far."""
    view = TopView.of(drive)
    outside = PALE if drive.state.scene.room.wall_height > 0 else WHITE
    floor = Image.new("RGB", (TOP_VIEW_SIZE[0] * _FINER, TOP_VIEW_SIZE[1] * _FINER), outside)
    pen = _Pen(image=floor, view=view)
    _draw_scene(pen, drive.state.scene)
    for step, place in enumerate(drive.position):
        pen.line(drive.position[max(step - 1, 0) : step + 1], DRIVEN, width_px=DRIVEN_PX)
        picture = floor.copy()
        pen_above = _Pen(image=picture, view=view)
        if expert_path is not None:
            _draw_dashes(pen_above, expert_path)
        pen_above.disc(place, ROBOT_RADIUS_M, INK, WHITE)
        if step == len(drive.command):
            for stroke in _TICK if drive.outcome == "success" else _CROSS:
                pen_above.line(place + np.array(stroke) * ROBOT_RADIUS_M, WHITE, width_px=2)
        yield picture.reduce(_FINER)


class _Pen:
    """Drawing on an image ``_FINER`` times as large as the top view: positions in metres, line widths in its pixels."""

    def __init__(self, *, image: Image.Image, view: TopView) -> None:
        self.view = view
        self._draw = ImageDraw.Draw(image)

    def rectangle(self, low: ArrayLike, high: ArrayLike, fill: Colour, edge: Colour | None = None) -> None:
        """Fill from the corner ``low`` (x, y) to ``high``, with a thin edge inside."""
        (right, bottom), (left, top) = self._at(low), self._at(high)
        self._draw.rectangle((left, top, right, bottom), fill, edge, _EDGE_PX * _FINER)

    def disc(self, place: ArrayLike, radius_m: float, fill: Colour, edge: Colour) -> None:
        """Fill a disc, with a thin edge inside."""
        radius = radius_m * self.view.px_per_m * _FINER
        self._draw.circle(self._at(place).tolist(), radius, fill, edge, _EDGE_PX * _FINER)

    def line(self, way: ArrayLike, colour: Colour, *, width_px: float) -> None:
        """Draw a line through positions [N, 2], with round corners and ends."""
        places, width = self._at(way), round(width_px * _FINER)
        self._draw.line(places.ravel().tolist(), colour, width)
        for place in places.tolist():
            self._draw.circle(place, width / 2, colour)

    def _at(self, places_m: ArrayLike) -> NDArray[np.float64]:
        return self.view.pixels(places_m) * _FINER


def _draw_scene(pen: _Pen, scene: Scene) -> None:
    """Draw the objects in the room; only the target bottle is filled, and the place to stop before it is marked."""
    room = scene.room
    back_right, front_left = np.array([room.back_x, -room.half_width]), np.array([room.front_x, room.half_width])
    if room.wall_height > 0:
        pen.rectangle(back_right - _WALL_M, front_left + _WALL_M, _GREY)
        pen.rectangle(back_right, front_left, WHITE)
    pen.disc(scene.goal(), STOP_TOLERANCE_M, _TOLERANCE, _TARGET)
    for box in scene.boxes:
        centre, half = np.array([box.x, box.y]), np.array([box.half_x, box.half_y])
        pen.rectangle(centre - half, centre + half, _BOX, _BOX_EDGE)
    for side, place in scene.bottles.items():
        is_named = side == scene.scenario.side
        pen.disc(place, BOTTLE_RADIUS_M, _TARGET if is_named else WHITE, _TARGET if is_named else _GREY)


def _draw_dashes(pen: _Pen, way: NDArray[np.float64]) -> None:
    along_m = np.cumsum([0.0, *np.hypot(*np.diff(way, axis=0).T)])
    every_px = np.arange(0, along_m[-1] * pen.view.px_per_m) / pen.view.px_per_m
    places = np.stack([np.interp(every_px, along_m, way[:, axis]) for axis in (0, 1)], axis=-1)
    for begin in range(0, len(places), DASH_PX + GAP_PX):
        pen.line(places[begin : begin + DASH_PX], EXPERT, width_px=_EXPERT_PX)
