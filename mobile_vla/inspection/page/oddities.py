"""Find what is odd in a data set: black or frozen frames, cuts in the pictures, copies, values far from all others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.dataset import Scan
from mobile_vla.data.findings.plausibility import implausible_actions
from mobile_vla.inspection.page.decoding import Looks
from mobile_vla.schema import Episode
from mobile_vla.text import counted, first_few, shortened

LooksByEpisode = Mapping[str, Mapping[str, Looks]]
"""The looks of the decoded frames, by episode name and camera."""

_MIN_FROZEN = 10
"""Frames that show the same in a row; shorter runs are pauses of a camera."""

_MOVING = 0.1
"""Share of a signal's spread by which it changes while the picture should change too."""

_MAX_REPEATS, _MIN_REPEATED = 4, 0.15
"""A slow camera repeats a frame up to 4 times and then shows the next; of that are more than 0.15 of the frames.

Longer repetitions are pauses of the robot. The first frames after a new command repeat too, as nothing moves at once.
"""

_MIN_CUT, _CUT_RATIO = 20.0, 6.0
"""A cut is a mean change of 20 of 255, and 6 times the change that nine of ten frames of the episode stay below.

A doubt: a robot that turns quickly in one frame of a slow recording changes as much.
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A frame of an episode."""

    episode: str
    camera: str
    frame: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something odd: what, an explanation, and the frames to look at."""

    title: str
    text: str
    places: Sequence[Place] = ()


def odd_pictures(looks: LooksByEpisode, episodes: Mapping[str, Episode]) -> list[Finding]:
    """Return what is odd in the decoded frames: black or flat ones, a frozen or slow camera, cuts."""
    spread_A = _spread([episodes[name].actions for name in looks])
    dark, flat, frozen, cuts = [], [], [], []
    repeats = {(name, camera): _repeats(seen) for name, cameras in looks.items() for camera, seen in cameras.items()}
    num_repeated = sum(end - start for runs in repeats.values() for start, end in runs)
    num_seen = sum(len(seen) for cameras in looks.values() for seen in cameras.values())
    for name, cameras in looks.items():
        actions_FA = episodes[name].actions
        for camera, seen in cameras.items():
            dark += [Place(episode=name, camera=camera, frame=start) for start, _ in _runs(seen.is_dark_F)]
            is_flat_F = seen.is_flat_F & ~seen.is_dark_F
            flat += [Place(episode=name, camera=camera, frame=start) for start, _ in _runs(is_flat_F)]
            for start, end in _runs(seen.is_same_F):
                moved = np.ptp(actions_FA[start - 1 : end], axis=0) > _MOVING * spread_A
                if end - start >= _MIN_FROZEN and moved.any():
                    frozen.append((Place(episode=name, camera=camera, frame=start - 1), end - start + 1))
            cuts += [Place(episode=name, camera=camera, frame=frame) for frame in _cuts(seen.change_F)]
    num_dark = sum(int(seen.is_dark_F.sum()) for cameras in looks.values() for seen in cameras.values())
    num_flat = sum(
        int((seen.is_flat_F & ~seen.is_dark_F).sum()) for cameras in looks.values() for seen in cameras.values()
    )
    found = []
    if dark:
        found.append(Finding(title=f"{counted(num_dark, 'black frame')}", text=_BLACK, places=dark))
    if flat:
        found.append(Finding(title=f"{counted(num_flat, 'frame')} of one colour", text=_BLACK, places=flat))
    if frozen:
        longest = max(length for _, length in frozen)
        text = f"The picture stays the same for up to {longest} frames while the actions change. {_FROZEN}"
        title = counted(len(frozen), "part") + " with a frozen picture"
        found.append(Finding(title=title, text=text, places=[place for place, _ in frozen]))
    if num_repeated > _MIN_REPEATED * num_seen:
        title = f"{num_repeated / num_seen:.0%} of the frames repeat the one before, while the picture moves"
        places = [
            Place(episode=name, camera=camera, frame=runs[0][0] - 1) for (name, camera), runs in repeats.items() if runs
        ]
        found.append(Finding(title=title, text=_SLOW, places=places))
    if cuts:
        title = f"{counted(len(cuts), 'cut')} in the pictures"
        found.append(Finding(title=title, text=_CUT, places=cuts))
    return found


_BLACK = (
    "A camera that was not ready, covered or unplugged gives such frames. A policy cannot act on them: cut them off, "
    "or leave these episodes out."
)
_FROZEN = (
    "Either the camera hung, or the robot did not follow its commands. A policy learns nothing from such stretches, "
    "or something wrong."
)
_SLOW = (
    "The camera is slower than the recording. The history of a policy then holds the same picture several times: a "
    "lower frame rate may be enough."
)
_CUT = (
    "From one frame to the next the picture changes far more than elsewhere in the episode: frames may be missing, two "
    "recordings may be joined, or something passed close by the camera."
)


def _spread(actions: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the range of each signal from the 1st to the 99th percentile, infinite where it does not change."""
    low_A, high_A = np.quantile(np.concatenate(actions), [0.01, 0.99], axis=0)
    return np.where(high_A > low_A, high_A - low_A, np.inf)


def _repeats(seen: Looks) -> list[tuple[int, int]]:
    """Return the short runs of frames that repeat their predecessor, between two changes of the picture."""
    runs = _runs(seen.is_same_F)
    return [(start, end) for start, end in runs if end - start <= _MAX_REPEATS and start > 1 and end < len(seen)]


def _runs(mask_F: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first frame and end (exclusive) of each run of True."""
    edges = np.flatnonzero(np.diff(mask_F.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _cuts(change_F: NDArray[np.float32]) -> list[int]:
    if len(change_F) < 2:
        return []
    limit = max(_MIN_CUT, _CUT_RATIO * float(np.quantile(change_F[1:], 0.9)))
    return np.flatnonzero(change_F > limit).tolist()


def copies(scan: Scan, episodes: Sequence[Episode]) -> list[Finding]:
    """Return the groups of episodes with the same content, and those with the same actions but other content."""
    same_content = _groups({episode.name: scan.digests[episode.name] for episode in episodes})
    same_actions = _groups({episode.name: (episode.actions.shape, episode.actions.tobytes()) for episode in episodes})
    only_actions = [names for names in same_actions if len({scan.digests[name] for name in names}) > 1]
    found = []
    if same_content:
        number = sum(map(len, same_content)) - len(same_content)
        text = f"{_listed(same_content)}. Train and val may hold the same episode: remove the copies."
        found.append(Finding(title=counted(number, "copied episode"), text=text))
    if only_actions:
        title = f"{sum(map(len, only_actions))} episodes with the actions of another"
        text = f"{_listed(only_actions)}. The files differ; a script, or a replay, gives such episodes."
        found.append(Finding(title=title, text=text))
    return found


def _groups(keys: Mapping[str, Hashable]) -> list[list[str]]:
    by_key: dict[Hashable, list[str]] = defaultdict(list)
    for name, key in keys.items():
        by_key[key].append(name)
    return [names for names in by_key.values() if len(names) > 1]


def _listed(groups: Sequence[Sequence[str]]) -> str:
    return first_few([shortened(list(names), limit=4) for names in groups], limit=4).replace(", ...", ", and more")


def odd_states(scan: Scan, episodes: Sequence[Episode]) -> list[str]:
    """Return a warning for each recorded state that is far from its usual values somewhere, as for actions."""
    recordings = [scan.recordings[episode.name] for episode in episodes]
    spec = recordings[0].spec
    if not spec.state or any(recording.spec.state_names != spec.state_names for recording in recordings):
        return []
    as_actions = [
        replace(episode, actions=recording.state) for episode, recording in zip(episodes, recordings, strict=True)
    ]
    return implausible_actions(as_actions, replace(spec, actions=spec.state))
