"""Errors of actions of any number and unit: what they are divided by, which frames are critical, where robots start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law, made_episode
from made_policies import made_policy, sees_nothing
from made_scales import GRIPPER, JOINT, TURN, signals_spec

from mobile_vla.data.batches import Targets, WindowReader
from mobile_vla.data.frames import FrameStore
from mobile_vla.data.windows import build_windows
from mobile_vla.evaluation.action_scale import ActionScale, groups_of, previous_actions, rest_of
from mobile_vla.evaluation.baselines import baseline_metrics
from mobile_vla.evaluation.offline import Evaluation
from mobile_vla.evaluation.rmse import critical_targets
from mobile_vla.evaluation.shortcuts import measure_shortcuts
from mobile_vla.evaluation.window_errors import measure_windows
from mobile_vla.metrics import error_of
from mobile_vla.schema import Episode
from mobile_vla.spec import Signal, Spec, known_signal
from mobile_vla.streams import Stream

K = 4
"""Predicted actions, as of the policies of ``made_policies``."""

NUM_JOINTS = 26


def joints(num: int = NUM_JOINTS) -> list[Signal]:
    return [replace(JOINT, name=f"joint_{index}") for index in range(num)]


def episodes_of(actions: Sequence[np.ndarray]) -> list[Episode]:
    return [made_episode(i, num_frames=len(a), actions=a.astype(np.float32)) for i, a in enumerate(actions)]


def reader_of(episodes: Sequence[Episode]) -> WindowReader:
    first_rows = np.cumsum([0, *(e.num_frames for e in episodes)])
    return WindowReader(
        windows=build_windows(episodes, window_size=2, fwd_pred_next_n=K, padding="both"),
        episodes={e.name: e for e in episodes},
        frames=FrameStore(
            cameras={"camera": np.zeros((first_rows[-1], 2, 2, 3), np.uint8)},
            first_row={e.name: int(row) for e, row in zip(episodes, first_rows, strict=False)},
            key="made",
        ),
        window_size=2,
        fwd_pred_next_n=K,
    )


def scale_of(spec: Spec, episodes: Sequence[Episode]) -> ActionScale:
    return ActionScale.of(spec, [e.actions for e in episodes])


def walks(num_signals: int, *, seed: int = 0, num_episodes: int = 3, num_frames: int = 12) -> list[np.ndarray]:
    """Return smooth actions [F, A] of several episodes."""
    random = np.random.default_rng(seed)
    return [random.normal(0, 0.1, (num_frames, num_signals)).cumsum(0) + 1 for _ in range(num_episodes)]


def measure(spec: Spec, episodes: Sequence[Episode], *, value: float = 0.0) -> dict[str, float]:
    """Return the metrics of a policy that always answers ``value``; the episodes are train and val."""
    num_actions = len(spec.actions)
    model = made_policy(
        sees_nothing,
        lambda features: value * features[:, :, None].expand(-1, -1, K, num_actions),
        num_actions=num_actions,
    )
    reader = reader_of(episodes)
    options = Evaluation(batch_size=32, probe_windows=8, critical_threshold=0.5, shortcuts=False)
    readers = {"val": reader, "train": reader}
    return options.measure(model, readers, scale=scale_of(spec, episodes), split_seed=0)


METRES = (known_signal("linear_x"), known_signal("linear_y"))
SHARES = tuple(replace(signal, unit="normalised") for signal in METRES)


@pytest.mark.parametrize(
    ("signals", "error"),
    [
        (METRES, "val/rmse"),
        (SHARES, "val/rmse"),
        ((JOINT,), "val/rmse"),
        ((Signal(name="a"),), "val/rmse"),
        ((*METRES, TURN), "val/nrmse"),
        ((METRES[0], SHARES[1]), "val/nrmse"),
        ((Signal(name="a"), Signal(name="b")), "val/nrmse"),  # nobody said that they have one unit
        ((*SHARES, replace(GRIPPER, unit="normalised")), "val/nrmse"),
    ],
)
def test_one_known_unit_is_judged_in_it_and_all_else_without_one(signals: Sequence[Signal], error: str) -> None:
    assert error_of(signals_spec(*signals)) == error
    assert error_of(signals_spec(*signals), primary="val/rmse") == "val/rmse"
    assert error_of(signals_spec(*signals), primary="closed_loop/seen/success_rate") == error


def test_the_mean_of_train_has_an_error_of_one() -> None:
    episodes = episodes_of(walks(3, num_frames=40))
    spec, reader = signals_spec(JOINT, TURN, GRIPPER), reader_of(episodes)
    found = baseline_metrics(
        train=episodes,
        windows=reader.windows,
        targets=reader.current_targets(),
        scale=scale_of(spec, episodes),
    )
    assert found["baseline/mean/nrmse"] == pytest.approx(1, abs=0.15)  # frames are in up to K windows


@law
@given(
    seed=st.integers(0, 50),
    factors=st.lists(st.floats(1e-2, 1e3), min_size=3, max_size=3),
    shift=st.floats(-5, 5),
)
def test_the_error_does_not_depend_on_the_units(seed: int, factors: list[float], shift: float) -> None:
    spec = signals_spec(JOINT, TURN, GRIPPER)
    plain = walks(3, seed=seed)
    changed = [a * np.array(factors) + shift for a in plain]
    found = []
    for actions in (plain, changed):
        episodes = episodes_of(actions)
        reader = reader_of(episodes)
        scale, targets = scale_of(spec, episodes), reader.current_targets()
        # The mean is wrong by the same share in any unit.
        found.append(baseline_metrics(train=episodes, windows=reader.windows, targets=targets, scale=scale))
    for name in ("mean", "time_lookup"):
        key = f"baseline/{name}/nrmse"
        assert found[0][key] == pytest.approx(found[1][key], rel=1e-3)


def test_a_signal_that_is_constant_in_train_counts_for_nothing() -> None:
    moving, spec = walks(1), signals_spec(JOINT, TURN)
    still = [np.concatenate([a, np.full((len(a), 1), 7.0)], 1) for a in moving]
    alone, both = measure(signals_spec(JOINT), episodes_of(moving)), measure(spec, episodes_of(still))
    assert both["val/nrmse"] == pytest.approx(alone["val/nrmse"], rel=1e-5)
    assert both["probe/nrmse"] == pytest.approx(alone["probe/nrmse"], rel=1e-5)
    assert both["val/rmse/turn"] == pytest.approx(7)
    assert measure(spec, episodes_of([np.full((9, 2), 3.0)]))["val/nrmse"] == pytest.approx(3)


def test_groups_are_signals_of_one_kind_and_unit() -> None:
    signals = [*joints(2), TURN, GRIPPER, known_signal("linear_x"), Signal(name="who"), replace(GRIPPER, name="thumb")]
    assert groups_of(signals) == {
        "position_rad": (0, 1),
        "velocity_rad_per_s": (2,),
        "binary": (3, 6),
        "velocity_m_per_s": (4,),
        "unknown": (5,),
    }


def test_every_group_and_part_is_reported_where_units_differ() -> None:
    spec = signals_spec(*joints(2), TURN)
    episodes = episodes_of(walks(3))
    found = measure(spec, episodes)
    squared = np.square(np.concatenate([e.actions for e in episodes]).astype(np.float64))
    assert {"val/rmse/group_position_rad", "val/nrmse/group_position_rad", "val/nrmse/group_velocity_rad_per_s"} < set(
        found
    )
    assert {f"val/nrmse/{part}" for part in ("phase_0", "horizon_1", "critical", "scenario_mean")} < set(found)
    of_joints = [found[f"val/rmse/joint_{index}"] for index in range(2)]
    assert found["val/rmse/group_position_rad"] == pytest.approx(np.sqrt(np.mean(np.square(of_joints))))
    assert found["val/nrmse/group_velocity_rad_per_s"] == pytest.approx(
        found["val/rmse/turn"] / np.sqrt(squared[:, 2].mean() - np.sqrt(squared[:, 2]).mean() ** 2), rel=1e-3
    )
    one_unit = measure(signals_spec(*METRES), episodes_of(walks(2)))
    assert not [key for key in one_unit if "group_" in key or key.startswith("val/nrmse/")]


def moving_arm(num_frames: int = 60, *, seed: int = 0) -> np.ndarray:
    """Return the positions of joints that tremble and, at frame 30, all move at once."""
    random = np.random.default_rng(seed)
    positions = random.normal(0, 0.3, (num_frames, NUM_JOINTS))
    positions[30:] += 3
    return positions


def critical_share(reader: WindowReader, signals: Sequence[Signal]) -> float:
    targets = reader.current_targets()
    groups = list(groups_of(signals).values())
    found = critical_targets(targets, threshold=0.5, groups=groups, rest_A=rest_of(signals))
    return float(found.sum() / targets.mask_NK.sum())


def test_with_many_joints_only_a_change_of_the_whole_arm_is_critical() -> None:
    reader = reader_of(episodes_of([moving_arm(seed=seed) for seed in range(3)]))
    targets = reader.current_targets()
    each = critical_targets(targets, threshold=0.5)
    assert each.sum() / targets.mask_NK.sum() > 0.9  # some joint always moves
    groups = list(groups_of(joints()).values())
    found = critical_targets(targets, threshold=0.5, groups=groups, rest_A=np.full(NUM_JOINTS, np.nan))
    assert set(targets.frame_NK[found].tolist()) == {29, 30}


def test_a_smooth_motion_is_critical_where_it_is_fast_and_a_steady_one_nowhere() -> None:
    # Still, then a reach of 20 frames whose speed rises and falls, then still: no step is half a spread.
    place = np.concatenate([np.zeros(20), (1 - np.cos(np.linspace(0, np.pi, 20))) / 2, np.ones(20)])
    reader = reader_of(episodes_of([place[:, None] * np.linspace(0.5, 2, NUM_JOINTS)]))
    targets, groups = reader.current_targets(), [range(NUM_JOINTS)]
    found = critical_targets(targets, threshold=0.5, groups=groups, rest_A=np.full(NUM_JOINTS, np.nan))
    frames = set(targets.frame_NK[found].tolist())
    assert frames <= set(range(20, 40))
    assert {29, 30} <= frames
    assert not critical_targets(targets, threshold=0.5, rest_A=np.full(NUM_JOINTS, np.nan)).any()
    steady = reader_of(episodes_of([np.linspace(0, 1, 30)[:, None] * np.ones(NUM_JOINTS)])).current_targets()
    assert not critical_targets(steady, threshold=0.5, groups=groups, rest_A=np.full(NUM_JOINTS, np.nan)).any()


def test_a_gripper_beside_a_trembling_arm_is_critical_where_it_closes() -> None:
    arm = np.random.default_rng(0).normal(0, 0.01, (40, NUM_JOINTS)) + np.linspace(0, 9, 40)[:, None]
    closed = (np.arange(40) >= 20).astype(float)[:, None]
    reader = reader_of(episodes_of([np.concatenate([arm, closed], 1)]))
    targets, signals = reader.current_targets(), [*joints(), GRIPPER]
    found = critical_targets(targets, threshold=0.5, groups=list(groups_of(signals).values()), rest_A=rest_of(signals))
    assert set(targets.frame_NK[found].tolist()) == {19, 20}


def test_many_signals_have_no_rare_actions_and_few_have() -> None:
    many, few = (
        measure(signals_spec(*joints()), episodes_of(walks(NUM_JOINTS))),
        measure(signals_spec(*METRES), episodes_of(walks(2))),
    )
    assert {"val/rmse/rare", "val/rmse/common"} & set(many) == set()
    assert "val/rmse/common" in few


def standing_arm() -> list[Episode]:
    """Return two episodes of an arm that never moves, far from 0, and a wheel that always turns."""
    return episodes_of([np.tile([2.0 + place, 1.0], (8, 1)) for place in (0, 1)])


def test_an_arm_that_stands_still_is_not_critical_at_its_start() -> None:
    reader = reader_of(standing_arm())
    assert critical_share(reader, [JOINT, replace(JOINT, name="wrist")]) == 0
    assert critical_share(reader, [JOINT, TURN]) > 0  # a wheel starts from rest
    assert critical_share(reader, [replace(JOINT, rest=0.0), replace(TURN, rest=1.0)]) > 0


def first_of(targets: Targets) -> np.ndarray:
    return targets.frame_NK[:, 0] == 0


def test_hold_last_starts_at_rest_or_at_the_mean_and_never_at_the_target() -> None:
    episodes = standing_arm()
    reader, spec = reader_of(episodes), signals_spec(JOINT, TURN)
    targets = reader.current_targets()
    before = previous_actions(targets, rest_A=rest_of(spec.actions), otherwise=np.array([2.5, 9.0]))
    assert before[first_of(targets)].tolist() == [[2.5, 0.0]] * 2
    assert np.array_equal(before[~first_of(targets)], targets.previous_NA[~first_of(targets)])
    found = baseline_metrics(train=episodes, windows=reader.windows, targets=targets, scale=scale_of(spec, episodes))
    num_targets, num_first = targets.mask_NK.sum(), targets.mask_NK[first_of(targets)].sum()
    assert found["baseline/hold_last/rmse/joint"] == pytest.approx(0.5 * np.sqrt(num_first / num_targets))
    assert found["baseline/hold_last/rmse/turn"] == pytest.approx(np.sqrt(num_first / num_targets))


def test_windows_are_recorded_in_the_units_of_the_error_that_decides() -> None:
    spec, episodes = signals_spec(JOINT, TURN), episodes_of(walks(2))
    model = made_policy(sees_nothing, lambda features: features[:, :, None].expand(-1, -1, K, 2))
    errors = measure_windows(model, reader_of(episodes), batch_size=16, scale=scale_of(spec, episodes))
    total = np.sqrt(errors.squared_error_N.sum() / errors.num_targets_N.sum())
    assert total == pytest.approx(measure(spec, episodes, value=1.0)["val/nrmse"])


def test_shortcuts_of_a_robot_without_sides_are_judged_in_the_same_units() -> None:
    spec, episodes = signals_spec(JOINT, TURN), episodes_of(walks(2))
    model = made_policy(sees_nothing, lambda features: features[:, :, None].expand(-1, -1, K, 2))
    found = measure_shortcuts(
        model,
        reader=reader_of(episodes),
        scale=scale_of(spec, episodes),
        batch_size=16,
        stream=Stream(0, "shortcuts"),
        references={"baseline/mean/nrmse": 1.0, "baseline/scenario_time_lookup/nrmse": 9.0},
    )
    assert found["shortcut/unchanged/rmse"] == pytest.approx(measure(spec, episodes, value=1.0)["val/nrmse"])
    assert not [key for key in found if "side_change" in key or "mirrored" in key]
