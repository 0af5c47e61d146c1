"""Laws of the environment: Gymnasium's contract, the recorded drives again, and every way that an episode can end."""

import random
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from made_drives import MIRRORED_KEYS, SPEED_M_S, commands, made_scene, mirrored_scene, state_of

from mobile_vla.errors import UserError
from mobile_vla.sim.camera import FrontCamera
from mobile_vla.sim.demonstrations.collect import record
from mobile_vla.sim.demonstrations.expert import positions
from mobile_vla.sim.demonstrations.recording import Demonstration
from mobile_vla.sim.environment import BottleEnv, BrokenWorldError
from mobile_vla.sim.scene import Scene

TO_GOAL = "aaaaaa" + "w" * 18


@pytest.fixture(scope="module")
def recordings() -> list[Demonstration]:
    return record(num_episodes=10, seed=4)


def begin(scene: Scene, **options: int) -> BottleEnv:
    env = BottleEnv(image_size=4, **options)
    env.reset(options={"initial_state": state_of(scene)})
    return env


def play(env: BottleEnv, keys: str) -> list[tuple]:
    """Hold ``keys`` until the episode ends; return what each step answered."""
    answers = []
    for command in commands(keys)[:, :2]:
        answers.append(env.step(command))
        if answers[-1][2] or answers[-1][3]:
            break
    return answers


def test_gymnasiums_own_checker_passes() -> None:
    env = gymnasium.make(
        "mobile_vla.sim.environment:mobile_vla/Bottle-v0", image_size=8, render_mode="rgb_array"
    ).unwrapped
    assert isinstance(env, BottleEnv)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*normalized space.*")  # the action is the physical command
        check_env(env)


def test_the_same_seed_is_the_same_episode_whatever_the_global_random_state() -> None:
    def episode(seed: int, global_seed: int) -> list[tuple]:
        random.seed(global_seed)
        np.random.seed(global_seed)
        env = BottleEnv(image_size=8)
        observation, info = env.reset(seed=seed)
        seen = [(observation["image"].tobytes(), observation["instruction"], *info["position"])]
        for observation, *_, info in play(env, "wqwqww"):
            seen.append((observation["image"].tobytes(), *info["position"], info["outcome"]))
        return seen

    assert episode(3, 0) == episode(3, 1)
    assert episode(3, 0) != episode(4, 0)


def test_a_reset_without_a_seed_begins_another_episode_of_the_same_series() -> None:
    series = []
    for _ in range(2):
        env = BottleEnv(image_size=4)
        env.reset(seed=1)
        series.append([env.reset()[1]["position"].tolist() for _ in range(2)])
    assert series[0] == series[1]
    assert series[0][0] != series[0][1]


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_recorded_drives_stand_where_they_stood_and_succeed(recordings: list[Demonstration], is_mirrored: bool) -> None:
    for recording in recordings:
        scene = mirrored_scene(recording.scene) if is_mirrored else recording.scene
        actions = recording.actions * np.float32([1, -1 if is_mirrored else 1, 1])
        env = begin(scene)
        wanted, info, num_steps = positions(scene, actions), {"outcome": None}, 0
        while info["outcome"] is None:
            assert np.abs(env.position - wanted[num_steps]).max() < 1e-9
            *_, info = env.step(actions[num_steps, :2])
            num_steps += 1
        assert info["outcome"] == "success"
        assert not actions[num_steps:].any(), "the episode ended before the drive had"


@pytest.mark.parametrize(
    ("keys", "outcome", "touched"),
    [
        (TO_GOAL + "..", "success", None),
        ("w" * 18, "collision", "box_0"),
        ("s" * 18, "collision", "walls"),
        ("a" * 18, "collision", "walls"),
        (TO_GOAL + "w" * 9, "collision", "bottle_left"),
        ("dddddd" + "w" * 27, "wrong_target", "bottle_right"),
        ("dddddd" + "w" * 18 + "..", "wrong_target", None),
        ("aaaaaa" + "w" * 14 + "." * 40, "timeout", None),
        ("." * 60, "timeout", None),
    ],
)
def test_every_way_to_end_has_its_name(keys: str, outcome: str, touched: str | None) -> None:
    swapped = {"bottle_left": "bottle_right", "bottle_right": "bottle_left"}
    scenes = (
        (made_scene(), keys, touched),
        (mirrored_scene(made_scene()), keys.translate(MIRRORED_KEYS), swapped.get(touched, touched)),
    )
    for scene, held, body in scenes:
        *before, (_, reward, terminated, truncated, info) = play(begin(scene), held)
        assert (info["outcome"], info["touched"]) == (outcome, body)
        assert reward == (outcome == "success")
        assert (terminated, truncated) == (outcome != "timeout", outcome == "timeout")
        assert all(answer[1:4] == (0, False, False) for answer in before)
        assert all(answer[4]["outcome"] is None and answer[4]["touched"] is None for answer in before)


def test_a_pause_between_two_pulses_is_no_stop() -> None:
    near = TO_GOAL[:-1]  # already within the tolerance
    assert play(begin(made_scene()), f"{near}.w")[-1][4]["outcome"] is None
    assert len(play(begin(made_scene()), f"{near}.w...")) == len(near) + 4
    assert play(begin(made_scene()), f"{near}..")[-1][4]["outcome"] == "success"


@pytest.mark.parametrize("side", ["left", "right"])
def test_standing_beyond_the_tolerance_is_no_success(side: str) -> None:
    for error_m, outcome in ((0.249, "success"), (0.251, None)):
        x, y = made_scene(side=side).goal()
        env = begin(replace(made_scene(side=side), start=(x - 0.6 * error_m, y + 0.8 * error_m)))
        assert play(env, "..")[-1][4]["outcome"] == outcome


def test_creeping_counts_as_standing_and_driving_does_not() -> None:
    for speed_m_s, outcome in ((0.24, "success"), (0.26, None)):
        env = begin(replace(made_scene(), start=made_scene().goal()))
        env.step([speed_m_s, 0])
        assert env.step([0, speed_m_s])[4]["outcome"] == outcome


@pytest.mark.parametrize("max_steps", [1, 7])
def test_time_is_up_after_max_steps_unless_the_last_one_succeeds(max_steps: int) -> None:
    assert len(play(begin(made_scene(), max_steps=max_steps), "." * 60)) == max_steps
    at_goal = replace(made_scene(), start=made_scene().goal())
    *_, last = play(begin(at_goal, max_steps=2), "..")
    assert (last[2], last[3], last[4]["outcome"]) == (True, False, "success")


def test_a_command_beyond_the_top_speed_is_cut_off() -> None:
    env = begin(made_scene())
    env.step([9.0, -1e30])
    assert env.position == pytest.approx([0.1 * SPEED_M_S, -0.1 * SPEED_M_S])


@pytest.mark.parametrize("action", [[np.nan, 0], [0, np.inf], [0], [0, 0, 0], [[0, 0]], 0.5, None])
def test_a_command_that_is_none_is_refused_in_words(action: object) -> None:
    env = begin(made_scene())
    with pytest.raises(UserError, match=r"expected 2 finite numbers.*linear_x.*linear_y"):
        env.step(action)
    assert env.position == pytest.approx([0, 0])
    assert env.num_steps == 0


@pytest.mark.parametrize("options", [{"image_size": 0}, {"max_steps": 0}])
def test_sizes_below_1_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="expected 1 or more"):
        BottleEnv(**options)


@pytest.mark.parametrize("keys", [TO_GOAL + "..", "w" * 9, TO_GOAL + "w" * 9])
def test_the_image_is_the_front_cameras_where_the_robot_is_said_to_be(keys: str) -> None:
    env = BottleEnv(image_size=24, render_mode="rgb_array")
    env.reset(options={"initial_state": state_of(made_scene())})
    camera = FrontCamera(made_scene(), image_size=24)
    for observation, *_, info in play(env, keys):
        assert np.array_equal(observation["image"], camera.render(info["position"]))
    assert np.array_equal(observation["image"], env.render())


def test_nothing_is_rendered_where_nothing_was_asked_for() -> None:
    assert begin(made_scene()).render() is None


def test_a_shaking_camera_shows_another_image_at_every_step_and_the_same_ones_again() -> None:
    def images(camera_shake_rad: float) -> list[bytes]:
        env = BottleEnv(image_size=16)
        first, _ = env.reset(options={"initial_state": state_of(made_scene(), camera_shake_rad=camera_shake_rad)})
        return [first["image"].tobytes()] + [answer[0]["image"].tobytes() for answer in play(env, "....")]

    assert len(set(images(0.0))) == 1
    assert len(set(images(0.02))) == 5
    assert images(0.02) == images(0.02)
    assert not set(images(0.0)) & set(images(0.02))


def test_no_image_of_an_episode_tells_which_bottle_is_meant() -> None:
    seen = []
    for side in ("left", "right"):
        env = BottleEnv(image_size=16)
        env.reset(options={"initial_state": state_of(made_scene(side=side), camera_shake_rad=0.01)})
        seen.append([answer[0]["image"] for answer in play(env, TO_GOAL)])
    assert np.array_equal(*seen)


@pytest.mark.parametrize("start", [(np.nan, 0.0), (0.0, np.inf)])
def test_a_pose_that_is_no_number_is_refused_before_anything_is_rendered(start: tuple[float, float]) -> None:
    scene = replace(made_scene(), start=start)
    with pytest.raises(BrokenWorldError, match="after 0 steps a position"):
        begin(scene)
