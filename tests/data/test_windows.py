"""Check that windows stay in their episode and that masks tell exactly what exists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law, made_episode, made_reader

from mobile_vla.data.windows import Padding, build_windows
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode

paddings = st.sampled_from(["none", "end", "both"])


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[Episode], int, int]:
    """Draw episodes, window_size and fwd_pred_next_n such that at least one window exists under every padding."""
    window_size, num_actions = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(2, 12), min_size=1, max_size=4))
    lengths.insert(draw(st.integers(0, len(lengths))), window_size + num_actions + 1)
    fields = [{}, {"task": "dock"}, {"task": "follow"}]
    episodes = [
        made_episode(i, num_frames=n, scenario=f"scenario_{i % 2}", fields=fields[i % 3]) for i, n in enumerate(lengths)
    ]
    return episodes, window_size, num_actions


@pytest.mark.parametrize(("padding", "num_windows"), [("none", 5764), ("end", 8264), ("both", 10014)])
def test_counts_are_those_of_the_rule(padding: Padding, num_windows: int) -> None:
    lengths = np.random.default_rng(0).integers(18, 61, 250).tolist()
    lengths[0] += 10014 - sum(lengths)  # the reference's collection: 250 episodes, 10,014 frames
    episodes = [made_episode(i, num_frames=n) for i, n in enumerate(lengths)]
    assert len(build_windows(episodes, window_size=8, fwd_pred_next_n=10, padding=padding)) == num_windows


@pytest.mark.parametrize(
    ("window_size", "fwd_pred_next_n", "num_windows"),
    [(8, 10, 1), (8, 5, 6), (8, 1, 10), (12, 6, 1), (6, 1, 12)],
)
def test_counts_at_18_frames_are_the_published_ones(window_size: int, fwd_pred_next_n: int, num_windows: int) -> None:
    episodes = [made_episode(0, num_frames=18)]
    table = build_windows(episodes, window_size=window_size, fwd_pred_next_n=fwd_pred_next_n, padding="none")
    assert len(table) == num_windows


@law
@given(collections(), paddings)
def test_every_window_appears_once_in_time_order(drawn: tuple[list[Episode], int, int], padding: Padding) -> None:
    episodes, window_size, num_actions = drawn
    table = build_windows(episodes, window_size=window_size, fwd_pred_next_n=num_actions, padding=padding)
    first = 1 - window_size if padding == "both" else 0
    spanned = window_size + (num_actions if padding == "none" else 0)
    expected = [(i, start) for i, e in enumerate(episodes) for start in range(first, e.num_frames - spanned + 1)]
    assert list(zip(table.episode.tolist(), table.start.tolist(), strict=True)) == expected
    for row, (i, start) in enumerate(expected):
        current = start + window_size - 1
        length = episodes[i].num_frames
        assert table.frame[row] == current
        assert table.progress[row] == round(1000 * current / (length - 1))
        assert table.phase[row] == min(table.progress[row] // 100, 9)
        assert table.scenario_names[table.scenario[row]] == episodes[i].scenario
        assert table.task_names[table.task[row]] == episodes[i].fields.get("task", "unknown")
        assert table.pad_start[row] == sum(frame < 0 for frame in range(start, start + window_size))
        assert table.pad_end[row] == sum(frame >= length for frame in range(current, current + num_actions))


@law
@given(collections(), paddings)
def test_a_batch_holds_what_exists_and_masks_the_rest(drawn: tuple[list[Episode], int, int], padding: Padding) -> None:
    episodes, window_size, num_actions = drawn
    reader = made_reader(episodes, window_size=window_size, fwd_pred_next_n=num_actions, padding=padding)
    table = reader.windows
    ids = np.random.default_rng(0).permutation(len(table))
    batch = reader.gather(ids)
    assert batch.images_BTVCYX.shape == (len(ids), window_size, 1, 3, 2, 2)
    for b, window in enumerate(ids):
        episode, start = int(table.episode[window]), int(table.start[window])
        assert batch.instruction[b] == episodes[episode].instruction
        assert batch.scenario[b] == episodes[episode].scenario
        for i in range(window_size):
            frame = start + i
            exists = 0 <= frame < episodes[episode].num_frames
            assert bool(batch.history_BT[b, i]) == exists
            pixel = [1 + episode, 1 + frame, 255] if exists else [0, 0, 0]
            assert (batch.images_BTVCYX[b, i] == np.array(pixel)[:, None, None]).all()
            for k in range(num_actions):
                has_target = exists and frame + k < episodes[episode].num_frames
                assert bool(batch.mask_BTK[b, i, k]) == has_target
                action = [episode, frame + k, -(frame + k)] if has_target else [0, 0, 0]
                assert batch.actions_BTKA[b, i, k].tolist() == action


@law
@given(collections(), paddings)
def test_current_targets_are_those_of_the_last_history_frame(
    drawn: tuple[list[Episode], int, int], padding: Padding
) -> None:
    episodes, window_size, num_actions = drawn
    reader = made_reader(episodes, window_size=window_size, fwd_pred_next_n=num_actions, padding=padding)
    ids = np.arange(len(reader.windows))
    actions_BTKA, mask_BTK = reader.targets(ids)
    targets = reader.current_targets()
    np.testing.assert_array_equal(targets.actions_NKA, actions_BTKA[:, -1])
    np.testing.assert_array_equal(targets.mask_NK, mask_BTK[:, -1])
    current = reader.windows.start + window_size - 1
    np.testing.assert_array_equal(targets.frame_NK, current[:, None] + np.arange(num_actions))
    for n in ids:
        actions = episodes[reader.windows.episode[n]].actions
        before = actions[current[n] - 1] if current[n] > 0 else np.zeros(3)
        np.testing.assert_array_equal(targets.previous_NA[n], before)
        np.testing.assert_array_equal(targets.next_NA[n], actions[min(current[n] + num_actions, len(actions) - 1)])


@law
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8))
def test_gathering_is_a_pure_function_of_each_id(ids: list[int]) -> None:
    reader = made_reader([made_episode(i, num_frames=7) for i in range(3)], window_size=3, fwd_pred_next_n=2)
    together = reader.gather(np.array(ids))
    for b, window in enumerate(ids):
        alone = reader.gather(np.array([window]))
        assert (together.images_BTVCYX[b] == alone.images_BTVCYX[0]).all()
        assert (together.actions_BTKA[b] == alone.actions_BTKA[0]).all()
        assert together.window_ids[b] == window


@pytest.mark.parametrize("action_names", [("linear_x",), ("linear_x", "linear_y"), ("linear_y", "angular_z")])
def test_only_the_named_action_columns_are_targets(action_names: tuple[str, ...]) -> None:
    reader = made_reader([made_episode(4, num_frames=6)], window_size=2, fwd_pred_next_n=2, action_names=action_names)
    expected = {"linear_x": 4, "linear_y": 3, "angular_z": -3}
    actions_BTKA, _ = reader.targets(np.array([3]))
    assert actions_BTKA[0, -1, 0].tolist() == [expected[name] for name in action_names]


def test_files_with_two_and_three_columns_mix_where_two_are_asked_for() -> None:
    two = made_episode(1, num_frames=5, actions=np.full((5, 2), 7, np.float32))
    reader = made_reader(
        [made_episode(0, num_frames=5), two], window_size=2, fwd_pred_next_n=1, action_names=("linear_x", "linear_y")
    )
    actions_BTKA, _ = reader.targets(np.array([4, 9]))
    assert actions_BTKA[:, -1, 0].tolist() == [[0, 4], [7, 7]]


@pytest.mark.parametrize(("padding", "num_needed"), [("none", 18), ("end", 8)])
def test_a_window_longer_than_every_episode_is_refused(padding: Padding, num_needed: int) -> None:
    episodes = [made_episode(i, num_frames=num_needed - 1) for i in range(3)]
    message = (
        rf"dataset\.padding={padding} with dataset\.window_size=8 and dataset\.fwd_pred_next_n=10 needs {num_needed} "
        rf"frames, and the longest of 3 episodes has {num_needed - 1}"
    )
    with pytest.raises(ConfigError, match=message):
        build_windows(episodes, window_size=8, fwd_pred_next_n=10, padding=padding)
