"""Check that commands which nobody meant are warned of with file and frame, and that ordinary data are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_episodes import made_episode, made_spec
from numpy.typing import NDArray

from mobile_vla.data.findings.plausibility import implausible_actions, unmoving_columns
from mobile_vla.data.sources.contract import Recording
from mobile_vla.schema import Episode

SPEC = made_spec()
NAMES = SPEC.action_names


def drives(number: int = 12, *, num_frames: int = 30) -> list[NDArray[np.float32]]:
    """Return smooth actions [F, 3] of ``number`` episodes."""
    time = np.arange(num_frames) / num_frames
    one = np.stack([0.6 + 0.4 * np.sin(6 * time), 0.3 * np.cos(6 * time), 0.2 * np.sin(9 * time)], 1)
    return [(one * (1 + index / 100)).astype(np.float32) for index in range(number)]


def episodes_of(actions: list[NDArray[np.float32]]) -> list[Episode]:
    return [made_episode(i, num_frames=len(a), actions=a.astype(np.float32)) for i, a in enumerate(actions)]


def unmoving(actions: list[NDArray[np.float32]]) -> list[str]:
    recordings = [
        Recording(
            name=f"episode_{i}",
            path=Path(f"episode_{i}.h5"),
            files=(),
            spec=SPEC,
            actions=a.astype(np.float32),
            state=np.zeros((len(a), 0), np.float32),
        )
        for i, a in enumerate(actions)
    ]
    return unmoving_columns(recordings, SPEC)


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("value", [50.0, -50.0])
@pytest.mark.parametrize("every", [1, 3, 12])
def test_a_frame_far_beyond_its_column_is_named(column: int, value: float, every: int) -> None:
    actions = drives()
    for episode in actions[::every]:
        episode[3, column] = value
    [warning] = implausible_actions(episodes_of(actions), SPEC)
    assert warning.startswith(f"{NAMES[column]} is more than 10 times its usual size (")
    assert f"in {12 // every} frame(s): episode_000.h5 frame 3: {value:g}" in warning
    assert "Mend or remove these files, or set model.normalization=quantile" in warning
    assert len(warning) < 500


def test_a_frame_that_is_large_but_could_be_meant_is_not_named() -> None:
    actions = drives()
    actions[4][3, 0] = 5.0
    assert implausible_actions(episodes_of(actions), SPEC) == []


@pytest.mark.parametrize("pressed_in", [1, 2, 20])
def test_rare_key_presses_are_no_alarm(pressed_in: int) -> None:
    actions = drives(num_frames=300)
    for episode in actions:
        episode[:, 2] = 0
        episode[10 : 10 + pressed_in, 2] = 1.15
    episodes = episodes_of(actions)
    assert implausible_actions(episodes, SPEC) == []
    assert unmoving(actions) == []


@pytest.mark.parametrize(("size", "says"), [(0.0, "never changes"), (1e-4, "hardly changes"), (0.05, None)])
def test_a_column_that_hardly_moves_is_no_task(size: float, says: str | None) -> None:
    actions = drives()
    for episode in actions:
        episode[:, 1] *= size
    found = unmoving(actions)
    assert [text.startswith(f"linear_y {says}") for text in found] == [True] * (says is not None)


def test_one_outlier_makes_no_neighbour_constant() -> None:
    actions = drives()
    actions[0][0, 0] = 1e4
    assert unmoving(actions) == []
