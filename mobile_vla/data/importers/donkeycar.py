"""The importer that converts a DonkeyCar tub to episode files.

The episodes and their commands are those of ``mobile_vla.data.sources.tubs``, which reads a tub without a conversion.
The files have a third column, ``linear_y``, that is 0: the flat layout's columns are the same for all robots.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.episode_writer import CAMERA, write_episode
from mobile_vla.data.importers.import_report import ImportReport
from mobile_vla.data.importers.written_text import WrittenText
from mobile_vla.data.sources.tubs.episodes import (
    check_any_episode,
    check_own_images,
    command_signals,
    commands,
    episode_name,
    frame_rate,
    missing_image,
    oddities,
)
from mobile_vla.data.sources.tubs.folder import look_through
from mobile_vla.data.sources.tubs.images import image_size, read_image
from mobile_vla.data.sources.tubs.split import TubOptions, plan_episodes
from mobile_vla.data.sources.tubs.tub import Record, Tub, read_tub
from mobile_vla.errors import DataError
from mobile_vla.process.progress_bar import track
from mobile_vla.spec import Camera, Spec, known_signal
from mobile_vla.storage.new_folder import check_new, new_folder
from mobile_vla.text import sizes as byte_texts

_WHAT = "the episodes"

_MAX_EPISODE_BYTES = 2 * 2**30
"""Maximum size of an episode's images before compression: half an hour at 20 Hz and 160x120.

The writer keeps the compressed images in memory twice; compressed, they are half as large or less.
"""

_MAX_BYTES_AT_ONCE = 2**29
"""Maximum size of the images (before compression) of the episodes that are written in parallel."""


def import_tub(tub: Path, out: Path, options: TubOptions, *, text: WrittenText | None = None) -> ImportReport:
    """Write the episodes of ``tub`` into the new folder ``out`` and return a report.

    The complete folder is renamed to ``out`` at the end; after an error nothing is left on the disk. Raises
    ``UserError`` for a tub that cannot be used, for an ``out`` that is not empty, and for a disk that does not accept
    the episodes.
    """
    check_new(out, what=_WHAT)
    source = read_tub(tub)
    plan = plan_episodes(source.records, source.deleted, options, autopilot=source.autopilot)
    check_any_episode(source, plan, options)
    folder = look_through(source)
    if missing := missing_image(source, [record for episode in plan.episodes for record in episode], folder):
        raise missing
    check_own_images(source, plan.episodes)
    frame_rate_hz, _ = frame_rate(plan.episodes, options)
    actions = [_actions(episode, options) for episode in plan.episodes]
    _write_out(
        source,
        plan.episodes,
        actions,
        out,
        options,
        frame_rate_hz=frame_rate_hz,
        instruction=(text or WrittenText()).instruction,
    )
    values = np.concatenate(actions)
    signals = command_signals(options)
    return ImportReport(
        source=tub,
        out=out,
        num_records=source.num_records,
        num_deleted=source.num_deleted,
        num_autopilot=source.num_autopilot,
        breaks=plan.breaks,
        num_runs=plan.num_runs,
        num_cut_runs=plan.num_cut_runs,
        num_short_runs=len(plan.short_runs),
        num_short_run_frames=sum(map(len, plan.short_runs)),
        num_tails=len(plan.tails),
        num_tail_frames=sum(map(len, plan.tails)),
        left_aside=folder.left_aside,
        lengths=tuple(map(len, plan.episodes)),
        frame_rate_hz=frame_rate_hz,
        linear_x=(float(values[:, 0].min()), float(values[:, 0].max())),
        angular_z=(float(values[:, 2].min()), float(values[:, 2].max())),
        units=(str(signals[0].unit), str(signals[1].unit)),
        warnings=tuple(oddities(source, folder, plan, options)),
    )


def _actions(episode: Sequence[Record], options: TubOptions) -> NDArray[np.float32]:
    """Return the actions [F, 3] of an episode: ``linear_x``, 0 for ``linear_y``, and ``angular_z``."""
    return np.insert(commands(episode, options), 1, 0.0, axis=1)


def _spec(size: tuple[int, int], options: TubOptions, frame_rate_hz: float | None) -> Spec:
    linear_x, angular_z = command_signals(options)
    return Spec(
        actions=(linear_x, replace(known_signal("linear_y"), unit=linear_x.unit), angular_z),
        cameras=(Camera(name=CAMERA, rows=size[1], columns=size[0]),),
        rate_hz=frame_rate_hz,
    )


def _write_out(
    source: Tub,
    episodes: Sequence[Sequence[Record]],
    actions: Sequence[NDArray[np.float32]],
    out: Path,
    options: TubOptions,
    *,
    frame_rate_hz: float | None,
    instruction: str,
) -> None:
    """Write all episodes into a temporary folder next to ``out``, several in parallel, and rename it to ``out``."""
    sizes = [image_size(source.image_path(episode[0])) for episode in episodes]
    num_bytes = [3 * columns * rows * len(episode) for (columns, rows), episode in zip(sizes, episodes, strict=True)]
    _check_memory(source, episodes, num_bytes)
    written = [0] * len(episodes)  # bytes of each file, to estimate the total size for the message of a full disk

    def write(number: int, folder: Path) -> None:
        episode, size = episodes[number], sizes[number]
        path = folder / f"{episode_name(episode[0], number)}.h5"
        write_episode(
            path,
            images_FYXC=(read_image(source.image_path(record), size=size) for record in episode),
            actions_FA=actions[number],
            instruction=instruction,
            spec=_spec(size, options, frame_rate_hz),
            attributes=_attributes(source, episode, options, frame_rate_hz),
        )
        written[number] = path.stat().st_size

    with new_folder(out, what=_WHAT, num_bytes=lambda: _expected_size(written, num_bytes)) as folder:
        num_threads = max(1, min(os.cpu_count() or 1, _MAX_BYTES_AT_ONCE // max(num_bytes)))
        with ThreadPoolExecutor(num_threads) as pool:
            done = pool.map(write, range(len(episodes)), repeat(folder))
            list(track(done, description="writing episodes", total=len(episodes)))


def _check_memory(source: Tub, episodes: Sequence[Sequence[Record]], num_bytes: Sequence[int]) -> None:
    """Raise ``DataError`` where an episode is too long to be composed in memory."""
    for episode, size in zip(episodes, num_bytes, strict=True):
        if size > _MAX_EPISODE_BYTES:
            raise DataError(
                f"{source.path}: the episode from frame {episode[0].index} has {len(episode):,} images, "
                f"{byte_texts(size)[0]} in all; expected at most {byte_texts(_MAX_EPISODE_BYTES)[0]} an "
                f"episode. Give max_frames {len(episode) * _MAX_EPISODE_BYTES // size} or less."
            )


def _expected_size(written: Sequence[int], num_bytes: Sequence[int]) -> int:
    """Return the estimated size of all files in bytes.

    The compression ratio of the files written so far is applied to all; before the first, the images count as they are.
    """
    of_written = sum(raw for raw, size in zip(num_bytes, written, strict=True) if size)
    return sum(num_bytes) if of_written == 0 else sum(written) * sum(num_bytes) // of_written


def _attributes(
    source: Tub, episode: Sequence[Record], options: TubOptions, frame_rate_hz: float | None
) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        "source_tub": source.path.resolve().name.encode("utf-8", "backslashreplace").decode(),
        "first_index": episode[0].index,
        "last_index": episode[-1].index,
    }
    for name in ("throttle_scale", "angle_scale"):
        if (scale := getattr(options, name)) is not None:
            attributes[name] = scale
    if episode[0].session_id is not None:
        attributes["session_id"] = episode[0].session_id
    if frame_rate_hz is not None:
        attributes["frame_rate_hz"] = frame_rate_hz
    return attributes
