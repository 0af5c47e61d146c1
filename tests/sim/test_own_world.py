"""Laws of the user's own MJCF world: it is driven as the built one is, or refused in words."""

import warnings
from pathlib import Path

import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from made_worlds import CRATE_PLACE, SLIDES, YAW, begin, own_scene, play, write_world

from mobile_vla.errors import UserError
from mobile_vla.sim.demonstrations.expert import drive, positions
from mobile_vla.sim.environment import TURN_SPEED_RAD_S, BottleEnv
from mobile_vla.sim.mjcf import load_world
from mobile_vla.streams import Stream

CAN_TURN = (SLIDES, SLIDES + YAW)


@pytest.mark.parametrize("changes", [(), (CAN_TURN,)])
def test_gymnasiums_own_checker_passes(tmp_path: Path, changes: tuple) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*normalized space.*|.*not having a spec.*")
        check_env(BottleEnv(image_size=4, mjcf=write_world(tmp_path, *changes)))


def test_every_lack_is_named_in_one_error(tmp_path: Path) -> None:
    names = ("robot", "bottle_left", "bottle_right", "robot_x", "robot_y", "front_camera")
    path = write_world(tmp_path, *((f'name="{name}"', f'name="my_{name}"') for name in names))
    with pytest.raises(UserError) as raised:
        load_world(path)
    lacks = str(raised.value).split("lacks ")[1].split(". ")[0]
    kinds = ("body", "body", "body", "joint", "joint", "site")
    assert lacks == ", ".join(f"{kind} {name!r}" for kind, name in zip(kinds, names, strict=True))


@pytest.mark.parametrize("content", [b"no XML", b"", b"<a/>", bytes(range(256)), b"<mujoco><worldbody><geom/>"])
def test_a_file_that_is_no_mjcf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.xml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mjcf=.*odd\.xml: MuJoCo cannot compile it"):
        BottleEnv(mjcf=str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.xml"):
        with pytest.raises(UserError, match="no such file; expected a MuJoCo XML file"):
            BottleEnv(mjcf=str(path))


def test_a_command_moves_the_robot_in_the_world_and_starts_are_offsets(tmp_path: Path) -> None:
    moved = write_world(tmp_path, ('name="robot" pos="0 0 0"', 'name="robot" pos="-.3 .2 0"'))
    env = begin(moved, start=(0.1, -0.05))
    assert env.position == pytest.approx([-0.2, 0.15])
    env.step([0.5, -0.3])
    assert env.position == pytest.approx([-0.15, 0.12])


def test_a_robot_that_turns_drives_where_it_heads_and_its_camera_turns(tmp_path: Path) -> None:
    env = begin(write_world(tmp_path, CAN_TURN), image_size=64)
    assert env.action_names == ("linear_x", "linear_y", "angular_z")
    for _ in range(4):
        observation, *_ = env.step([0, 0, 1.0])
    red = _columns(observation["image"], channel=0)
    first, _ = env.reset(options={"initial_state": env.state})
    assert red.mean() > _columns(first["image"], channel=0).mean() + 5
    for _ in range(10):
        env.step([0, 0, 99])  # cut off at the top speed
    before, angle = env.position, TURN_SPEED_RAD_S
    env.step([0.5, 0, 0])
    assert env.position - before == pytest.approx([0.05 * np.cos(angle), 0.05 * np.sin(angle)])
    before = env.position
    env.step([0, 0.5, 0])
    assert env.position - before == pytest.approx([-0.05 * np.sin(angle), 0.05 * np.cos(angle)])


def test_a_robot_that_turns_needs_the_third_number_and_others_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected 3 finite numbers.*angular_z"):
        begin(write_world(tmp_path, CAN_TURN)).step([0, 0])
    with pytest.raises(UserError, match="expected 2 finite numbers"):
        begin(write_world(tmp_path)).step([0, 0, 0])


@pytest.mark.parametrize(
    ("keys", "outcome", "touched"),
    [
        ("w" * 20, "collision", "crate"),
        ("a" * 10 + "w" * 20, "collision", "shelf"),
        ("a" * 5 + "w" * 20, "collision", "bottle_left"),
        ("d" * 8 + "w" * 20, "collision", "body 3"),
        ("a" * 6 + "w" * 17 + "..", "success", None),
        ("s" * 20, "left_room", None),
        ("a" * 30, "left_room", None),
        ("d" * 30, "left_room", None),
        ("." * 60, "timeout", None),
    ],
)
def test_every_obstacle_counts_and_open_worlds_can_be_left(
    tmp_path: Path, keys: str, outcome: str, touched: str | None
) -> None:
    info = play(begin(write_world(tmp_path)), keys)
    assert (info["outcome"], info["touched"]) == (outcome, touched)


def test_the_other_bottle_is_the_wrong_target_by_touch_and_by_stop(tmp_path: Path) -> None:
    path = write_world(tmp_path)
    assert play(begin(path, side="right"), "a" * 6 + "w" * 17 + "..")["outcome"] == "wrong_target"
    by_touch = play(begin(path, side="right"), "a" * 6 + "w" * 25)
    assert (by_touch["outcome"], by_touch["touched"]) == ("wrong_target", "bottle_left")


def test_movable_things_move(tmp_path: Path) -> None:
    env = begin(write_world(tmp_path, (CRATE_PLACE, 'pos="1 0 .6"')), image_size=32)
    first, _ = env.reset(options={"initial_state": env.state})
    for _ in range(10):
        later, *_ = env.step([0, 0])
    assert not np.array_equal(first["image"], later["image"])
    assert play(env, "w" * 20)["touched"] == "crate"  # it has fallen into the way


def test_an_episode_is_the_same_after_another_one_pushed_things(tmp_path: Path) -> None:
    env = begin(write_world(tmp_path, (CRATE_PLACE, 'pos="1 0 .6"')), image_size=16)
    runs = []
    for keys in ("w" * 20, "." * 5, "." * 5):
        first, _ = env.reset(options={"initial_state": env.state})
        play(env, keys)
        runs.append((first["image"].tobytes(), env.render() is None, env.position.tolist()))
    assert runs[0][0] == runs[1][0]
    assert runs[1] == runs[2]


def test_the_boxes_of_the_scene_enclose_every_obstacle(tmp_path: Path) -> None:
    path = write_world(tmp_path, ('type="sphere" size=".15"', 'type="capsule" size=".1 .2" euler="60 20 0"'))
    world = load_world(path)
    scene, data = own_scene(path), mujoco.MjData(world.model)
    mujoco.mj_forward(world.model, data)
    reach = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = [
        data.geom_xpos[geom] + (reach * world.model.geom_size[geom]) @ data.geom_xmat[geom].reshape(3, 3).T
        for geom in np.flatnonzero(world.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)
    ]
    capsule = int(np.flatnonzero(world.model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)[0])
    axis = data.geom_xmat[capsule].reshape(3, 3)[:, 2]
    ends = data.geom_xpos[capsule] + 0.2 * np.outer((-1, 1), axis)
    corners.append(np.concatenate([ends + 0.1 * step for step in np.vstack([np.eye(3), -np.eye(3)])]))
    assert len(scene.boxes) == len(corners) == 3
    for points in corners:
        assert any(
            np.all(box.distance(points[:, 0], points[:, 1]) < 1e-9) and points[:, 2].max() < box.height + 1e-9
            for box in scene.boxes
        )
    assert scene.bottles == {"left": (2.4, 0.7), "right": (2.4, -0.7)}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("changes", [(), (CAN_TURN,)])
def test_the_expert_finds_a_way_and_drives_it(tmp_path: Path, side: str, changes: tuple) -> None:
    path = write_world(tmp_path, *changes)
    for position in range(3):
        scene = own_scene(path, side=side, start=(-0.1 * position, 0.07))
        actions = drive(scene, Stream(0, "test").at(position))
        env = begin(path, side=side, start=(-0.1 * position, 0.07))
        for action, place in zip(actions, positions(scene, actions), strict=True):
            assert np.abs(env.position - place).max() < 1e-6
            *_, info = env.step(action[: len(env.action_names)])
            if info["outcome"]:
                break
        assert info["outcome"] == "success"


def test_resets_without_a_state_drive_in_the_file(tmp_path: Path) -> None:
    env = BottleEnv(image_size=4, mjcf=write_world(tmp_path))
    sides = set()
    for seed in range(8):
        observation, _ = env.reset(seed=seed)
        assert env.state.scene.bottles["left"] == (2.4, 0.7)
        assert env.state.scene.scenario.side in observation["instruction"]
        sides.add(env.state.scene.scenario.side)
    assert sides == {"left", "right"}


def _columns(image: np.ndarray, *, channel: int) -> np.ndarray:
    """Return the columns of the pixels whose colour is that channel's alone."""
    others = [other for other in range(3) if other != channel]
    return np.nonzero(image[..., channel] > 60 + 2 * image[..., others].max(-1).astype(int))[1]
