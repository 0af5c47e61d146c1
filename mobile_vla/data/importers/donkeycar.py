"""Turn a DonkeyCar tub into episode files.

A tub has no episodes, no instruction and normalised commands. Episodes are the runs of frames between breaks (deleted
frames, another session, missing indexes, gaps of the clock), cut to a longest length. The commands, each times a scale,
become ``linear_x = throttle``, ``linear_y = 0`` and ``angular_z = -angle`` (DonkeyCar's + is right, ours is left).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.importers.import_report import ImportReport
from mobile_vla.data.importers.tub import Record, Tub, read_tub
from mobile_vla.data.importers.tub_split import EpisodePlan, TubOptions, plan_episodes
from mobile_vla.errors import DataError
from mobile_vla.progress import track

MAX_PLAUSIBLE_RATE_HZ = 100.0
"""Above this, time stamps tell when a file was written and not when a frame was taken."""


def import_tub(tub: Path, out: Path, options: TubOptions) -> ImportReport:
    """Write the episodes of ``tub`` into the new folder ``out`` and report what was done.

    ``out`` appears by one rename when it is whole; after an error nothing is left behind. Raises DataError for a tub
    that cannot be used and for an ``out`` that holds something.
    """
    _check_out(out)
    source = read_tub(tub)
    plan = plan_episodes(source.records, source.deleted, options)
    _check_any_episode(source, plan, options)
    _check_images_exist(source, plan.episodes)
    frame_rate_hz, step_ms = _frame_rate(plan.episodes, options)
    actions = [_actions(episode, options) for episode in plan.episodes]
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as staging:
        folder = Path(staging) / "episodes"
        folder.mkdir()
        _write_all(source, plan.episodes, actions, folder, options, frame_rate_hz)
        folder.rename(place)
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
        lengths=tuple(map(len, plan.episodes)),
        frame_rate_hz=frame_rate_hz,
        linear_x=(float(commands[:, 0].min()), float(commands[:, 0].max())),
        angular_z=(float(commands[:, 2].min()), float(commands[:, 2].max())),
        warnings=tuple(_warnings(plan, options, frame_rate_hz, step_ms)),
    )


def _check_out(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
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
    raise DataError(
        f"{source.path} gives no episode: {found}. "
        "Restore frames in DonkeyCar (`deleted_indexes` in manifest.json), or name another tub."
    )


def _check_images_exist(source: Tub, episodes: Sequence[Sequence[Record]]) -> None:
    folder = source.path / "images"
    if not folder.is_dir():
        raise DataError(f"{folder} is missing, but the tub's images belong there. Copy the whole tub.")
    present = set(os.listdir(folder))
    missing = [record for episode in episodes for record in episode if record.image not in present]
    if missing:
        raise DataError(
            f"{source.image_path(missing[0])} is missing, but frame {missing[0].index} names it "
            f"({len(missing):,} images are missing in all). Copy them, or mark their frames deleted."
        )


def _frame_rate(episodes: Sequence[Sequence[Record]], options: TubOptions) -> tuple[float | None, float]:
    """Return the frame rate in Hz (given, or the clock's; None if not believable) and the clock's step in ms."""
    steps_ms = np.concatenate([np.diff([record.timestamp_ms for record in episode]) for episode in episodes])
    step_ms = float(np.median(steps_ms)) if len(steps_ms) else 0.0
    if options.frame_rate_hz is not None:
        return options.frame_rate_hz, step_ms
    return (1000 / step_ms if step_ms * MAX_PLAUSIBLE_RATE_HZ >= 1000 else None), step_ms


def _warnings(plan: EpisodePlan, options: TubOptions, frame_rate_hz: float | None, step_ms: float) -> Iterator[str]:
    if frame_rate_hz is None:
        yield (
            f"time stamps are {step_ms:g} ms apart: they tell when the tub was converted, not how fast it was driven, "
            "so the episodes get no frame rate. Give the true one as frame_rate_hz."
        )
    if plan.num_cut_runs > 0:
        yield (
            f"{plan.num_cut_runs} runs were cut at {options.max_frames} frames: the frames beside a cut look alike, "
            "and a split by episode may put one side in train and one in val. max_frames none keeps runs whole."
        )
    if options.throttle_scale == options.angle_scale == 1:
        yield (
            "throttle_scale and angle_scale are 1, so the commands are DonkeyCar's normalised ones: 1 m/s stands for "
            "full throttle and 1 rad/s for full angle."
        )


def _actions(episode: Sequence[Record], options: TubOptions) -> NDArray[np.float32]:
    """Return the commands [F, 3]: m/s forward, 0 sideways, rad/s counter-clockwise."""
    throttle = np.array([record.throttle for record in episode]) * options.throttle_scale
    angle = np.array([record.angle for record in episode]) * options.angle_scale
    return np.stack([throttle, np.zeros_like(throttle), 0.0 - angle], axis=1).astype(np.float32)


def _write_all(
    source: Tub,
    episodes: Sequence[Sequence[Record]],
    actions: Sequence[NDArray[np.float32]],
    folder: Path,
    options: TubOptions,
    frame_rate_hz: float | None,
) -> None:
    """Write every episode, several at a time."""

    def write(number: int) -> None:
        episode = episodes[number]
        write_episode(
            folder / f"{_episode_name(episode[0], number)}.h5",
            images_FYXC=_read_images(source, episode),
            actions_FA=actions[number],
            instruction=options.instruction,
            attributes=_attributes(source, episode, options, frame_rate_hz),
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(track(pool.map(write, range(len(episodes))), description="writing episodes", total=len(episodes)))


def _episode_name(first: Record, number: int) -> str:
    """Return date and time (UTC) as the collector writes them, and a number: two may begin in the same second."""
    began = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
    return f"episode_{began:%Y%m%d_%H%M%S}_{number:05d}"


def _attributes(
    source: Tub, episode: Sequence[Record], options: TubOptions, frame_rate_hz: float | None
) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        "source_tub": source.path.resolve().name,
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


def _read_images(source: Tub, episode: Sequence[Record]) -> NDArray[np.uint8]:
    """Decode an episode's images to RGB [F, Y, X, C] at their own size, which must not change on the way."""
    images = [_read_image(source.image_path(record)) for record in episode]
    for record, image in zip(episode, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{source.image_path(record)} is {_size(image)}, but its episode began with {_size(images[0])} px. "
                "Mark the frames of one size deleted, or import them as separate tubs."
            )
    return np.stack(images)


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise DataError(
            f"{path} is not a readable image ({error}). Copy it again, or mark its frame deleted."
        ) from error
