"""How long decoding takes, measured on a part of one episode; reading processes import this, so nothing heavy here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.data.frames import ImageOptions, prepare_image
from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.contract import Recording, Source
from mobile_vla.errors import DataError

_LIMIT_S = 1.5
"""Seconds of decoding that are measured for each camera; an episode of minutes would take too long for an estimate."""

_MAX_TRIES = 3
"""Episodes that are tried: one that is damaged is named when the cache is built, and says nothing of the time."""


@dataclass(frozen=True, kw_only=True)
class DecodingSpeed:
    """Seconds that one process takes for a frame of all cameras, from ``num_frames`` frames of ``episode``."""

    s_per_frame: float
    episode: str
    num_frames: int


def decoding_speed(
    source: Source, recordings: Sequence[Recording], *, cameras: Sequence[str], image: ImageOptions
) -> DecodingSpeed:
    """Return the speed of decoding an episode of median length, without the start of a process.

    The shortest episode would mislead: opening a video and seeking in it weigh most there. Raises ``DataError`` if the
    episode, and those next to it in length, cannot be decoded.
    """
    by_length = sorted(recordings, key=lambda recording: recording.num_frames)
    middle = len(by_length) // 2
    candidates = sorted(by_length, key=lambda recording: abs(recording.num_frames - by_length[middle].num_frames))
    for number, recording in enumerate(candidates[:_MAX_TRIES], 1):
        try:
            measured = [ask(decode_a_while, recording.path, source, recording, name, image) for name in cameras]
        except DataError:
            if number == min(_MAX_TRIES, len(candidates)):
                raise
            continue
        return DecodingSpeed(
            s_per_frame=sum(seconds / num_frames for num_frames, seconds in measured),
            episode=recording.name,
            num_frames=min(num_frames for num_frames, _ in measured),
        )
    raise AssertionError("a data set has at least one recording")


def decode_a_while(
    path: Path, source: Source, recording: Recording, camera: str, image: ImageOptions
) -> Generator[None, None, tuple[int, float]]:
    """Return the number of frames decoded and prepared within about ``_LIMIT_S``, and the seconds that this took.

    It is called in a reading process; each yield reports progress.
    """
    started, num_frames = time.perf_counter(), 0
    with tempfile.TemporaryFile() as file:
        for block in source.frames(recording, camera):
            for prepared in (prepare_image(frame, image) for frame in block):
                file.write(prepared.data)
            num_frames += len(block)
            yield
            if time.perf_counter() - started > _LIMIT_S:
                break
    if not num_frames:
        raise DataError(f"{path}: no frame of the camera {camera} can be decoded; expected {recording.num_frames}.")
    return num_frames, time.perf_counter() - started
