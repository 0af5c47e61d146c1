"""The episodes of a DonkeyCar tub: their commands, names, rate and images, and what the driver should know.

A tub has no episodes, and its commands are normalised. The episodes are the runs of frames between breaks (frames that
are deleted or that a pilot drove, another session, missing indexes, gaps of the clock), cut to a maximum length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.tubs.folder import TubFolder
from mobile_vla.data.sources.tubs.split import EpisodePlan, TubOptions
from mobile_vla.data.sources.tubs.tub import Record, Tub
from mobile_vla.errors import DataError
from mobile_vla.spec import NORMALISED, Signal, known_signal
from mobile_vla.text import shortened

MAX_PLAUSIBLE_RATE_HZ = 100.0
"""At higher rates the time stamps are those of a file conversion and not of the camera."""


def commands(episode: Sequence[Record], options: TubOptions) -> NDArray[np.float32]:
    """Return the commands [F, 2] of an episode: ``linear_x = throttle`` and ``angular_z = -angle``.

    A positive angle is to the right in DonkeyCar, a positive ``angular_z`` to the left. Each is multiplied by its
    scale where there is one.
    """
    throttle = np.array([record.throttle for record in episode]) * (options.throttle_scale or 1.0)
    angle = np.array([record.angle for record in episode]) * (options.angle_scale or 1.0)
    # 0.0 - angle and not -angle, which would give -0.0 for a straight drive.
    return np.stack([throttle, 0.0 - angle], axis=1).astype(np.float32)


def command_signals(options: TubOptions) -> tuple[Signal, Signal]:
    """Return the signals of ``commands``: in m/s and rad/s where the user gave the scale, otherwise normalised."""
    linear_x, angular_z = known_signal("linear_x"), known_signal("angular_z")
    return (
        linear_x if options.throttle_scale is not None else replace(linear_x, unit=NORMALISED),
        angular_z if options.angle_scale is not None else replace(angular_z, unit=NORMALISED),
    )


def episode_name(first: Record, number: int) -> str:
    """Return the name of an episode: date and time (UTC) in the collector's format, and ``number``.

    The number makes it unique, because two episodes may begin in the same second.
    """
    began = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
    return f"episode_{began:%Y%m%d_%H%M%S}_{number:05d}"


def frame_rate(episodes: Sequence[Sequence[Record]], options: TubOptions) -> tuple[float | None, float]:
    """Return the frame rate in Hz and the median step between time stamps in ms.

    The rate is the given one, or that of the time stamps; None where these are not plausible.
    """
    # The median: a few long pauses between frames must not change the rate.
    steps_ms = np.concatenate([np.diff([record.timestamp_ms for record in episode]) for episode in episodes])
    step_ms = float(np.median(steps_ms)) if len(steps_ms) else 0.0
    if options.frame_rate_hz is not None:
        return options.frame_rate_hz, step_ms
    return (1000 / step_ms if step_ms * MAX_PLAUSIBLE_RATE_HZ >= 1000 else None), step_ms


def check_any_episode(tub: Tub, plan: EpisodePlan, options: TubOptions) -> None:
    """Raise ``DataError`` with the reason where the plan has no episode."""
    if plan.episodes:
        return
    if plan.num_runs > 0:
        raise DataError(
            f"{tub.path} gives no episode: the longest of its {plan.num_runs} runs has {plan.longest_run} frames "
            f"and min_frames is {options.min_frames}. Give a smaller min_frames, or switch off a splitting rule."
        )
    found = "it holds no records"
    if tub.num_autopilot:
        found = f"of {tub.num_records:,} frames an autopilot drove {tub.num_autopilot:,}, and {tub.num_deleted:,} "
        found += "are marked deleted"
    elif tub.num_deleted:
        found = f"all {tub.num_deleted:,} frames are marked deleted"
    if tub.empty_catalog is not None:
        found += f" ({tub.empty_catalog} is empty)"
    raise DataError(
        f"{tub.path} gives no episode: {found}. "
        "Restore frames in DonkeyCar (`deleted_indexes` in manifest.json), or name another tub."
    )


def missing_image(tub: Tub, episode: Sequence[Record], folder: TubFolder) -> DataError | None:
    """Return the error that an image of the episode is missing; None where all are there."""
    missing = [record for record in episode if record.image not in folder.images]
    if not missing:
        return None
    return DataError(
        f"{tub.image_path(missing[0])} is missing, but frame {missing[0].index} names it "
        f"({len(missing):,} images are missing in all). Copy them, or mark their frames deleted."
    )


def check_own_images(tub: Tub, episodes: Sequence[Sequence[Record]]) -> None:
    """Raise ``DataError`` where two frames name the same image."""
    first: dict[str, Record] = {}
    for record in (record for episode in episodes for record in episode):
        if first.setdefault(record.image, record) is not record:
            raise DataError(
                f"{tub.image_path(record)} is named by frame {first[record.image].index} and by frame "
                f"{record.index}; expected one image a frame. Mark one of them deleted."
            )


def oddities(
    tub: Tub, folder: TubFolder, plan: EpisodePlan, options: TubOptions, *, options_at: str = ""
) -> Iterator[str]:
    """Yield what the user should know about the tub and its episodes.

    ``options_at`` is where the options are given: the prefix of their names in the texts.
    """
    if tub.num_written is not None and tub.num_written != tub.num_records:
        yield (
            f"manifest.json counts {tub.num_written:,} records and the catalogs hold {tub.num_records:,}: some were "
            "lost, removed or added. Copy the tub again if you expected them all."
        )
    if tub.empty_catalog is not None:
        yield f"{tub.empty_catalog} holds no record: if the car wrote some to it, they never reached the disk."
    unnamed = [name for name in folder.unnamed_catalogs if not name.startswith(".")]
    if unnamed:
        yield (
            f"{shortened(unnamed, limit=4)}: not read, because `paths` in manifest.json does not name "
            f"{'it' if len(unnamed) == 1 else 'them'}. Add the name there if its records belong to this tub."
        )
    if tub.num_autopilot:
        yield (
            f"{tub.num_autopilot:,} frames are left out, because an autopilot drove (`user/mode` is not 'user'): its "
            "commands are no labels."
        )
    if tub.unread_keys:
        names = [ascii(name[:40])[1:-1] for name in tub.unread_keys]
        yield f"of each record, {shortened(names, limit=12)} {'is' if len(names) == 1 else 'are'} not read."
    rate_hz, step_ms = frame_rate(plan.episodes, options)
    if rate_hz is None:
        yield (
            f"time stamps are {step_ms:g} ms apart: they tell when the tub was converted, not how fast it was driven, "
            f"so the episodes get no frame rate. Give the true one as {options_at}frame_rate_hz."
        )
    if plan.num_cut_runs > 0:
        yield (
            f"{plan.num_cut_runs} runs were cut at {options.max_frames} frames: the frames next to a cut look alike, "
            f"and a split by episode may put one side in train and one in val. Without {options_at}max_frames runs "
            "are kept whole."
        )
