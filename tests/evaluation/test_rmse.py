"""Check errors against their definitions, written out over single targets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_episodes import actions, law, made_episode, made_reader

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.windows import Padding
from mobile_vla.evaluation.rmse import critical_targets, masked_rmse, rare_targets, rmse_by_part
from mobile_vla.schema import Episode

NAMES = ("linear_x", "linear_y", "angular_z")
K = 4


def collection(seed: int) -> list[Episode]:
    """Return four episodes of 6 to 12 frames with random keyboard actions, two scenarios, none to two tasks named."""
    lengths = np.random.default_rng(seed).integers(6, 13, 4).tolist()
    tasks = [{"task": name} for name in ("red", "blue")[: seed % 3]] or [{}]
    return [
        made_episode(
            i,
            num_frames=n,
            scenario=f"scenario_{i % 2}",
            fields=tasks[i // 2 % len(tasks)],
            actions=actions(n, seed=seed + i),
        )
        for i, n in enumerate(lengths)
    ]


def reader_of(episodes: Sequence[Episode], *, padding: Padding = "both") -> WindowReader:
    return made_reader(episodes, window_size=2, fwd_pred_next_n=K, padding=padding)


squares = arrays(np.float32, (5, 3, 2), elements=st.floats(0, 100, width=32))
masks = arrays(np.bool_, (5, 3))


@law
@given(squares, masks)
def test_the_root_is_taken_once_over_all_existing_targets(squared: np.ndarray, mask: np.ndarray) -> None:
    kept = [float(x) for n in range(5) for k in range(3) for x in squared[n, k] if mask[n, k]]
    expected = pytest.approx(math.sqrt(sum(kept) / len(kept)), rel=1e-6) if kept else None
    assert masked_rmse(squared, mask) == expected
    # What is masked does not matter, whatever it is.
    assert masked_rmse(np.where(mask[..., None], squared, np.nan), mask) == expected


@law
@given(seed=st.integers(0, 50), padding=st.sampled_from(["none", "end", "both"]))
def test_every_part_is_the_error_over_its_own_targets(seed: int, padding: Padding) -> None:
    reader = reader_of(collection(seed), padding=padding)
    table, targets = reader.windows, reader.current_targets()
    squared = np.random.default_rng(seed).exponential(size=targets.actions_NKA.shape)
    found = rmse_by_part(
        "val/rmse", squared, targets=targets, windows=table, action_names=NAMES, critical_threshold=0.5
    )
    critical, rare = critical_targets(targets, threshold=0.5), rare_targets(targets)
    members: dict[str, list[float]] = {}
    for n, k in zip(*np.nonzero(targets.mask_NK), strict=True):
        scenario = table.scenario_names[table.scenario[n]]
        parts = ["", f"/horizon_{k + 1}", f"/phase_{table.phase[n]}", f"/scenario_{scenario}"]
        parts += [f"/task_{table.task_names[table.task[n]]}"] if len(table.task_names) > 1 else []
        parts += ["/critical"] if critical[n, k] else []
        parts += ["/rare" if rare[n, k] else "/common"]
        for part in parts:
            members.setdefault(f"val/rmse{part}", []).extend(squared[n, k])
        for a, name in enumerate(NAMES):
            members.setdefault(f"val/rmse/{name}", []).append(squared[n, k, a])
    expected = {part: math.sqrt(sum(values) / len(values)) for part, values in members.items()}
    of_scenarios = [value for part, value in expected.items() if "/scenario_" in part]
    expected["val/rmse/scenario_mean"] = sum(of_scenarios) / len(of_scenarios)
    assert found == pytest.approx(expected)
    has_tasks = seed % 3 == 2
    assert {key for key in found if "/task_" in key} == {
        f"val/rmse/task_{task}" for task in ("red", "blue") if has_tasks
    }


@law
@given(seed=st.integers(0, 50), threshold=st.sampled_from([0.0, 0.5, 1.5]))
def test_critical_frames_are_those_beside_a_change_in_their_episode(seed: int, threshold: float) -> None:
    episodes = collection(seed)
    reader = reader_of(episodes)
    targets = reader.current_targets()
    limit_A = threshold * targets.actions_NKA[targets.mask_NK].std(0)
    found = critical_targets(targets, threshold=threshold)
    for n in range(len(reader.windows)):
        whole = episodes[reader.windows.episode[n]].actions
        stood = np.vstack([np.zeros(3), whole])
        changes = [bool((np.abs(b - a) > limit_A).any()) for a, b in pairwise(stood)]
        for k in range(K):
            frame = targets.frame_NK[n, k]
            assert found[n, k] == (frame < len(whole) and any(changes[frame : frame + 2]))


def test_an_action_that_never_changes_has_no_critical_segment() -> None:
    still = np.zeros((9, 3), np.float32)
    reader = reader_of([made_episode(0, num_frames=9, actions=still)])
    targets = reader.current_targets()
    assert not critical_targets(targets, threshold=0.5).any()
    found = rmse_by_part(
        "val/rmse",
        np.ones_like(targets.actions_NKA),
        targets=targets,
        windows=reader.windows,
        action_names=NAMES,
        critical_threshold=0.5,
    )
    assert "val/rmse/critical" not in found
    assert found["val/rmse"] == 1


@law
@given(seed=st.integers(0, 50))
def test_rare_are_the_least_frequent_actions_up_to_a_quarter_of_all(seed: int) -> None:
    targets = reader_of(collection(seed)).current_targets()
    is_rare = rare_targets(targets)
    assert not (is_rare & ~targets.mask_NK).any()
    # A keyboard's actions are few and far apart: each is a cell of its own.
    keys = Counter(map(tuple, targets.actions_NKA[targets.mask_NK].tolist()))
    rare = {tuple(action) for action in targets.actions_NKA[is_rare].tolist()}
    common = {tuple(action) for action in targets.actions_NKA[targets.mask_NK & ~is_rare].tolist()}
    assert not rare & common
    total, limit = sum(keys.values()), sum(keys.values()) / 4
    assert max((keys[a] for a in rare), default=0) < min(keys[a] for a in common)
    assert sum(keys[a] for a in rare) <= limit
    next_level = min(keys[a] for a in common)
    assert sum(n for n in keys.values() if n <= next_level) > limit or total == sum(keys[a] for a in common)


def test_one_action_alone_is_common() -> None:
    targets = reader_of([made_episode(0, num_frames=9, actions=np.ones((9, 3), np.float32))]).current_targets()
    assert not rare_targets(targets).any()
