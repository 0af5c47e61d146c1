"""Show a drive as an animated GIF: what the robot saw, and from above where it and the expert drove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from mobile_vla.closed_loop.failures import failure_of
from mobile_vla.closed_loop.results import EpisodeResult
from mobile_vla.closed_loop.rollout import Drive
from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.scene import BOTTLE_RADIUS_M, ROBOT_RADIUS_M, STEP_S, STOP_TOLERANCE_M, Scene

PICTURE_SIZE = (536, 384)
"""Width and height of every frame in pixels."""

TOP_VIEW_CORNER = (284, 12)
"""Where the top view's upper left pixel lies in the picture."""

TOP_VIEW_SIZE = (240, 360)

Colour = tuple[int, int, int]

# After Okabe and Ito (2008): these stay apart under every colour blindness. What only stands there is grey or beige.
DRIVEN: Colour = (213, 94, 0)
_EXPERT: Colour = (84, 116, 156)
_TARGET, _TOLERANCE = (0, 130, 95), (210, 238, 228)
_BOX, _BOX_EDGE = (214, 208, 196), (140, 132, 118)
_INK, _GREY, _PALE, _WHITE = (34, 34, 34), (120, 120, 120), (228, 228, 224), (255, 255, 255)

_LEFT, _CAMERA_TOP, _CAMERA_PX = 12, 40, 256
_DRIVEN_PX, _EXPERT_PX, _DASH_PX, _GAP_PX, _EDGE_PX = 5, 1.7, 6, 5, 1
_HOLD_MS = 1000

# Fewer colours make smaller files; one of a GIF's 256 is left to say what did not change.
_NUM_SEEN, _NUM_DRAWN = 96, 96

_FINER = 3
"""The top view is drawn this many times larger and then reduced, for smooth edges."""

_AROUND_M, _MARGIN_M, _WALL_M = 3.0, 0.15, 0.05

_TICK = (((0.0, 0.5), (-0.35, 0.1), (0.4, -0.5)),)
_CROSS = (((-0.4, -0.4), (0.4, 0.4)), ((-0.4, 0.4), (0.4, -0.4)))
"""Strokes in radii of the robot, (forward, left)."""


@dataclass(frozen=True, kw_only=True)
class TopView:
    """The floor from above, to scale, forward up and left to the left; ``centre`` (x, y) in metres is in the middle."""

    centre: tuple[float, float]
    px_per_m: float

    @classmethod
    def of(cls, drive: Drive) -> TopView:
        """Return the view of the whole room, in a large one of 3 m around the bottles and the drive."""
        room = drive.state.scene.room
        places = np.array([*drive.state.scene.bottles.values(), *drive.position])
        low = np.maximum(places.min(0) - _AROUND_M, (room.back_x, -room.half_width))
        high = np.minimum(places.max(0) + _AROUND_M, (room.front_x, room.half_width))
        # A robot that has left the room is still in the view.
        low, high = np.minimum(low, places.min(0)) - _MARGIN_M, np.maximum(high, places.max(0)) + _MARGIN_M
        width_px, height_px = TOP_VIEW_SIZE
        px_per_m = min(np.array([height_px, width_px]) / (high - low))
        return cls(centre=tuple((low + high) / 2), px_per_m=float(px_per_m))

    def pixels(self, places_m: ArrayLike) -> NDArray[np.float64]:
        """Return (column, row) from the view's upper left corner for floor places [..., 2] (x, y)."""
        offset = np.asarray(places_m, np.float64) - self.centre
        return np.array(TOP_VIEW_SIZE) / 2 - offset[..., ::-1] * self.px_per_m


def pick_videos(results: Sequence[EpisodeResult], *, count: int) -> dict[str, int]:
    """Return positions in ``results`` of up to ``count`` successes and failures, named success_1.. and failure_1..

    The earliest come first; of failures, the earliest of each type before the second of any.
    """
    num_before = Counter()
    ranked: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for position, result in enumerate(results):
        ranked[result.success].append((num_before[result.failure], position))
        num_before[result.failure] += 1
    return {
        f"{'success' if is_success else 'failure'}_{number}": position
        for is_success, group in ranked.items()
        for number, (_, position) in enumerate(sorted(group)[:count], start=1)
    }


def write_video(
    path: Path,
    drive: Drive,
    *,
    expert_path: NDArray[np.float64] | None,
    make_env: Callable[[], BottleEnv],
    title: str,
) -> None:
    """Write ``drive`` as a GIF: one frame a position, at the pace it was driven, the last one held for a second.

    ``expert_path`` [M, 2] is in metres, None where the expert found no way. ``make_env`` makes the world that was
    driven in: replaying the commands there gives the images again. The folder is made. Equal drives give equal bytes.
    """
    drawn = _quantized_drawings(_drawings(drive, expert_path, title))
    seen = _quantized_camera(_replay(drive, make_env()))
    colours = bytes([*(drawn[0].getpalette() or []), *(seen[0].getpalette() or [])])
    for frame, image in zip(drawn, seen, strict=True):
        frame.putpalette(colours)
        frame.paste(image.point(lambda index: index + _NUM_DRAWN), (_LEFT, _CAMERA_TOP))
    first, *rest = drawn
    pace_ms = [round(1000 * STEP_S)] * len(rest) + [_HOLD_MS]
    path.parent.mkdir(parents=True, exist_ok=True)
    # Optimizing leaves out the pixels that did not change.
    first.save(path, "GIF", save_all=True, append_images=rest, duration=pace_ms, loop=0, palette=colours, optimize=True)


def _replay(drive: Drive, env: BottleEnv) -> list[NDArray[np.uint8]]:
    observation, info = env.reset(options={"initial_state": drive.state})
    images = [observation["image"]]
    for command in drive.command:
        observation, _, _, _, info = env.step(command)
        images.append(observation["image"])
    assert np.allclose(info["position"], drive.position[-1]), "make_env made another world than was driven in"
    return images


def _quantized_camera(images: Sequence[NDArray[np.uint8]]) -> list[Image.Image]:
    """Return the images enlarged, in ``_NUM_SEEN`` colours in all; where that can be, each pixel becomes a square."""
    size = images[0].shape[0]
    if _CAMERA_PX % size:
        size = _CAMERA_PX
        smooth = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images]
        images = [np.asarray(image) for image in smooth]
    # The default method mixes the few pixels of a distant bottle into the floor.
    film = Image.fromarray(np.concatenate(images)).quantize(_NUM_SEEN, method=Image.Quantize.MAXCOVERAGE)
    frames = [film.crop((0, top, size, top + size)) for top in range(0, film.height, size)]
    return [frame.resize((_CAMERA_PX, _CAMERA_PX), Image.Resampling.NEAREST) for frame in frames]


def _quantized_drawings(drawings: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the drawings in ``_NUM_DRAWN`` colours, the commonest at the end: those are kept as they are."""
    last = drawings[-1]
    chosen: list[Colour] = []
    counted = cast("list[tuple[int, Colour]]", last.getcolors(last.width * last.height))
    for _, colour in sorted(counted, reverse=True):
        # Pillow takes colours for one another that differ by less.
        if not chosen or np.abs(np.subtract(chosen, colour)).max(1).min() >= 8:
            chosen.append(colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.resize(chosen, (_NUM_DRAWN, 3)).ravel().tolist())
    return [drawing.quantize(palette=palette, dither=Image.Dither.NONE) for drawing in drawings]


def _drawings(drive: Drive, expert_path: NDArray[np.float64] | None, title: str) -> list[Image.Image]:
    """Return all frames without the camera's image."""
    page = _page(drive, title)
    frames = []
    for step, top_view in enumerate(_top_views(drive, expert_path)):
        frame = page.copy()
        frame.paste(top_view, TOP_VIEW_CORNER)
        _write_status(frame, drive, step)
        frames.append(frame)
    return frames


def _page(drive: Drive, title: str) -> Image.Image:
    """Return what stays: title, instruction and legend."""
    page = Image.new("RGB", PICTURE_SIZE, _WHITE)
    draw = ImageDraw.Draw(page)
    draw.text((_LEFT, 12), _fitted(title, size=16, num_lines=1), _INK, _font(16))
    draw.text((_LEFT, 302), _fitted(drive.state.instruction, size=13, num_lines=2), _INK, _font(13), spacing=3)
    corner = np.array(TOP_VIEW_CORNER)
    draw.rectangle((*(corner - 1), *(corner + TOP_VIEW_SIZE)), outline=_PALE)
    _draw_legend(draw, px_per_m=TopView.of(drive).px_per_m)
    return page


def _draw_legend(draw: ImageDraw.ImageDraw, *, px_per_m: float) -> None:
    row, length = 346, 22
    expert, scale, scale_px = _LEFT + 88, _LEFT + 176, px_per_m / 2
    draw.line((_LEFT, row, _LEFT + length, row), DRIVEN, _DRIVEN_PX)
    for begin in range(expert, expert + length, _DASH_PX + _GAP_PX):
        draw.line((begin, row, begin + _DASH_PX, row), _EXPERT, 2)
    draw.line((scale, row - 3, scale, row, scale + scale_px, row, scale + scale_px, row - 3), _INK)
    for column, name in ((_LEFT + length, "driven"), (expert + length + 2, "expert"), (scale + scale_px, "0.5 m")):
        draw.text((column + 6, row), name, _INK, _font(12), anchor="lm")


def _write_status(frame: Image.Image, drive: Drive, step: int) -> None:
    text = f"{step * STEP_S:.1f} s"
    if step == len(drive.command):
        text += f"   {_ending(drive)}"
    ImageDraw.Draw(frame).text((_LEFT, 365), _fitted(text, size=13, num_lines=1), _INK, _font(13), anchor="lm")


def _ending(drive: Drive) -> str:
    """Say how it ended, for example ``collision with box_0: late turn``."""
    outcome, failure = drive.outcome.replace("_", " "), failure_of(drive)
    if drive.outcome == "collision":
        outcome += f" with {drive.touched}"
    return outcome if failure is None else f"{outcome}: {failure.replace('_', ' ')}"


def _fitted(text: str, *, size: int, num_lines: int) -> str:
    """Break ``text`` into lines as wide as the camera's image; what does not fit ends in dots."""
    length = _font(size).getlength
    lines: list[str] = []
    for word in text.split():
        if lines and length(f"{lines[-1]} {word}") <= _CAMERA_PX:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    lines[num_lines - 1 :] = [" ".join(lines[num_lines - 1 :])]
    for row, line in enumerate(lines):
        while length(lines[row]) > _CAMERA_PX:
            line = line[:-1]
            lines[row] = f"{line}…"
    return "\n".join(lines)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _top_views(drive: Drive, expert_path: NDArray[np.float64] | None) -> Iterator[Image.Image]:
    """Yield the top view at every position, with the path driven so far."""
    view = TopView.of(drive)
    outside = _PALE if drive.state.scene.room.wall_height > 0 else _WHITE
    floor = Image.new("RGB", (TOP_VIEW_SIZE[0] * _FINER, TOP_VIEW_SIZE[1] * _FINER), outside)
    pen = _Pen(image=floor, view=view)
    _draw_scene(pen, drive.state.scene)
    for step, place in enumerate(drive.position):
        pen.line(drive.position[max(step - 1, 0) : step + 1], DRIVEN, width_px=_DRIVEN_PX)
        picture = floor.copy()
        pen_above = _Pen(image=picture, view=view)
        if expert_path is not None:
            _draw_dashes(pen_above, expert_path)
        pen_above.disc(place, ROBOT_RADIUS_M, _INK, _WHITE)
        if step == len(drive.command):
            for stroke in _TICK if drive.outcome == "success" else _CROSS:
                pen_above.line(place + np.array(stroke) * ROBOT_RADIUS_M, _WHITE, width_px=2)
        yield picture.reduce(_FINER)


class _Pen:
    """Draws on an image ``_FINER`` times as large as the top view: places and radii in metres, widths in its pixels."""

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
        """Draw through places [N, 2], with round corners and ends."""
        places, width = self._at(way), round(width_px * _FINER)
        self._draw.line(places.ravel().tolist(), colour, width)
        for place in places.tolist():
            self._draw.circle(place, width / 2, colour)

    def _at(self, places_m: ArrayLike) -> NDArray[np.float64]:
        return self.view.pixels(places_m) * _FINER


def _draw_scene(pen: _Pen, scene: Scene) -> None:
    """Draw what stands in the room; the named bottle alone is filled and has its place marked."""
    room = scene.room
    back_right, front_left = np.array([room.back_x, -room.half_width]), np.array([room.front_x, room.half_width])
    if room.wall_height > 0:
        pen.rectangle(back_right - _WALL_M, front_left + _WALL_M, _GREY)
        pen.rectangle(back_right, front_left, _WHITE)
    pen.disc(scene.goal(), STOP_TOLERANCE_M, _TOLERANCE, _TARGET)
    for box in scene.boxes:
        centre, half = np.array([box.x, box.y]), np.array([box.half_x, box.half_y])
        pen.rectangle(centre - half, centre + half, _BOX, _BOX_EDGE)
    for side, place in scene.bottles.items():
        is_named = side == scene.scenario.side
        pen.disc(place, BOTTLE_RADIUS_M, _TARGET if is_named else _WHITE, _TARGET if is_named else _GREY)


def _draw_dashes(pen: _Pen, way: NDArray[np.float64]) -> None:
    along_m = np.cumsum([0.0, *np.hypot(*np.diff(way, axis=0).T)])
    every_px = np.arange(0, along_m[-1] * pen.view.px_per_m) / pen.view.px_per_m
    places = np.stack([np.interp(every_px, along_m, way[:, axis]) for axis in (0, 1)], axis=-1)
    for begin in range(0, len(places), _DASH_PX + _GAP_PX):
        pen.line(places[begin : begin + _DASH_PX], _EXPERT, width_px=_EXPERT_PX)
