"""Choose which episodes the page shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mobile_vla.data.sources.contract import Recording
from mobile_vla.schema import Episode

MAX_ON_SHEET = 24
_MAX_SHEET_PICTURES = 144
"""Pictures of the contact sheet, three for each camera of an episode: 1 MB, or 4 MB where they show noise."""

MAX_PLAYABLE = 12

MAX_DECODED_PER_EPISODE = 3000
"""Frames of one episode that are decoded at most: a source gives its frames from the first on."""

MAX_DECODED = 20_000
"""Frames of all cameras that are decoded for the page: at 640x480 in AV1 about 100 s of one core."""


def spread(episodes: Sequence[Episode], limit: int) -> list[Episode]:
    """Return at most ``limit`` of ``episodes``, in their order: of all scenarios, and within each from first to last.

    Scenarios take turns, the most frequent first, so that a rare one is shown as well.
    """
    by_scenario: dict[str, list[int]] = defaultdict(list)
    for index, episode in enumerate(episodes):
        by_scenario[episode.scenario].append(index)
    groups = sorted(by_scenario.values(), key=len, reverse=True)
    wanted = [0] * len(groups)
    rest = min(limit, len(episodes))
    while rest:
        for place, group in enumerate(groups):
            if rest and wanted[place] < len(group):
                wanted[place] += 1
                rest -= 1
    chosen = {
        group[(2 * step + 1) * len(group) // (2 * number)] if number < len(group) else group[step]
        for group, number in zip(groups, wanted, strict=True)
        for step in range(number)
    }
    return [episodes[index] for index in sorted(chosen)]


def chosen_for_page(episodes: Sequence[Episode], recordings: Mapping[str, Recording]) -> list[Episode]:
    """Return the episodes whose pictures the page shows, at least one: as many as can be decoded in a minute or two."""
    num_cameras = max(len(recordings[episode.name].spec.cameras) for episode in episodes)
    most = max(min(MAX_ON_SHEET, _MAX_SHEET_PICTURES // (3 * num_cameras), len(episodes)), 1)
    for limit in range(most, 1, -1):
        chosen = spread(episodes, limit)
        if sum(num_decoded(recordings[episode.name]) for episode in chosen) <= MAX_DECODED:
            return chosen
    return spread(episodes, 1)


def num_decoded(recording: Recording) -> int:
    """Return the number of frames of all cameras that are decoded of ``recording``."""
    return min(recording.num_frames, MAX_DECODED_PER_EPISODE) * len(recording.spec.cameras)
