"""The episodes of one bag: its messages read once, aligned to the frames of the first camera, and split at gaps."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.bags.alignment import MAX_LEFT_OUT, newest_before, split_at_gaps, to_runs, wide_steps
from mobile_vla.data.sources.bags.bag import Bag, open_bag
from mobile_vla.data.sources.bags.bag_files import storage_files
from mobile_vla.data.sources.bags.options import BagOptions
from mobile_vla.data.sources.bags.topics import Chosen, choose_topics
from mobile_vla.data.sources.bags.tracks import ImageTrack, TextTrack, ValueTrack
from mobile_vla.data.sources.bags.values import is_optional, renamed, signal_of
from mobile_vla.data.sources.contract import RecordedTexts, Recording
from mobile_vla.errors import DataError
from mobile_vla.spec import Camera, Signal, Spec, clean_names
from mobile_vla.text import in_series

_BYTES_A_STEP = 2**22
"""Size of the messages between two reports of progress."""


@dataclass(frozen=True, kw_only=True)
class _Content:
    """All that is remembered of a bag's messages; the first of ``images`` is the clock."""

    images: Sequence[ImageTrack]
    commands: Sequence[ValueTrack]
    states: Sequence[ValueTrack]
    texts: TextTrack


@dataclass(frozen=True, kw_only=True)
class _Frames:
    """The frames of a bag that have everything: their times and, for each topic, the message that belongs to each."""

    times_F: NDArray[np.int64]
    newest: Mapping[str, NDArray[np.int64]]
    notes: Sequence[str]


def read_bag(
    path: Path, name: str, options: BagOptions, *, is_one_of_several: bool
) -> Generator[None, None, list[Recording | DataError]]:
    """Return the recordings of a bag in order; each yield reports progress. Raises ``DataError`` where there is none.

    ``name`` is that of the recording, with a number where there are several. Where the bag ``is_one_of_several``, it is
    the field ``bag`` too.
    """
    with open_bag(path) as bag:
        chosen = choose_topics(bag.topics, options, path)
        content = yield from _read_messages(bag, chosen)
    images, notes = _shown(content.images, chosen, path)
    frames = _align(images, content, options, path)
    episodes, found = _cut(frames.times_F, frames.newest[images[0].topic], options.max_gap_s)
    notes += found
    if not episodes:
        raise DataError(f"{path}: no two frames follow each other. {in_series(list(frames.notes), limit=4)}.")
    actions, action_signals, optional_actions = _columns(content.commands, frames)
    state, state_signals, optional_state = _columns(content.states, frames)
    spec = Spec(
        actions=action_signals,
        state=state_signals,
        cameras=tuple(Camera(name=t.camera, rows=t.size[0], columns=t.size[1]) for t in images),
        rate_hz=_rate(frames.times_F),
    )
    recordings: list[Recording | DataError] = []
    for number, rows in enumerate(episodes):
        first_ns, last_ns = int(frames.times_F[rows[0]]), int(frames.times_F[rows[-1]])
        texts = content.texts.during(first_ns, last_ns)
        own_notes = [f"the instruction changes within the episode: {in_series(texts, limit=4)}"] if texts[1:] else []
        recordings.append(
            Recording(
                name=name if len(episodes) == 1 else f"{name}_{number:03d}",
                path=path,
                files=storage_files(path),
                part={
                    "first_ns": first_ns,
                    "last_ns": last_ns,
                    "cameras": {t.camera: _place(t, frames.newest[t.topic][rows]) for t in images},
                    "values": _digest(actions[rows], state[rows]),
                },
                spec=spec,
                actions=actions[rows],
                state=state[rows],
                texts=RecordedTexts(
                    key=texts[0] if texts else None,
                    place=f"topic {chosen.instruction}" if texts else "",
                    similar_names=tuple(chosen.similar),
                ),
                fields={"bag": name} if is_one_of_several else {},
                notes=(*notes, *frames.notes, *own_notes),
                optional=(*optional_actions, *optional_state),
            )
        )
    return recordings


def _cut(
    times_F: NDArray[np.int64], numbers_F: NDArray[np.int64], max_gap_s: float | None
) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Return the frames' indexes of each episode, and notes on where the recording is cut and where it is not."""
    runs = split_at_gaps(times_F, numbers_F, max_gap_s)
    episodes = [run for run in runs if len(run) > 1]
    notes = []
    paused = 0 if max_gap_s is None else int((np.diff(times_F) > max_gap_s * 1e9).sum())
    if (num_holes := len(runs) - 1 - paused) > 0:
        notes.append(
            f"a new episode begins after each hole of more than {MAX_LEFT_OUT} frames that are left out ({num_holes})"
        )
    if num_single := len(runs) - len(episodes):
        notes.append(f"{num_single} frames stand alone between two gaps (dataset.bag.max_gap_s) and are left out")
    wide = [wide_steps(times_F[run]) for run in episodes]
    if num_wide := sum(number for number, _, _ in wide):
        _, longest_s, usual_s = max(wide, key=lambda found: found[1])
        notes.append(
            f"in {num_wide} places two frames of an episode are up to {longest_s:.2g} s apart, and mostly "
            f"{usual_s:.2g} s: windows there cover more time (a smaller dataset.bag.max_gap_s cuts there)"
        )
    return episodes, notes


def _read_messages(bag: Bag, chosen: Chosen) -> Generator[None, None, _Content]:
    types = {name: topic.type for name, topic in bag.topics.items()}
    content = _Content(
        images=[ImageTrack(camera=camera, topic=topic, type=types[topic]) for camera, topic in chosen.cameras.items()],
        commands=[ValueTrack(topic=topic, type=types[topic]) for topic in chosen.commands],
        states=[ValueTrack(topic=topic, type=types[topic]) for topic in chosen.states],
        texts=TextTrack(),
    )
    # A topic may be command and state at once.
    readers: dict[str, list[ImageTrack | ValueTrack | TextTrack]] = {}
    for track in (*content.images, *content.commands, *content.states):
        readers.setdefault(track.topic, []).append(track)
    if chosen.instruction is not None:
        readers.setdefault(chosen.instruction, []).append(content.texts)
    num_bytes = 0
    for topic, log_ns, raw in bag.messages(chosen.all):
        message = bag.decode(topic, raw)
        with bag.taking_apart(topic):
            for track in readers[topic]:
                track.add(log_ns, message, bag.path)
        num_bytes += len(raw) + 2**12  # a small message takes as long as 4 KiB of pixels
        if num_bytes >= _BYTES_A_STEP:
            num_bytes = 0
            yield
    return content


def _shown(tracks: Sequence[ImageTrack], chosen: Chosen, path: Path) -> tuple[list[ImageTrack], list[str]]:
    """Return the cameras that can be shown, and notes on those of an automatic choice that cannot."""
    refused = [track for track in tracks if track.refused is not None]
    shown = [track for track in tracks if track.refused is None]
    if refused and (not chosen.is_free or not shown):
        raise refused[0].refusal(path)
    left_out = [f"topic {t.topic} is left out: its encoding {t.refused!r} is not read" for t in refused]
    return shown, [*left_out, *chosen.notes]


def _align(images: Sequence[ImageTrack], content: _Content, options: BagOptions, path: Path) -> _Frames:
    """Return the frames that have a command, state and image of every topic that is not too old."""
    for track in images:
        track.check_order(path)
    times_F, reason = images[0].times.chosen()
    newest = {images[0].topic: np.arange(len(times_F))}
    is_kept_F = np.ones(len(times_F), bool)
    notes = []
    if reason is not None and any(images[0].times.stamps):
        notes.append(f"the header stamps of {images[0].topic} {reason}; the times of recording are used")
    limits = [(track, options.max_command_age_s, "max_command_age_s") for track in content.commands]
    limits += [(track, options.max_state_age_s, "max_state_age_s") for track in (*content.states, *images[1:])]
    for track, max_age_s, option in limits:
        times_N, _ = track.times.chosen()
        newest_F = newest_before(times_N, times_F)
        newest[track.topic] = newest_F
        is_there_F = newest_F >= 0
        if isinstance(track, ValueTrack):
            is_there_F[is_there_F] = track.is_complete()[newest_F[is_there_F]]
        age_F = times_F - times_N[np.maximum(newest_F, 0)]
        is_fresh_F = is_there_F if max_age_s is None else is_there_F & (age_F <= max_age_s * 1e9)
        num_early, num_stale = int((~is_there_F).sum()), int((is_there_F & ~is_fresh_F).sum())
        if num_early:
            notes.append(f"{num_early} of {len(times_F)} frames are left out: before the first of {track.topic}")
        if num_stale:
            notes.append(
                f"{num_stale} of {len(times_F)} frames are left out: the newest of {track.topic} is older than "
                f"{max_age_s:g} s (dataset.bag.{option})"
            )
        is_kept_F &= is_fresh_F
    if not is_kept_F.any():
        raise DataError(
            f"{path}: of {len(times_F)} frames of {images[0].topic} none has all it needs: "
            f"{in_series(notes, limit=6)}. Name other topics, or allow older messages."
        )
    return _Frames(
        times_F=times_F[is_kept_F],
        newest={topic: newest_F[is_kept_F] for topic, newest_F in newest.items()},
        notes=notes,
    )


def _columns(
    tracks: Sequence[ValueTrack], frames: _Frames
) -> tuple[NDArray[np.float32], tuple[Signal, ...], list[str]]:
    """Return the values [F, V] of all topics side by side, their signals, and the names of the optional ones.

    Equal names get that of their topic.
    """
    columns, signals, topics, are_optional = [np.zeros((len(frames.times_F), 0))], [], [], []
    for track in tracks:
        names, values_NV = track.table()
        columns.append(values_NV[frames.newest[track.topic]])
        signals += [signal_of(name, track.type) for name in names]
        topics += [track.topic] * len(names)
        are_optional += [is_optional(name, track.type) for name in names]
    names = [signal.name for signal in signals]
    own = [
        f"{topic.strip('/').replace('/', '_')}_{name}" if names.count(name) > 1 else name
        for topic, name in zip(topics, names, strict=True)
    ]
    signals = [renamed(signal, name) for signal, name in zip(signals, clean_names(own), strict=True)]
    optional = [signal.name for signal, is_one in zip(signals, are_optional, strict=True) if is_one]
    return np.concatenate(columns, axis=1).astype(np.float32), tuple(signals), optional


def _digest(actions: NDArray[np.float32], state: NDArray[np.float32]) -> str:
    """Return a digest of the values, which depend on the options of the alignment."""
    return hashlib.blake2b(actions.tobytes() + state.tobytes(), digest_size=16).hexdigest()


def _place(track: ImageTrack, chosen_F: NDArray[np.int64]) -> dict[str, object]:
    """Return where a camera's images are: the topic, the span of log times, and which of its messages, in runs."""
    logged_N = np.array(track.times.logged, np.int64)
    start_ns, last_ns = int(logged_N[chosen_F].min()), int(logged_N[chosen_F].max())
    # The number of a message among those of the span: the reader can begin there.
    numbers_N = np.cumsum((logged_N >= start_ns) & (logged_N <= last_ns)) - 1
    return {"topic": track.topic, "log_ns": [start_ns, last_ns], "runs": to_runs(numbers_N[chosen_F].tolist())}


def _rate(times_F: NDArray[np.int64]) -> float | None:
    """Return the frames a second by the median step, which pauses do not change; None where all times are equal."""
    step_s = float(np.median(np.diff(times_F))) / 1e9 if len(times_F) > 1 else 0.0
    return 1 / step_s if step_s > 0 else None
