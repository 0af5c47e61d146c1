"""The source of DonkeyCar tubs, read where they lie."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.blocks import in_blocks
from mobile_vla.data.sources.contract import Found, Recording, RecordingFile
from mobile_vla.data.sources.folders import Passed, search
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
from mobile_vla.data.sources.tubs.split import EpisodePlan, TubOptions, plan_episodes
from mobile_vla.data.sources.tubs.tub import Record, Tub, read_tub_in_steps
from mobile_vla.errors import DataError, UnreadableNowError, UserError
from mobile_vla.spec import Camera, Spec
from mobile_vla.untrusted.files import inside

CAMERA = "camera"
"""The name of a tub's only camera."""

_MANIFEST, _CATALOG = "manifest.json", ".catalog"


@dataclass(frozen=True, kw_only=True)
class TubSource:
    """The DonkeyCar tubs in ``folder`` and its subfolders; ``folder`` may be a tub itself.

    The episodes and commands are those that ``import donkeycar`` writes, without its column ``linear_y``: a car cannot
    move sideways, so no tub records it. ``dataset.channel_order`` applies: a JPEG does not say whether the recorder
    swapped red and blue before it was encoded.
    """

    folder: Path
    options: TubOptions

    states_channel_order: ClassVar[bool] = False

    def find(self) -> Found:
        """See ``Source``."""
        tubs, warnings = find_tubs(self.folder)
        if not tubs:
            raise DataError(
                f"{self.folder}: holds no DonkeyCar tub (a folder with {_MANIFEST} and *{_CATALOG}). Give the folder "
                "that DonkeyCar wrote to."
            )
        arguments = {"is_one_of_several": len(tubs) > 1}
        files = [RecordingFile(path=tub, files=tuple(_records_of(tub)), arguments=arguments) for tub in tubs]
        return Found(files=files, warnings=warnings)

    def read(self, file: RecordingFile) -> Generator[None, None, list[Recording | DataError]]:
        """See ``Source``."""
        with _errors_of(file.path):
            tub = yield from read_tub_in_steps(file.path)
            plan = plan_episodes(tub.records, tub.deleted, self.options, autopilot=tub.autopilot)
            yield
            check_any_episode(tub, plan, self.options)
            folder = look_through(tub)
            check_own_images(tub, plan.episodes)
            yield
        name = file.path.resolve().name.encode("utf-8", "backslashreplace").decode()
        found = [*oddities(tub, folder, plan, self.options, options_at="dataset.tub."), *_dropped(plan, self.options)]
        notes = tuple(f"tub {name}: {text.rstrip('.')}" for text in found)
        fields = {"tub": name} if file.arguments["is_one_of_several"] else {}
        rate_hz, _ = frame_rate(plan.episodes, self.options)
        recordings: list[Recording | DataError] = []
        for number, episode in enumerate(plan.episodes):
            try:
                with _errors_of(file.path):
                    if missing := missing_image(tub, episode, folder):
                        raise missing
                    recordings.append(
                        self._recording(tub, episode, number, fields=fields, rate_hz=rate_hz, notes=notes)
                    )
            except DataError as problem:
                recordings.append(problem)
            yield
        return recordings

    def _recording(
        self,
        tub: Tub,
        episode: Sequence[Record],
        number: int,
        *,
        fields: dict[str, str],
        rate_hz: float | None,
        notes: tuple[str, ...],
    ) -> Recording:
        columns, rows = image_size(tub.image_path(episode[0]))
        actions_FA = commands(episode, self.options)
        session = episode[0].session_id
        return Recording(
            name=episode_name(episode[0], number),
            path=tub.path,
            # Only the images: a catalog has a thousand records, and a mended one must not change all other episodes.
            # What counts of the catalogs, the commands, is in ``part``.
            files=tuple(tub.image_path(record) for record in episode),
            part={
                "first_index": episode[0].index,
                "last_index": episode[-1].index,
                "actions": hashlib.blake2b(actions_FA.tobytes(), digest_size=16).hexdigest(),
            },
            spec=Spec(
                actions=command_signals(self.options),
                cameras=(Camera(name=CAMERA, rows=rows, columns=columns),),
                rate_hz=rate_hz,
            ),
            actions=actions_FA,
            state=np.zeros((len(episode), 0), np.float32),
            fields=fields | ({} if session is None else {"session": session}),
            notes=notes,
        )

    def frames(self, recording: Recording, camera: str) -> Iterator[NDArray[np.uint8]]:
        """See ``Source``."""
        assert camera == CAMERA
        yield from in_blocks(_images_of(recording))


def _images_of(recording: Recording) -> Iterator[NDArray[np.uint8]]:
    shown = recording.spec.cameras[0]
    for path in recording.files:
        with _errors_of(recording.path):
            if path.is_symlink():
                inside(recording.path, path.relative_to(recording.path))
            image = read_image(path, size=(shown.columns, shown.rows))
        yield image


def is_tub(folder: Path) -> bool:
    """Return whether ``folder`` is a DonkeyCar tub (version 2): it has the manifest and at least one catalog."""
    try:
        return (folder / _MANIFEST).exists() and any(name.endswith(_CATALOG) for name in os.listdir(folder))
    except OSError:  # no folder, or one that may not be read: reading it gives the cause
        return False


def find_tubs(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the tubs in ``folder``, at any depth, in the order of their paths, and warnings.

    Raises ``DataError`` where there is no such folder or one cannot be listed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give dataset.path the folder that DonkeyCar wrote to.")
    passed = Passed()
    tubs = [place for place in search(folder, is_recording=is_tub, passed=passed) if is_tub(place)]
    if passed.problems:
        raise passed.problems[0]
    return sorted(tubs), passed.warnings()


def _records_of(tub: Path) -> Iterator[Path]:
    """Yield what changes when a tub is to be read again: its records, the images' folder, and one image.

    The images themselves belong to the episodes. The status of their folder shows that one was added or removed, and
    that of one image that all were written anew in another size.
    """
    yield tub / _MANIFEST
    yield from sorted(
        path for path in tub.iterdir() if path.name.endswith(_CATALOG) and path.name[0] != "." and path.is_file()
    )
    images = tub / "images"
    yield images
    try:
        with os.scandir(images) as entries:
            yield from [Path(min(entry.path for entry in entries))]
    except (OSError, ValueError):  # reading it gives the cause
        return


def _dropped(plan: EpisodePlan, options: TubOptions) -> Iterator[str]:
    num_frames = sum(map(len, [*plan.short_runs, *plan.tails]))
    if num_frames:
        yield (
            f"{num_frames:,} frames are left out, in {len(plan.short_runs)} runs and {len(plan.tails)} ends of runs of "
            f"fewer than {options.min_frames} (dataset.tub.min_frames)."
        )


@contextmanager
def _errors_of(tub: Path) -> Iterator[None]:
    """Convert every ``UserError`` inside the block to a ``DataError`` whose message begins with the tub's path.

    The frame cache stores messages without that path, because the tub may be elsewhere next time.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        inner = text.removeprefix(f"{tub}{os.sep}").removeprefix(f"{tub} ")
        cause = error.__cause__
        is_outside = isinstance(cause, OSError) and cause.errno not in (errno.ENAMETOOLONG, errno.ELOOP, None)
        # FileNotFoundError became a sentence of its own: the tub itself is not complete.
        is_outside = is_outside and not (isinstance(cause, FileNotFoundError | NotADirectoryError))
        kind = UnreadableNowError if is_outside or isinstance(error, UnreadableNowError) else DataError
        raise kind(text if inner == text else f"{tub}: {inner}") from error
