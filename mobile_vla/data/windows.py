"""The window table: every training window of a set of episodes, from which samplers draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.data.labels.grammars import task_of
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode, WindowTable

Padding = Literal["none", "end", "both"]

NumFrames = Annotated[int, Field(gt=0, le=1000)]
"""Number of frames of a window's history, or of its predicted actions.

The limit also keeps ``pad_start`` and ``pad_end`` of the window table within int16.
"""


def build_windows(
    episodes: Sequence[Episode], *, window_size: int, fwd_pred_next_n: int, padding: Padding
) -> WindowTable:
    """Return every window of ``episodes``, episode after episode, in time order.

    ``padding`` is the rule for windows at the ends of an episode. ``none``: all window_size + fwd_pred_next_n frames
    exist (the report's rule, one frame more than the targets need). ``end``: the history exists, and targets may extend
    beyond the end. ``both``: every frame is the current frame of one window. An episode that is too short for the rule
    has no window. Raises ``ConfigError`` when no episode has one.
    """
    lengths = np.array([e.num_frames for e in episodes], np.int64)
    first, last = start_range(lengths, window_size=window_size, fwd_pred_next_n=fwd_pred_next_n, padding=padding)
    counts = np.maximum(last - first + 1, 0)
    if counts.sum() == 0:
        num_needed = window_size + (fwd_pred_next_n if padding == "none" else 0)
        raise ConfigError(
            f"no episode has a window: dataset.padding={padding} with dataset.window_size={window_size} and "
            f"dataset.fwd_pred_next_n={fwd_pred_next_n} needs {num_needed} frames, and the longest of {len(episodes)} "
            f"episodes has {lengths.max(initial=0)}. Use a shorter window or dataset.padding=both."
        )
    # Arrays instead of a Python loop over windows: large data sets have millions of them.
    # counts.cumsum() - counts is the row of each episode's first window, so ``within`` is 0, 1, ... in every episode.
    episode = np.repeat(np.arange(len(episodes)), counts)
    within = np.arange(len(episode)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.repeat(first, counts) + within
    length = lengths[episode]
    current = start + window_size - 1
    scenario_names, scenario = _number([e.scenario for e in episodes], counts)
    task_names, task = _number([task_of(e.fields) for e in episodes], counts)
    return WindowTable(
        episode=episode.astype(np.int32),
        start=start.astype(np.int32),
        progress=np.round(1000 * current / np.maximum(length - 1, 1)).astype(np.int16),
        scenario=scenario,
        task=task,
        pad_start=np.maximum(-start, 0).astype(np.int16),
        pad_end=np.maximum(current + fwd_pred_next_n - length, 0).astype(np.int16),
        episode_names=tuple(e.name for e in episodes),
        scenario_names=scenario_names,
        task_names=task_names,
        window_size=window_size,
    )


def _number(names_E: Sequence[str], counts_E: NDArray[np.int64]) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    """Return the sorted distinct names of the windows, and for each window the index of its name in them [N].

    ``names_E`` has a name (scenario or task) and ``counts_E`` the number of windows per episode. The name of an episode
    without a window is left out.
    """
    with_windows_E = counts_E > 0
    names, name_E = np.unique(np.array(names_E)[with_windows_E], return_inverse=True)
    return tuple(names.tolist()), np.repeat(name_E.astype(np.int16), counts_E[with_windows_E])


def start_range(
    lengths: NDArray[np.int64], *, window_size: int, fwd_pred_next_n: int, padding: Padding
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last valid start for episodes of ``lengths`` frames.

    An episode without a valid start has last < first. Starts are negative where history may be missing.
    """
    if padding == "none":
        return np.zeros_like(lengths), lengths - window_size - fwd_pred_next_n
    if padding == "end":
        return np.zeros_like(lengths), lengths - window_size
    return np.full_like(lengths, 1 - window_size), lengths - window_size
