"""The importer that converts a DonkeyCar tub to episode files.

A tub has no episodes and no instruction, and its commands are normalised. The episodes are the runs of frames between
breaks (deleted frames, another session, missing indexes, gaps of the clock), cut to a maximum length. The commands,
each multiplied by a scale, become ``linear_x = throttle``, ``linear_y = 0`` and ``angular_z = -angle`` (a positive
angle is to the right in DonkeyCar, a positive ``angular_z`` to the left).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.importers.import_report import ImportReport
from mobile_vla.data.importers.tub import Record, Tub, read_tub
from mobile_vla.data.importers.tub_folder import TubFolder, look_through
from mobile_vla.data.importers.tub_images import image_size, read_image
from mobile_vla.data.importers.tub_split import EpisodePlan, TubOptions, plan_episodes
from mobile_vla.errors import DataError
from mobile_vla.process.progress_bar import track
from mobile_vla.storage.disk import storage_errors
from mobile_vla.text import shortened
from mobile_vla.text import sizes as byte_texts

_MAX_EPISODE_BYTES = 2 * 2**30
"""Maximum size of an episode's images before compression: half an hour at 20 Hz and 160x120.

The writer keeps the compressed images in memory twice; compressed, they are half as large or less.
"""

_MAX_BYTES_AT_ONCE = 2**29
"""Maximum size of the images (before compression) of the episodes that are written in parallel."""

MAX_PLAUSIBLE_RATE_HZ = 100.0
"""At higher rates the time stamps are those of a file conversion and not of the camera."""


def import_tub(tub: Path, out: Path, options: TubOptions) -> ImportReport:
    """Write the episodes of ``tub`` into the new folder ``out`` and return a report.

    The complete folder is renamed to ``out`` at the end; after an error nothing is left on the disk. Raises
    ``UserError`` for a tub that cannot be used, for an ``out`` that is not empty, and for a disk that does not accept
    the episodes.
    """
    _check_out(out)
    source = read_tub(tub)
    plan = plan_episodes(source.records, source.deleted, options)
    _check_any_episode(source, plan, options)
    folder = look_through(source)
    _check_images(source, plan.episodes, folder)
    frame_rate_hz, step_ms = _frame_rate(plan.episodes, options)
    actions = [_actions(episode, options) for episode in plan.episodes]
    _write_out(source, plan.episodes, actions, out, options, frame_rate_hz)
    commands = np.concatenate(actions)
    return ImportReport(
        source=tub,
        out=out,
        num_records=len(source.records) + source.num_deleted,
        num_deleted=source.num_deleted,
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
        linear_x=(float(commands[:, 0].min()), float(commands[:, 0].max())),
        angular_z=(float(commands[:, 2].min()), float(commands[:, 2].max())),
        warnings=(*_tub_warnings(source, folder), *_warnings(plan, options, frame_rate_hz, step_ms)),
    )


def _check_out(out: Path) -> None:
    with storage_errors(out, what="the episodes"):
        if out.is_mount():  # a folder cannot be renamed to a mount point
            raise DataError(f"{out} is a whole disk (a mount point). Name a new folder in it.")
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return
    raise DataError(f"{out} exists and is not an empty folder. Name a new folder, or remove this one first.")


def _check_any_episode(source: Tub, plan: EpisodePlan, options: TubOptions) -> None:
    if plan.episodes:
        return
    if plan.num_runs > 0:
        raise DataError(
            f"{source.path} gives no episode: the longest of its {plan.num_runs} runs has {plan.longest_run} frames "
            f"and min_frames is {options.min_frames}. Give a smaller min_frames, or switch off a splitting rule."
        )
    found = f"all {source.num_deleted:,} frames are marked deleted" if source.num_deleted else "it holds no records"
    if source.empty_catalog is not None:
        found += f" ({source.empty_catalog} is empty)"
    raise DataError(
        f"{source.path} gives no episode: {found}. "
        "Restore frames in DonkeyCar (`deleted_indexes` in manifest.json), or name another tub."
    )


def _check_images(source: Tub, episodes: Sequence[Sequence[Record]], folder: TubFolder) -> None:
    missing = [record for episode in episodes for record in episode if record.image not in folder.images]
    if missing:
        raise DataError(
            f"{source.image_path(missing[0])} is missing, but frame {missing[0].index} names it "
            f"({len(missing):,} images are missing in all). Copy them, or mark their frames deleted."
        )
    first: dict[str, Record] = {}
    for record in (record for episode in episodes for record in episode):
        if first.setdefault(record.image, record) is not record:
            raise DataError(
                f"{source.image_path(record)} is named by frame {first[record.image].index} and by frame "
                f"{record.index}; expected one image a frame. Mark one of them deleted."
            )


def _frame_rate(episodes: Sequence[Sequence[Record]], options: TubOptions) -> tuple[float | None, float]:
    """Return the frame rate in Hz and the median step between time stamps in ms.

    The rate is the given one, or that of the time stamps; None where these are not plausible.
    """
    # The median: a few long pauses between frames must not change the rate.
    steps_ms = np.concatenate([np.diff([record.timestamp_ms for record in episode]) for episode in episodes])
    step_ms = float(np.median(steps_ms)) if len(steps_ms) else 0.0
    if options.frame_rate_hz is not None:
        return options.frame_rate_hz, step_ms
    return (1000 / step_ms if step_ms * MAX_PLAUSIBLE_RATE_HZ >= 1000 else None), step_ms


def _tub_warnings(source: Tub, folder: TubFolder) -> Iterator[str]:
    num_found = len(source.records) + source.num_deleted
    if source.num_written is not None and source.num_written != num_found:
        yield (
            f"manifest.json counts {source.num_written:,} records and the catalogs hold {num_found:,}: some were lost, "
            "removed or added. Copy the tub again if you expected them all."
        )
    if source.empty_catalog is not None:
        yield f"{source.empty_catalog} holds no record: if the car wrote some to it, they never reached the disk."
    unnamed = [name for name in folder.unnamed_catalogs if not name.startswith(".")]
    if unnamed:
        yield (
            f"{shortened(unnamed, limit=4)}: not imported, because `paths` in manifest.json does not name "
            f"{'it' if len(unnamed) == 1 else 'them'}. Add the name there if its records belong to this tub."
        )


def _warnings(plan: EpisodePlan, options: TubOptions, frame_rate_hz: float | None, step_ms: float) -> Iterator[str]:
    if frame_rate_hz is None:
        yield (
            f"time stamps are {step_ms:g} ms apart: they tell when the tub was converted, not how fast it was driven, "
            "so the episodes get no frame rate. Give the true one as frame_rate_hz."
        )
    if plan.num_cut_runs > 0:
        yield (
            f"{plan.num_cut_runs} runs were cut at {options.max_frames} frames: the frames next to a cut look alike, "
            "and a split by episode may put one side in train and one in val. max_frames none keeps runs whole."
        )
    if options.throttle_scale == options.angle_scale == 1:
        yield (
            "throttle_scale and angle_scale are 1, so the commands are DonkeyCar's normalised ones: 1 m/s stands for "
            "full throttle and 1 rad/s for full angle."
        )


def _actions(episode: Sequence[Record], options: TubOptions) -> NDArray[np.float32]:
    """Return the actions [F, 3] of an episode: m/s forward, 0 sideways, rad/s counter-clockwise."""
    throttle = np.array([record.throttle for record in episode]) * options.throttle_scale
    angle = np.array([record.angle for record in episode]) * options.angle_scale
    # 0.0 - angle and not -angle, which would give -0.0 for a straight drive.
    return np.stack([throttle, np.zeros_like(throttle), 0.0 - angle], axis=1).astype(np.float32)


def _write_out(
    source: Tub,
    episodes: Sequence[Sequence[Record]],
    actions: Sequence[NDArray[np.float32]],
    out: Path,
    options: TubOptions,
    frame_rate_hz: float | None,
) -> None:
    """Write all episodes into a temporary folder next to ``out``, several in parallel, and rename it to ``out``."""
    sizes = [image_size(source.image_path(episode[0])) for episode in episodes]
    num_bytes = [3 * columns * rows * len(episode) for (columns, rows), episode in zip(sizes, episodes, strict=True)]
    _check_memory(source, episodes, num_bytes)
    place = out.resolve()
    written = [0] * len(episodes)  # bytes of each file, to estimate the total size for the message of a full disk

    def write(number: int, folder: Path) -> None:
        episode, size = episodes[number], sizes[number]
        path = folder / f"{_episode_name(episode[0], number)}.h5"
        write_episode(
            path,
            images_FYXC=(read_image(source.image_path(record), size=size) for record in episode),
            actions_FA=actions[number],
            instruction=options.instruction,
            attributes=_attributes(source, episode, options, frame_rate_hz),
        )
        written[number] = path.stat().st_size

    with storage_errors(out, what="the episodes", num_bytes=lambda: _expected_size(written, num_bytes)):
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as staging:
            folder = Path(staging) / "episodes"
            folder.mkdir()
            num_threads = max(1, min(os.cpu_count() or 1, _MAX_BYTES_AT_ONCE // max(num_bytes)))
            with ThreadPoolExecutor(num_threads) as pool:
                done = pool.map(write, range(len(episodes)), repeat(folder))
                list(track(done, description="writing episodes", total=len(episodes)))
            folder.rename(place)


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


def _episode_name(first: Record, number: int) -> str:
    """Return the name of an episode: date and time (UTC) in the collector's format, and ``number``.

    The number makes it unique, because two episodes may begin in the same second.
    """
    began = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
    return f"episode_{began:%Y%m%d_%H%M%S}_{number:05d}"


def _attributes(
    source: Tub, episode: Sequence[Record], options: TubOptions, frame_rate_hz: float | None
) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        "source_tub": source.path.resolve().name.encode("utf-8", "backslashreplace").decode(),
        "first_index": episode[0].index,
        "last_index": episode[-1].index,
        "throttle_scale": options.throttle_scale,
        "angle_scale": options.angle_scale,
    }
    if episode[0].session_id is not None:
        attributes["session_id"] = episode[0].session_id
    if frame_rate_hz is not None:
        attributes["frame_rate_hz"] = frame_rate_hz
    return attributes
