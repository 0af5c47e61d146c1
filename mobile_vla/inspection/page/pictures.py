"""The pictures of the chosen episodes, within the size that the page may have."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mobile_vla.data.reading.process import Request, ask_each
from mobile_vla.data.sources.contract import Recording, Source
from mobile_vla.errors import DataError
from mobile_vla.inspection.page.choice import MAX_DECODED_PER_EPISODE
from mobile_vla.inspection.page.decoding import Looks, Pictures, Wanted, decode_pictures
from mobile_vla.process.progress_bar import track
from mobile_vla.schema import Episode

MAX_PAGE_BYTES = 15_000_000
"""Size of the page that no data set exceeds by much: it is sent by mail, and opened on a phone."""

_MAX_STRIP_BYTES = 6_000_000
"""Size of all frames that are played, as JPEGs; in base64 a third more. The signals and the sheet take the rest."""

_MAX_PLAYED_FRAMES = 400
"""Frames of one episode that are played at most: of a longer one every second, third, ..."""


@dataclass(frozen=True, kw_only=True)
class EpisodePictures:
    """The pictures of one episode by camera, or why a camera has none.

    ``strip_rows`` are the frames that can be played, the same for all cameras; none where the episode is not played.
    """

    cameras: Mapping[str, Pictures | DataError]
    strip_rows: Sequence[int]

    @property
    def decoded(self) -> dict[str, Pictures]:
        """The pictures of the cameras that could be decoded."""
        return {name: found for name, found in self.cameras.items() if isinstance(found, Pictures)}

    @property
    def looks(self) -> dict[str, Looks]:
        """What the frames of the cameras look like that could be decoded."""
        return {name: pictures.looks for name, pictures in self.decoded.items()}


def decode_episodes(
    episodes: Sequence[Episode],
    recordings: Mapping[str, Recording],
    source: Source,
    *,
    num_playable: int,
    is_bgr: bool,
    num_workers: int,
) -> dict[str, EpisodePictures]:
    """Return the pictures of ``episodes`` by name; strips are made of the first ``num_playable`` in a spread order.

    All recorded cameras are decoded, also those that the data set's options leave out.
    """
    played = {episode.name for episode in _evenly(episodes, num_playable)}
    wanted, keys, requests = {}, [], []
    for episode in episodes:
        recording = recordings[episode.name]
        wanted[episode.name] = _wanted(recording, is_played=episode.name in played, is_bgr=is_bgr)
        for camera in recording.spec.camera_names:
            keys.append((episode.name, camera))
            arguments = (source, recording, camera, wanted[episode.name])
            requests.append(Request(work=decode_pictures, path=recording.path, arguments=arguments))
    answers = ask_each(requests, num_processes=num_workers)
    found = {keys[index]: answer for index, answer in track(answers, description="pictures", total=len(keys))}
    by_episode = {
        episode.name: EpisodePictures(
            cameras={camera: found[episode.name, camera] for camera in recordings[episode.name].spec.camera_names},
            strip_rows=wanted[episode.name].strip_rows,
        )
        for episode in episodes
    }
    share = _MAX_STRIP_BYTES // max(len(played), 1)
    return {name: _thinned(pictures, share) for name, pictures in by_episode.items()}


def _evenly(episodes: Sequence[Episode], number: int) -> list[Episode]:
    if len(episodes) <= number:
        return list(episodes)
    return [episodes[step * len(episodes) // number] for step in range(number)]


def _wanted(recording: Recording, *, is_played: bool, is_bgr: bool) -> Wanted:
    num_frames = min(recording.num_frames, MAX_DECODED_PER_EPISODE)
    num_cameras = len(recording.spec.cameras)
    step = math.ceil(num_frames / _MAX_PLAYED_FRAMES)
    return Wanted(
        num_frames=num_frames,
        strip_rows=tuple(range(0, num_frames, step)) if is_played else (),
        sheet_width=240 if num_cameras < 3 else 160,
        strip_width=(192, 160)[num_cameras - 1] if num_cameras < 3 else 128,
        is_bgr=is_bgr,
    )


def _thinned(pictures: EpisodePictures, max_bytes: int) -> EpisodePictures:
    """Return ``pictures`` with every second, third, ... frame of the strips, so that they take ``max_bytes``."""
    decoded = pictures.decoded
    size = sum(len(frame) for camera in decoded.values() for frame in camera.strip)
    step = max(math.ceil(size / max_bytes), 1)
    return EpisodePictures(
        cameras={
            name: replace(decoded[name], strip=decoded[name].strip[::step]) if name in decoded else problem
            for name, problem in pictures.cameras.items()
        },
        strip_rows=pictures.strip_rows[::step],
    )


def in_base64(picture: bytes) -> str:
    """Return the JPEG ``picture`` as the text that follows ``data:image/jpeg;base64,``."""
    return base64.b64encode(picture).decode()
