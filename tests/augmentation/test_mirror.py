"""Check that a mirrored window is the window of a mirrored world: pixels, actions and words together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from augmented import BATCH, STREAM, batch_of
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law, made_spec
from regex import Pattern
from tiny_runs import compose_config, run_in

from mobile_vla.augmentation.mirror import Mirror, mirror_words
from mobile_vla.data.labels.grammars import compile_grammars, parse_name
from mobile_vla.errors import ConfigError
from mobile_vla.spec import Signal, known_signal

ALWAYS = Mirror(probability=1, spec=made_spec())


def test_mirroring_flips_columns_signs_and_words() -> None:
    mirrored = ALWAYS(BATCH, stream=STREAM, step=0)
    assert torch.equal(mirrored.images_BTVCYX, BATCH.images_BTVCYX.flip(-1))
    assert torch.equal(mirrored.actions_BTKA, BATCH.actions_BTKA * torch.tensor([1.0, -1.0, -1.0]))
    assert torch.equal(mirrored.mask_BTK, BATCH.mask_BTK)
    assert torch.equal(mirrored.history_BT, BATCH.history_BT)
    assert mirrored.instruction == tuple(map(mirror_words, BATCH.instruction)) != BATCH.instruction
    assert mirrored.scenario == tuple(map(mirror_words, BATCH.scenario)) != BATCH.scenario


def test_mirroring_twice_is_the_identity() -> None:
    twice = ALWAYS(ALWAYS(BATCH, stream=STREAM, step=0), stream=STREAM, step=1)
    assert torch.equal(twice.images_BTVCYX, BATCH.images_BTVCYX)
    assert torch.equal(twice.actions_BTKA, BATCH.actions_BTKA)
    assert (twice.instruction, twice.scenario) == (BATCH.instruction, BATCH.scenario)


@pytest.mark.parametrize(
    ("action_names", "signs"),
    [(("linear_x",), [1]), (("linear_x", "linear_y"), [1, -1]), (("linear_x", "angular_z"), [1, -1])],
)
def test_signs_follow_the_names_of_the_columns(action_names: tuple[str, ...], signs: list[int]) -> None:
    batch = batch_of(num_actions=len(action_names))
    mirrored = Mirror(probability=1, spec=made_spec(action_names))(batch, stream=STREAM, step=0)
    assert torch.equal(mirrored.actions_BTKA, batch.actions_BTKA * torch.tensor(signs))


def test_the_state_is_mirrored_with_its_window() -> None:
    state = (known_signal("linear_y"), Signal(name="height", flips=False), known_signal("angular_z"))
    spec = replace(made_spec(), state=state)
    batch = replace(BATCH, state_BTS=torch.randn(*BATCH.history_BT.shape, 3))
    mirrored = Mirror(probability=1, spec=spec)(batch, stream=STREAM, step=0)
    assert torch.equal(mirrored.state_BTS, batch.state_BTS * torch.tensor([-1.0, 1.0, -1.0]))
    with pytest.raises(ConfigError, match="height"):
        Mirror(probability=1, spec=replace(spec, state=(Signal(name="height"),)))


@law
@given(probability=st.floats(0, 1), step=st.integers(0, 10**6))
def test_each_window_is_mirrored_whole_or_not_at_all(probability: float, step: int) -> None:
    batch = batch_of(num_windows=8)
    mirror = Mirror(probability=probability, spec=ALWAYS.spec)
    changed, whole = mirror(batch, stream=STREAM, step=step), ALWAYS(batch, stream=STREAM, step=step)
    for b in range(len(batch)):
        source = whole if changed.scenario[b] != batch.scenario[b] else batch
        assert torch.equal(changed.images_BTVCYX[b], source.images_BTVCYX[b])
        assert torch.equal(changed.actions_BTKA[b], source.actions_BTKA[b])
        assert changed.instruction[b] == source.instruction[b]


def test_the_share_of_mirrored_windows_is_the_probability() -> None:
    batch = batch_of(num_windows=50)
    for probability in (0.0, 0.25, 0.5, 1.0):
        mirror = Mirror(probability=probability, spec=ALWAYS.spec)
        changed = [mirror(batch, stream=STREAM, step=step).scenario for step in range(40)]
        share = np.mean([[a != b for a, b in zip(c, batch.scenario, strict=True)] for c in changed])
        assert share == pytest.approx(probability, abs=0.05 if 0 < probability < 1 else 0)


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("Navigate to the left bottle", "Navigate to the right bottle"),
        ("Go to the red bottle, mind the blue one", "Go to the red bottle, mind the blue one"),
        ("Left, LEFT and left.", "Right, RIGHT and right."),
        ("left-hand side; right/left", "right-hand side; left/right"),
        ("the leftmost cup, turn rightward, Leftwards", "the rightmost cup, turn leftward, Rightwards"),
        ("upright, brightly, lefty, copyright", "upright, brightly, lefty, copyright"),
        ("왼쪽 상자를 지나 오른쪽으로 가세요", "오른쪽 상자를 지나 왼쪽으로 가세요"),
        ("좌측으로 우회전", "우측으로 좌회전"),
        ("1box_hori_left", "1box_hori_right"),
        ("basket_1box_hori_right", "basket_1box_hori_left"),
        ("weak_left_left_curve", "weak_right_right_curve"),
        ("strong_right_left_curve", "strong_left_right_curve"),
        ("target_center_left_path", "target_center_right_path"),
        ("center_straight", "center_straight"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_left_and_right_change_places_as_words_and_keep_their_case(text: str, mirrored: str) -> None:
    assert mirror_words(text) == mirrored
    assert mirror_words(mirrored) == text


words = st.sampled_from(["left", "Right", "LEFT", "왼쪽으로", "우측", "rightmost", "upright", "curve", "1box", "the"])


@law
@given(st.lists(words), st.sampled_from([" ", "_", "-", ", "]))
def test_mirroring_words_twice_is_the_identity(parts: list[str], joint: str) -> None:
    text = joint.join(parts)
    assert mirror_words(mirror_words(text)) == text


@pytest.mark.parametrize(
    "scenario",
    [
        *("1box_hori_left", "2box_vert_right", "target_left_straight_path", "target_right_left_path"),
        *(f"{side}_{path}" for side in ("weak_left", "strong_right", "center") for path in ("left_curve", "straight")),
    ],
)
def test_a_mirrored_scenario_is_one_of_the_shipped_grammars(scenario: str) -> None:
    grammars: dict[str, Pattern[str]] = compile_grammars(
        compose_config(["dataset=h5", "dataset.path=x"]).dataset.grammars
    )
    name = f"episode_20251204_101530_{mirror_words(scenario)}"
    assert parse_name(name, grammars)[0] == mirror_words(scenario)


def mirror_of(*signals: Signal, state: tuple[Signal, ...] = ()) -> Mirror:
    return Mirror(probability=1, spec=replace(made_spec(), actions=signals, state=state))


@given(flips=st.lists(st.booleans(), min_size=1, max_size=30))
def test_the_signs_are_those_that_the_spec_says_whatever_the_names(flips: list[bool]) -> None:
    signals = [Signal(name=f"axis_{index}", flips=is_flipped) for index, is_flipped in enumerate(flips)]
    batch = batch_of(num_actions=len(flips))
    mirrored = mirror_of(*signals)(batch, stream=STREAM, step=0)
    signs = torch.tensor([-1.0 if is_flipped else 1.0 for is_flipped in flips])
    assert torch.equal(mirrored.actions_BTKA, batch.actions_BTKA * signs)


def test_a_signal_of_which_nobody_said_whether_it_flips_is_refused_by_name() -> None:
    known, joints = known_signal("linear_x"), [Signal(name=f"joint_{index}") for index in range(26)]
    told = r"sign of joint_0, .* changes in a mirror image \(26 of 27 signals\).*\{joint_0: \{flips: true\}\}"
    with pytest.raises(ConfigError, match=told):
        mirror_of(known, *joints)
    with pytest.raises(ConfigError, match="sign of elbow changes"):
        mirror_of(known, state=(Signal(name="elbow"),))
    mirror_of(known, state=(Signal(name="elbow", flips=False),))


@pytest.mark.parametrize(
    "pair", [("left_arm", "right_arm"), ("kLeftElbow", "kRightElbow"), ("arm.LEFT.x", "arm.right.x")]
)
def test_pairs_of_a_left_and_a_right_signal_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="counterpart on the right"):
        mirror_of(*(Signal(name=name, flips=False) for name in pair))
    mirror_of(Signal(name=pair[0], flips=True), Signal(name="torso", flips=True))


def test_mirror_is_refused_before_training(tiny: tuple[str, ...], tmp_path: Path) -> None:
    unknown = "dataset.signals={linear_y: {flips: null}}"
    refused = run_in(tmp_path / "refused", *tiny, "augmentation=mirror", unknown)
    assert refused.exit_code == 1
    assert "nobody said whether the sign of linear_y changes" in refused.message
    assert not (refused.folder / "metrics.jsonl").exists() or not refused.rows
    told = run_in(tmp_path / "told", *tiny, "augmentation=mirror", "dataset.signals={linear_y: {flips: false}}")
    assert told.exit_code == 0, told.message
