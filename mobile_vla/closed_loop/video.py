"""Write a drive as an animated GIF: the camera's images beside a top view with the robot's and the expert's path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mobile_vla.closed_loop.failures import failure_of
from mobile_vla.closed_loop.results import EpisodeResult
from mobile_vla.closed_loop.rollout import Drive
from mobile_vla.closed_loop.top_view import (
    DASH_PX,
    DRIVEN,
    DRIVEN_PX,
    EXPERT,
    GAP_PX,
    INK,
    PALE,
    TOP_VIEW_SIZE,
    WHITE,
    Colour,
    TopView,
    top_views,
)
from mobile_vla.sim.scene import STEP_S

if TYPE_CHECKING:
    from mobile_vla.sim.environment import BottleEnv

PICTURE_SIZE = (536, 384)
"""Width and height of every frame in pixels."""

TOP_VIEW_CORNER = (284, 12)
"""Position (column, row) of the top view's upper left pixel in the picture."""

_LEFT, _CAMERA_TOP, _CAMERA_PX = 12, 40, 256
_HOLD_MS = 1000

# Fewer colours make smaller files. The sum must stay below the 256 of a GIF: one index is needed for "transparent",
# which marks pixels that did not change.
_NUM_SEEN, _NUM_DRAWN = 96, 96


def pick_videos(results: Sequence[EpisodeResult], *, count: int) -> dict[str, int]:
    """Return indices in ``results`` of up to ``count`` successes and failures, named success_1.. and failure_1..

    The earliest come first. Among failures, the first of each type comes before the second of any type.
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
    """Write ``drive`` as a GIF: one frame per position, in real time, with the last frame held for a second.

    ``expert_path`` [M, 2] is in metres, None if the expert found no way. ``make_env`` makes the world of the drive:
    replaying the commands there renders the images again, so that a rollout need not keep them. The folder is created.
    Equal drives give equal bytes.
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
    # ``optimize`` leaves out pixels that did not change.
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
    """Return the images enlarged, with ``_NUM_SEEN`` colours in all; each pixel becomes a square if sizes allow it."""
    size = images[0].shape[0]
    if _CAMERA_PX % size:
        size = _CAMERA_PX
        smooth = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images]
        images = [np.asarray(image) for image in smooth]
    # All images are quantised together, to share one palette. Median cut, the default method, would merge the few
    # pixels of a distant bottle with the floor.
    film = Image.fromarray(np.concatenate(images)).quantize(_NUM_SEEN, method=Image.Quantize.MAXCOVERAGE)
    frames = [film.crop((0, top, size, top + size)) for top in range(0, film.height, size)]
    return [frame.resize((_CAMERA_PX, _CAMERA_PX), Image.Resampling.NEAREST) for frame in frames]


def _quantized_drawings(drawings: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the drawings with ``_NUM_DRAWN`` colours: the most frequent ones of the last drawing, unchanged."""
    last = drawings[-1]
    chosen: list[Colour] = []
    counted = cast("list[tuple[int, Colour]]", last.getcolors(last.width * last.height))
    for _, colour in sorted(counted, reverse=True):
        # Pillow treats colours that differ by less than this as equal.
        if not chosen or np.abs(np.subtract(chosen, colour)).max(1).min() >= 8:
            chosen.append(colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.resize(chosen, (_NUM_DRAWN, 3)).ravel().tolist())
    return [drawing.quantize(palette=palette, dither=Image.Dither.NONE) for drawing in drawings]


def _drawings(drive: Drive, expert_path: NDArray[np.float64] | None, title: str) -> list[Image.Image]:
    """Return all frames without the camera's image."""
    page = _page(drive, title)
    frames = []
    for step, top_view in enumerate(top_views(drive, expert_path)):
        frame = page.copy()
        frame.paste(top_view, TOP_VIEW_CORNER)
        _write_status(frame, drive, step)
        frames.append(frame)
    return frames


def _page(drive: Drive, title: str) -> Image.Image:
    """Return the parts that are the same in all frames: title, instruction and legend."""
    page = Image.new("RGB", PICTURE_SIZE, WHITE)
    draw = ImageDraw.Draw(page)
    draw.text((_LEFT, 12), _fitted(title, size=16, num_lines=1), INK, _font(16))
    draw.text((_LEFT, 302), _fitted(drive.state.instruction, size=13, num_lines=2), INK, _font(13), spacing=3)
    corner = np.array(TOP_VIEW_CORNER)
    draw.rectangle((*(corner - 1), *(corner + TOP_VIEW_SIZE)), outline=PALE)
    _draw_legend(draw, px_per_m=TopView.of(drive).px_per_m)
    return page


def _draw_legend(draw: ImageDraw.ImageDraw, *, px_per_m: float) -> None:
    row, length = 346, 22
    expert, scale, scale_px = _LEFT + 88, _LEFT + 176, px_per_m / 2
    draw.line((_LEFT, row, _LEFT + length, row), DRIVEN, DRIVEN_PX)
    for begin in range(expert, expert + length, DASH_PX + GAP_PX):
        draw.line((begin, row, begin + DASH_PX, row), EXPERT, 2)
    draw.line((scale, row - 3, scale, row, scale + scale_px, row, scale + scale_px, row - 3), INK)
    for column, name in ((_LEFT + length, "driven"), (expert + length + 2, "expert"), (scale + scale_px, "0.5 m")):
        draw.text((column + 6, row), name, INK, _font(12), anchor="lm")


def _write_status(frame: Image.Image, drive: Drive, step: int) -> None:
    text = f"{step * STEP_S:.1f} s"
    if step == len(drive.command):
        text += f"   {_ending(drive)}"
    ImageDraw.Draw(frame).text((_LEFT, 365), _fitted(text, size=13, num_lines=1), INK, _font(13), anchor="lm")


def _ending(drive: Drive) -> str:
    """Return how the drive ended, for example ``collision with box_0: late turn``."""
    outcome, failure = drive.outcome.replace("_", " "), failure_of(drive)
    if drive.outcome == "collision":
        outcome += f" with {drive.touched}"
    return outcome if failure is None else f"{outcome}: {failure.replace('_', ' ')}"


def _fitted(text: str, *, size: int, num_lines: int) -> str:
    """Break ``text`` into lines as wide as the camera's image; text that does not fit is cut with an ellipsis."""
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
