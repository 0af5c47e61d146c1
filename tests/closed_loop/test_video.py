"""Laws of videos: what is drawn is what was driven and seen, and the drives shown are varied."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from mobile_vla.closed_loop.drivers import Expert, expert_actions
from mobile_vla.closed_loop.execution import FirstActions
from mobile_vla.closed_loop.failures import FAILURES
from mobile_vla.closed_loop.results import EpisodeResult, episode_result
from mobile_vla.closed_loop.rollout import Drive, roll_out
from mobile_vla.closed_loop.top_view import DRIVEN, TOP_VIEW_SIZE, TopView
from mobile_vla.closed_loop.video import PICTURE_SIZE, TOP_VIEW_CORNER, pick_videos, write_video
from mobile_vla.sim.demonstrations.expert import positions
from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.mjcf import load_world
from mobile_vla.sim.scene import ACTION_NAMES, OTHER_SIDE, ROBOT_RADIUS_M, Scenario, sample_scene
from mobile_vla.streams import Stream

OWN_WORLD = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1"/>
    <body name="bottle_left" pos="14.6 6.7 0.2"><geom type="cylinder" size="0.09 0.2"/></body>
    <body name="bottle_right" pos="14.5 5.3 0.2"><geom type="cylinder" size="0.09 0.2"/></body>
    <body name="robot" pos="12 6 0.14">
      <joint name="robot_x" type="slide" axis="1 0 0"/>
      <joint name="robot_y" type="slide" axis="0 1 0"/>
      <geom type="cylinder" size="0.18 0.1"/>
      <site name="front_camera" pos="0 0 0.3"/>
    </body>
  </worldbody>
</mujoco>
"""


class Steady:
    """The same command at every step."""

    action_names = ACTION_NAMES
    fwd_pred_next_n = 1

    def __init__(self, *command: float) -> None:
        self._command = np.array(command, np.float32)

    def reset(self) -> None:
        pass

    def act(
        self, image: NDArray[np.uint8], instruction: Sequence[str], *, robots: Sequence[int]
    ) -> NDArray[np.float32]:
        return np.tile(self._command, (len(robots), 1, 1))


def state_of(scenario: str, *, text: str = "Go to the bottle, mind the box") -> InitialState:
    scene = sample_scene(Scenario.parse(scenario), Stream(3, "test"), position=0)
    return InitialState(scene=scene, instruction=text)


def driven(driver: object, state: InitialState, make_env: partial[BottleEnv]) -> Drive:
    (drive,) = roll_out(driver, [state], execution=FirstActions(count=1), make_env=make_env)
    return drive


def frames_of(path: Path) -> NDArray[np.int16]:
    """Return the pictures [F, Y, X, 3] of a GIF."""
    with Image.open(path) as image:
        return np.array([np.array(frame.convert("RGB"), np.int16) for frame in ImageSequence.Iterator(image)])


def from_above(picture: NDArray[np.int16]) -> NDArray[np.int16]:
    (left, top), (width, height) = TOP_VIEW_CORNER, TOP_VIEW_SIZE
    return picture[top : top + height, left : left + width]


def distance_px(pixels: NDArray[np.float64], way: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each of P pixels is from a way through N places, all as (column, row)."""
    dense = np.vstack([np.linspace(a, b, 50) for a, b in itertools.pairwise(way)] or [way])
    return np.hypot(*(pixels[:, None] - dense[None]).transpose(2, 0, 1)).min(1)


def pixels_where(is_so: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.argwhere(is_so)[:, ::-1] + 0.5


SMALL = partial(BottleEnv, image_size=32)
STATE = state_of("1box_hori_left_variant_medium")
EXPERT = expert_actions([STATE])
EXPERT_PATH = positions(STATE.scene, EXPERT[0])


@pytest.fixture(scope="module")
def success() -> Drive:
    return driven(Expert(EXPERT), STATE, SMALL)


@pytest.fixture(scope="module")
def collision() -> Drive:
    return driven(Steady(0.4, 0.7, 0), STATE, SMALL)


def write(path: Path, drive: Drive, **changes: object) -> Path:
    write_video(path, drive, **{"expert_path": EXPERT_PATH, "make_env": SMALL, "title": "seen 0", **changes})
    return path


def test_each_position_is_a_frame_at_the_pace_of_the_drive(tmp_path: Path, success: Drive, collision: Drive) -> None:
    for drive in (success, collision):
        with Image.open(write(tmp_path / "videos" / "drive.gif", drive)) as image:
            assert image.size == PICTURE_SIZE
            assert image.n_frames == len(drive.command) + 1
            pace_ms = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
        assert pace_ms == [100] * len(drive.command) + [1000]


def test_no_two_frames_are_alike(tmp_path: Path, collision: Drive) -> None:
    frames = frames_of(write(tmp_path / "drive.gif", collision))
    assert len({frame.tobytes() for frame in frames}) == len(frames)


def test_the_path_is_drawn_where_it_was_driven_and_nowhere_else(tmp_path: Path, collision: Drive) -> None:
    frames = frames_of(write(tmp_path / "drive.gif", collision, expert_path=None))
    view = TopView.of(collision)
    way = view.pixels(collision.position)
    assert collision.outcome == "collision"
    for step, frame in enumerate(frames):
        coloured = pixels_where((from_above(frame) == DRIVEN).all(-1))
        if len(coloured):
            assert distance_px(coloured, way[: step + 1]).max() < 3.5
        under_robot = np.hypot(*(way - way[step]).T) < ROBOT_RADIUS_M * view.px_per_m + 3
        for place in way[: step + 1][~under_robot[: step + 1]]:
            assert np.hypot(*(coloured - place).T).min() < 1.5


def test_the_expert_is_drawn_along_its_path_if_there_is_one(tmp_path: Path, collision: Drive) -> None:
    with_expert, without = (
        from_above(frames_of(write(tmp_path / f"{expert is None}.gif", collision, expert_path=expert))[-1])
        for expert in (EXPERT_PATH, None)
    )
    changed = pixels_where(np.abs(with_expert - without).max(-1) > 40)
    way = TopView.of(collision).pixels(EXPERT_PATH)
    assert distance_px(changed, way).max() < 3
    uncovered = distance_px(way, TopView.of(collision).pixels(collision.position)) > 15
    assert distance_px(way[uncovered], changed).max() < 12, "a dash and a gap are 11 pixels long"


def test_the_named_bottle_is_known_without_colours(tmp_path: Path) -> None:
    for side, other in OTHER_SIDE.items():
        drive = driven(Steady(0.9, 0, 0), state_of(f"1box_hori_{side}_core_medium"), SMALL)
        grey = from_above(frames_of(write(tmp_path / "drive.gif", drive, expert_path=None))[0]).mean(-1)
        bottles = drive.state.scene.bottles
        named, unnamed = (TopView.of(drive).pixels(bottles[name]).astype(int) for name in (side, other))
        assert grey[named[1], named[0]] < 120 < 240 < grey[unnamed[1], unnamed[0]]


def seen_by_policy(drive: Drive, make_env: partial[BottleEnv]) -> list[NDArray[np.uint8]]:
    env = make_env()
    first = env.reset(options={"initial_state": drive.state})[0]["image"]
    return [first, *(env.step(command)[0]["image"] for command in drive.command)]


def test_the_camera_shows_every_pixel_that_the_policy_saw(tmp_path: Path, collision: Drive) -> None:
    frames = frames_of(write(tmp_path / "drive.gif", collision))
    for frame, image in zip(frames, seen_by_policy(collision, SMALL), strict=True):
        shown = frame[40:296, 12:268].reshape(32, 8, 32, 8, 3)
        assert np.abs(shown - image[:, None, :, None]).max() < 16, "not even a distant bottle's colour is lost"


def test_a_camera_whose_pixels_do_not_fit_is_shown_smoothly(tmp_path: Path, collision: Drive) -> None:
    make_env = partial(BottleEnv, image_size=48)
    frames = frames_of(write(tmp_path / "drive.gif", collision, make_env=make_env))
    for frame, image in zip(frames, seen_by_policy(collision, make_env), strict=True):
        shown = Image.fromarray(frame[40:296, 12:268].astype(np.uint8)).resize((48, 48), Image.Resampling.BOX)
        assert np.abs(np.array(shown, int) - image).mean() < 6


def test_the_end_tells_the_outcome(tmp_path: Path, success: Drive) -> None:
    stopped = frames_of(write(tmp_path / "success.gif", success))
    failed = frames_of(write(tmp_path / "failure.gif", replace(success, outcome="timeout")))
    differs = np.abs(stopped - failed).max(-1) > 100
    for panel in (differs[..., : TOP_VIEW_CORNER[0]], differs[..., TOP_VIEW_CORNER[0] :]):
        assert panel.any((1, 2)).tolist() == [False] * len(success.command) + [True]


def test_equal_drives_give_equal_bytes(tmp_path: Path, success: Drive) -> None:
    again = driven(Expert(EXPERT), STATE, SMALL)
    assert write(tmp_path / "a.gif", success).read_bytes() == write(tmp_path / "b.gif", again).read_bytes()


def test_a_long_instruction_stays_beside_the_top_view(tmp_path: Path, collision: Drive) -> None:
    long = replace(collision, state=replace(STATE, instruction="Pneumonoultramicroscopic " * 20 + "x" * 500))
    title = "y" * 500
    page, other_page = (frames_of(write(tmp_path / "drive.gif", drive, title=title))[0] for drive in (collision, long))
    assert (np.abs(page - other_page).max(-1) > 100)[:, :268].any()
    assert not (np.abs(page - other_page).max(-1) > 20)[:, 270:].any()


def test_a_wall_less_world_of_the_users_own_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "own.xml").write_text(OWN_WORLD)
    scene = load_world(tmp_path / "own.xml").scene(side="left", like=STATE.scene)
    assert not scene.boxes
    make_env = partial(BottleEnv, image_size=16, mjcf=str(tmp_path / "own.xml"))
    drive = driven(Steady(1.1, 0, 0), InitialState(scene=scene, instruction="left"), make_env)
    assert drive.outcome == "left_room"
    frames = frames_of(write(tmp_path / "drive.gif", drive, expert_path=None, make_env=make_env))
    last = from_above(frames[-1])
    inside = TopView.of(drive).pixels(drive.position)
    assert (inside > 0).all()
    assert (inside < TOP_VIEW_SIZE).all()
    assert distance_px(pixels_where((last == DRIVEN).all(-1)), inside).max() < 3.5
    edges = np.concatenate([last[0], last[-1], last[:, 0], last[:, -1]])
    assert (edges == 255).all(), "no walls"


metres = st.floats(-50, 50)


@given(x=metres, y=metres, ahead_m=st.floats(0.01, 10), aside_m=st.floats(0.01, 10))
def test_forward_is_up_and_left_is_left_at_one_scale(x: float, y: float, ahead_m: float, aside_m: float) -> None:
    view = TopView(centre=(1.0, -2.0), px_per_m=50.0)
    here, there = view.pixels([(x, y), (x + ahead_m, y + aside_m)])
    assert there - here == pytest.approx(np.array([-aside_m, -ahead_m]) * 50)


@pytest.mark.parametrize("scenario", ["1box_vert_left_core_close", "2box_hori_right_variant_far"])
def test_the_whole_room_is_in_view(scenario: str) -> None:
    state = state_of(scenario)
    room = state.scene.room
    standing = Drive(
        state=state,
        outcome="timeout",
        touched=None,
        position=np.array([state.scene.start] * 2),
        command=np.zeros((1, 2), np.float32),
    )
    corners = TopView.of(standing).pixels([(room.front_x, room.half_width), (room.back_x, -room.half_width)])
    assert (corners > 0).all()
    assert (corners < TOP_VIEW_SIZE).all()


failures = st.lists(st.sampled_from([None, *FAILURES]), max_size=30)


@given(kinds=failures, count=st.integers(0, 8))
def test_videos_are_of_successes_and_of_as_many_types_of_failure_as_can_be(kinds: list[str | None], count: int) -> None:
    picked = pick_videos([result_of(kind) for kind in kinds], count=count)
    num_failures = len(kinds) - kinds.count(None)
    good = [position for name, position in picked.items() if name.startswith("success_")]
    bad = [position for name, position in picked.items() if name.startswith("failure_")]
    assert len(good) == min(count, kinds.count(None))
    assert [kinds[i] for i in good] == [None] * len(good)
    assert good == sorted(good)
    assert len(bad) == min(count, num_failures)
    assert len(set(picked.values())) == len(picked) == len(good) + len(bad)
    types = Counter(kinds[i] for i in bad)
    assert None not in types
    assert len(types) == min(count, len(set(kinds) - {None}))


def result_of(failure: str | None) -> EpisodeResult:
    return replace(RESULT, success=failure is None, failure=failure)


RESULT = episode_result(
    Drive(
        state=STATE,
        outcome="timeout",
        touched=None,
        position=np.array([STATE.scene.start] * 2),
        command=np.zeros((1, 2), np.float32),
    ),
    suite="seen",
    index=0,
    expert_path=None,
)
