"""Laws of rollouts: robots that advance together drive as each would alone, and references drive as they are named."""

from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_drives import AT_ONCE, SPEED_M_S, Script, drive_keys, made_scene, make_small_env, state_of
from made_worlds import SLIDES, YAW, write_world
from tiny_runs import compose_config

from mobile_vla.closed_loop.drivers import Chance, Expert, WithoutInstruction, expert_actions
from mobile_vla.closed_loop.execution import Execution, FirstActions, TemporalEnsemble
from mobile_vla.closed_loop.rollout import Drive, roll_out
from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.errors import ConfigError
from mobile_vla.run.build import build_closed_loop
from mobile_vla.sim.demonstrations.expert import positions
from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.mjcf import load_world
from mobile_vla.sim.scenarios import spread_scenarios

NUM_STATES = 8


@pytest.fixture(scope="module")
def states() -> list[InitialState]:
    suite = build_closed_loop(compose_config().closed_loop).suites["looks"]
    trained = tuple(sorted(set(spread_scenarios(250)), key=str))
    return suite.states(NUM_STATES, TrainedScenarios(image_size=16, trained=trained, held_out=()))


class Watcher:
    """A driver that answers by all images that a robot has shown it and by its instruction, and by nothing else."""

    action_names = ("angular_z", "linear_y", "linear_x")
    fwd_pred_next_n = 4

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.shown: dict[Hashable, list[float]] = {}
        self.calls: list[list[Hashable]] = []

    def act(self, image: np.ndarray, instruction: Sequence[str], *, robots: Sequence[Hashable]) -> np.ndarray:
        self.calls.append(list(robots))
        return np.stack([self._answer(*one) for one in zip(image, instruction, robots, strict=True)])

    def _answer(self, image: np.ndarray, instruction: str, robot: Hashable) -> np.ndarray:
        history = self.shown.setdefault(robot, [])
        history.append(float(image.mean()))
        angle = np.sum(np.sin(np.arange(1, len(history) + 1) * history)) + len(instruction)
        chunk_KA = np.tile([99.0, 0.7 * np.sin(angle), 0.5 + 0.5 * np.cos(angle)], (4, 1))
        return (chunk_KA * np.linspace(1, 0.7, 4)[:, None]).astype(np.float32)


def assert_same(one: Drive, other: Drive) -> None:
    assert one.outcome == other.outcome
    assert one.touched == other.touched
    assert np.array_equal(one.position, other.position)
    assert np.array_equal(one.command, other.command)


@pytest.mark.parametrize("execution", [AT_ONCE, FirstActions(count=3), TemporalEnsemble(decay=0.1)])
def test_robots_drive_together_as_each_would_alone_and_in_any_order(
    states: list[InitialState], execution: Execution
) -> None:
    drive_all = partial(roll_out, execution=execution, make_env=make_small_env)
    driver = Watcher()
    together = drive_all(driver, states)
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    shuffled = drive_all(driver, [states[i] for i in order])  # the same driver: it forgets
    for index, state in enumerate(states):
        assert together[index].state is state
        assert_same(together[index], drive_all(Watcher(), [state])[0])
        assert_same(together[index], shuffled[order.index(index)])
    assert len({drive.position.tobytes() for drive in together}) == NUM_STATES


def test_a_robot_is_asked_about_once_a_step_until_its_episode_ends(states: list[InitialState]) -> None:
    driver = Watcher()
    drives = roll_out(driver, states, execution=AT_ONCE, make_env=make_small_env)
    for step, robots in enumerate(driver.calls):
        assert robots == [i for i, drive in enumerate(drives) if len(drive.command) > step]
    assert len(driver.calls) == max(len(drive.command) for drive in drives)


def test_a_drive_begins_at_the_start_and_holds_every_command(states: list[InitialState]) -> None:
    for drive in roll_out(Watcher(), states, execution=AT_ONCE, make_env=make_small_env):
        assert drive.position.shape == (len(drive.command) + 1, 2)
        assert drive.command.shape[1] == 2
        assert drive.position[0] == pytest.approx(drive.state.scene.start)
        moved = np.diff(drive.position, axis=0)
        last = -1 if drive.touched else None
        assert moved[:last] == pytest.approx(0.1 * drive.command[:last].astype(float), abs=1e-6)
        assert drive.outcome in ("success", "collision", "wrong_target", "left_room", "timeout")


@pytest.mark.parametrize("names", [("linear_x",), ("linear_x", "angular_z")])
def test_a_driver_that_lacks_a_command_is_refused_before_it_is_asked(names: tuple[str, ...]) -> None:
    driver = Watcher()
    driver.action_names = names
    with pytest.raises(ConfigError, match=r"commanded by linear_x, linear_y: linear_y is missing\. Train with"):
        roll_out(driver, [state_of(made_scene())], execution=AT_ONCE, make_env=make_small_env)
    assert driver.calls == []


def test_a_world_whose_robot_turns_takes_the_turn_and_others_drop_it(tmp_path: Path) -> None:
    path = write_world(tmp_path, (SLIDES, SLIDES + YAW))
    own = state_of(load_world(path).scene(side="left", like=made_scene()))
    make_env = partial(BottleEnv, image_size=4, mjcf=path)
    turning = roll_out(Watcher(), [own], execution=AT_ONCE, make_env=make_env)[0]
    assert np.all(turning.command[:, 2] == 99)
    assert np.diff(turning.position, axis=0)[1] != pytest.approx(0.1 * turning.command[1, :2], abs=1e-3)
    driver = Watcher()
    driver.action_names = ("angle", "linear_y", "linear_x")
    with pytest.raises(ConfigError, match="angular_z is missing"):
        roll_out(driver, [own], execution=AT_ONCE, make_env=make_env)


def test_a_chunk_too_short_to_execute_is_refused_before_anything_is_driven() -> None:
    with pytest.raises(ConfigError, match=r"count=2: the policy predicts 1"):
        roll_out(Script("w"), [state_of(made_scene())], execution=FirstActions(count=2), make_env=make_small_env)


def test_the_script_is_asked_no_more_after_the_end() -> None:
    driver = Script("w" * 60, "a" * 6 + "w" * 18)
    drives = roll_out(driver, [state_of(made_scene())] * 2, execution=AT_ONCE, make_env=make_small_env)
    assert [drive.outcome for drive in drives] == ["collision", "success"]
    assert driver.num_calls == [len(drive.command) for drive in drives] == [6, 26]


def test_the_expert_drives_as_it_recorded_and_stands_where_it_found_no_way(states: list[InitialState]) -> None:
    actions = expert_actions(states)
    drives = roll_out(Expert([None, *actions[1:]]), states, execution=AT_ONCE, make_env=make_small_env)
    assert drives[0].outcome == "timeout"
    assert not drives[0].command.any()
    for state, drive, planned in zip(states[1:], drives[1:], actions[1:], strict=True):
        assert planned is not None
        assert drive.outcome == "success"
        num_frames = min(len(drive.position), len(planned))
        path = positions(state.scene, planned)
        assert np.abs(drive.position[:num_frames] - path[:num_frames]).max() < 1e-9
    same = expert_actions(states)
    assert all(np.array_equal(one, other) for one, other in zip(actions, same, strict=True))


@pytest.mark.slow
def test_chance_holds_any_key_and_arrives_nowhere(states: list[InitialState]) -> None:
    drives, again, other = (
        roll_out(Chance(seed=seed), states * 2, execution=AT_ONCE, make_env=make_small_env) for seed in (0, 0, 1)
    )
    for one, same in zip(drives, again, strict=True):
        assert_same(one, same)
    assert any(len(a.command) != len(b.command) for a, b in zip(drives, other, strict=True))
    assert sum(drive.outcome == "success" for drive in drives + other) == 0
    keys, counts = np.unique(np.concatenate([drive.command for drive in drives]), axis=0, return_counts=True)
    assert keys == pytest.approx(np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]) * SPEED_M_S)
    assert counts.min() > 0.6 * counts.mean()


def test_an_unread_policy_is_told_nothing_and_shown_everything() -> None:
    texts: list[str] = []

    class Listener(Watcher):
        def act(self, image: np.ndarray, instruction: Sequence[str], *, robots: Sequence[Hashable]) -> np.ndarray:
            texts.extend(instruction)
            return super().act(image, instruction, robots=robots)

    sides = [state_of(made_scene(side=side)) for side in ("left", "right")]
    left, right = roll_out(WithoutInstruction(Listener()), sides, execution=AT_ONCE, make_env=make_small_env)
    assert set(texts) == {""}
    num_steps = min(len(left.command), len(right.command))
    assert np.array_equal(left.position[:num_steps], right.position[:num_steps])


def test_time_out_is_the_environments() -> None:
    make_env = partial(BottleEnv, image_size=4, max_steps=7)
    drive = roll_out(Script(""), [state_of(made_scene())], execution=AT_ONCE, make_env=make_env)[0]
    assert (drive.outcome, len(drive.command)) == ("timeout", 7)
    assert len(drive_keys("").command) == 60
