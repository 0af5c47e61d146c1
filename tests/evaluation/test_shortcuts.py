"""Check the figures and the verdict against policies that are made to take one shortcut."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_batches import make_model
from made_episodes import made_episode, made_reader
from made_policies import K, made_policy, noise_reader, reads_side, sees_nothing
from made_scales import made_scale, signals_spec
from rich.console import Console
from torch import nn

from mobile_vla.data.batches import WindowReader
from mobile_vla.evaluation.action_scale import ActionScale
from mobile_vla.evaluation.offline import Evaluation
from mobile_vla.evaluation.rmse import masked_rmse
from mobile_vla.evaluation.shortcut_probes import PROBES, UNCHANGED, run_probes
from mobile_vla.evaluation.shortcuts import judge, measure_shortcuts, print_shortcuts
from mobile_vla.policy.model import Model
from mobile_vla.schema import Episode
from mobile_vla.spec import Signal
from mobile_vla.streams import Stream

STREAM = Stream(3, "shortcuts")
REFERENCES = {
    f"baseline/{name}/{error}": value
    for name, value in (("mean", 1.0), ("scenario_time_lookup", 1e6))
    for error in ("rmse", "nrmse")
}


@pytest.fixture(scope="module", params=["none", "both"])
def reader(request: pytest.FixtureRequest, episodes: Path) -> WindowReader:
    return noise_reader(episodes, request.param)


def measure(
    model: Model, reader: WindowReader, *, names: Sequence[str] = ("linear_x", "linear_y"), **given: object
) -> dict[str, float | str]:
    options = {"batch_size": 32, "stream": STREAM, "references": REFERENCES} | given
    return measure_shortcuts(model, reader=reader, scale=made_scale(names), **options)  # pyright: ignore[reportArgumentType]


def of_group(result: dict[str, float | str], group: str) -> dict[str, float | str]:
    """Return the changes under the probes whose names begin with ``group``."""
    return {key: value for key, value in result.items() if key.startswith(f"shortcut/{group}") and "_change" in key}


def test_unchanged_is_the_evaluations_own_rmse_and_changes_are_over_the_changed_windows(reader: WindowReader) -> None:
    model = make_model(num_actions=2)
    result = measure(model, reader)
    measured = Evaluation(batch_size=16, probe_windows=0, critical_threshold=0.5, shortcuts=False).measure(
        model, {"val": reader, "train": reader}, scale=made_scale(("linear_x", "linear_y")), split_seed=0
    )
    assert result["shortcut/unchanged/rmse"] == pytest.approx(measured["val/rmse"], abs=1e-6)
    targets = reader.current_targets()
    outcomes = run_probes(model, reader, batch_size=32, stream=STREAM)
    for probe in PROBES:
        rows = outcomes[probe].is_changed_N
        before, after = (
            masked_rmse(np.square(outcomes[name].actions_NKA - targets.actions_NKA)[rows], targets.mask_NK[rows])
            for name in (UNCHANGED, probe)
        )
        assert before is not None
        assert after is not None
        assert result[f"shortcut/{probe}/rmse"] == pytest.approx(after, abs=1e-6)
        assert result[f"shortcut/{probe}/rmse_change"] == pytest.approx(after - before, abs=1e-6)


def test_a_policy_that_does_not_hear_ignores_the_instruction(reader: WindowReader) -> None:
    model = make_model(num_actions=2)
    nn.init.zeros_(model.backbone.film.weight)  # pyright: ignore[reportAttributeAccessIssue]
    result = measure(model, reader)
    changes = of_group(result, "instruction")
    assert len(changes) == 4
    assert set(changes.values()) == {0.0}
    assert result["shortcut/uses_instruction"] == 0
    assert "ignores the instruction" in str(result["shortcut/verdict"])
    assert of_group(result, "images") != dict.fromkeys(of_group(result, "images"), 0.0)


def test_a_policy_of_the_text_alone_turns_in_every_swapped_window_and_sees_nothing(reader: WindowReader) -> None:
    model = made_policy(reads_side, lambda features: features[:, :, None].expand(-1, -1, K, 2))
    result = measure(model, reader)
    assert result["shortcut/instruction_swapped/side_change"] == 1
    assert result["shortcut/instruction_other/side_change"] == 1  # another task: the other side, where there is one
    for group in ("images", "history", "position"):
        assert set(of_group(result, group).values()) == {0.0}
    assert result["shortcut/uses_images"] == 0
    assert result["shortcut/verdict"] == "uses the instruction, hardly uses the images"


def test_a_blind_policy_hardly_uses_the_images(reader: WindowReader) -> None:
    model = make_model(num_actions=2)
    nn.init.zeros_(model.backbone.project.weight)  # pyright: ignore[reportAttributeAccessIssue]
    result = measure(model, reader)
    changes = of_group(result, "images")
    assert len(changes) == 6
    assert list(changes.values()) == pytest.approx([0.0] * 6, abs=1e-6)
    assert "hardly uses the images" in str(result["shortcut/verdict"])


def scripted(num_episodes: int = 3) -> tuple[WindowReader, torch.Tensor]:
    """Return episodes of one window that all act by one script, and the script's chunks [T, K, A]."""
    num_history = 8
    script = np.random.default_rng(0).choice(np.array([-1.15, 0, 1.15], np.float32), (num_history + K, 3))
    episodes: list[Episode] = [made_episode(i, num_frames=num_history + K, actions=script) for i in range(num_episodes)]
    reader = made_reader(
        episodes, window_size=num_history, fwd_pred_next_n=K, padding="none", action_names=("linear_x", "linear_y")
    )
    chunks = np.stack([script[t : t + K, :2] for t in range(num_history)])
    return reader, torch.from_numpy(chunks)


def clock_policy(chunks_TKA: torch.Tensor) -> Model:
    """Return a policy that counts the positions of the window and reads its actions off a table."""
    return made_policy(sees_nothing, lambda features: chunks_TKA.expand(len(features), -1, -1, -1))


def test_a_clock_is_told_by_the_lookup_that_is_as_good() -> None:
    reader, chunks = scripted()
    result = measure(clock_policy(chunks), reader, references={**REFERENCES, "baseline/scenario_time_lookup/rmse": 0.0})
    assert result["shortcut/unchanged/rmse"] == pytest.approx(0, abs=1e-6)
    assert result["shortcut/clock_suffices"] == 1
    assert "a clock would do as well" in str(result["shortcut/verdict"])


def test_a_clock_is_told_by_its_position_even_where_no_lookup_is_as_good() -> None:
    reader, chunks = scripted()
    result = measure(clock_policy(chunks), reader)
    assert float(result["shortcut/position_shifted/rmse_change"]) > 0.5
    assert result["shortcut/verdict"] == (
        "ignores the instruction, hardly uses the images, takes the place in the window for the time, "
        "a clock would do as well"
    )


FIGURES = {
    "shortcut/unchanged/rmse": 0.30,
    "shortcut/instruction_swapped/rmse_change": 0.4,
    "shortcut/images_mean/rmse_change": 0.2,
    "shortcut/position_shifted/rmse_change": 0.0,
}


@pytest.mark.parametrize(("lookup", "is_clock"), [(0.35, False), (0.31, True), (0.30, True), (0.0, True)])
def test_a_policy_must_be_clearly_ahead_of_the_lookup(lookup: float, is_clock: bool) -> None:
    references = {"baseline/mean/rmse": 0.5, "baseline/scenario_time_lookup/rmse": lookup}
    found = judge(FIGURES, references)
    assert found["shortcut/clock_suffices"] == is_clock
    assert str(found["shortcut/verdict"]).startswith("uses the instruction, uses the images")


def test_a_policy_that_sees_is_no_clock_though_it_knows_its_position() -> None:
    references = {"baseline/mean/rmse": 0.5, "baseline/scenario_time_lookup/rmse": 0.4}
    found = judge(FIGURES | {"shortcut/position_shifted/rmse_change": 0.3}, references)
    assert found["shortcut/uses_position"] == 1
    assert found["shortcut/clock_suffices"] == 0


def test_the_probes_leave_the_model_and_the_global_random_state_alone(reader: WindowReader) -> None:
    model = make_model(num_actions=2)
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state, torch_state = np.random.get_state(), torch.random.get_rng_state()
    measure(model, reader)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert str(np.random.get_state()) == str(state)
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_the_result_is_a_function_of_the_stream_and_not_of_the_batches(reader: WindowReader) -> None:
    model = make_model(num_actions=2)
    torch.manual_seed(1)
    result = measure(model, reader)
    torch.manual_seed(2)
    assert measure(model, reader) == result
    smaller = measure(model, reader, batch_size=13)
    assert smaller.keys() == result.keys()
    for key, value in result.items():
        assert smaller[key] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-5)), key
    other = measure(model, reader, stream=Stream(4, "shortcuts"))
    assert {key for key in result if result[key] != other[key]} <= {
        f"shortcut/{probe}/{name}"
        for probe in ("instruction_other", "images_time_shuffled")
        for name in ("rmse", "rmse_change", "side_change")
    }
    assert other != result


def test_probes_without_an_effect_are_left_out() -> None:
    one_text = [replace(made_episode(i, num_frames=8), instruction="go left") for i in range(2)]
    model = made_policy(sees_nothing, lambda features: features[:, :, None].expand(-1, -1, K, 3), num_actions=3)
    names = ("linear_x", "linear_y", "angular_z")
    result = measure(model, made_reader(one_text, window_size=4, fwd_pred_next_n=K), names=names)
    assert "shortcut/instruction_swapped/rmse" in result
    assert "shortcut/instruction_other/rmse" not in result
    silent = [replace(episode, instruction="go on") for episode in one_text]
    result = measure(model, made_reader(silent, window_size=1, fwd_pred_next_n=K), names=names)
    assert {key.split("/")[1] for key in result if key.endswith("/rmse")} == {
        "unchanged",
        "images_time_shuffled",
        "images_mean",
        "images_mirrored",
    }
    assert "shortcut/uses_instruction" not in result
    assert "was measured with one instruction only" in str(result["shortcut/verdict"])


@pytest.mark.parametrize(
    ("names", "share"), [(("linear_x", "linear_y"), 0.0), (("linear_x", "angular_z"), 1.0), (("linear_x",), None)]
)
def test_the_side_is_of_linear_y_or_else_of_angular_z(names: tuple[str, ...], share: float | None) -> None:
    episodes = [replace(made_episode(i, num_frames=6), instruction="go left") for i in range(2)]
    turn_A = torch.tensor([{"linear_x": 1.0, "linear_y": 0.09, "angular_z": 0.11}[name] for name in names])
    model = made_policy(
        reads_side, lambda features: (features * turn_A)[:, :, None].expand(-1, -1, K, -1), num_actions=len(names)
    )
    reader = made_reader(episodes, window_size=2, fwd_pred_next_n=K, action_names=names)
    # 0.09 standard deviations are no side, 0.11 are one.
    assert measure(model, reader, names=names).get("shortcut/instruction_swapped/side_change") == share


def test_only_windows_that_a_probe_changes_count() -> None:
    episodes = [replace(made_episode(i, num_frames=6), instruction=text) for i, text in enumerate(("go left", "go on"))]
    model = made_policy(reads_side, lambda features: features[:, :, None].expand(-1, -1, K, 2))
    reader = made_reader(episodes, window_size=3, fwd_pred_next_n=K, action_names=("linear_x", "linear_y"))
    assert measure(model, reader)["shortcut/instruction_swapped/side_change"] == 1


def test_the_side_is_of_the_actions_that_exist() -> None:
    episodes = [replace(made_episode(i, num_frames=6), instruction="go left") for i in range(2)]
    last_action = torch.tensor([0.0, 0.0, 0.0, 3.0])[:, None]
    model = made_policy(reads_side, lambda features: features[:, :, None] * last_action + torch.tensor([1.0, 0.5]))
    reader = made_reader(episodes, window_size=2, fwd_pred_next_n=K, action_names=("linear_x", "linear_y"))
    # The last of 4 actions tells the side; it exists in the windows of the first 3 of 6 frames.
    assert measure(model, reader)["shortcut/instruction_swapped/side_change"] == 0.5


def test_the_table_shows_every_probe_and_the_verdict(reader: WindowReader) -> None:
    result = measure(make_model(num_actions=2), reader)
    console = Console(file=io.StringIO(), width=200)
    print_shortcuts(result, console, scale=made_scale(("linear_x", "linear_y")))
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for probe in PROBES:
        line = next(line for line in printed.splitlines() if line.startswith(probe.replace("_", " ")))
        assert f"{result[f'shortcut/{probe}/rmse']:.4f}" in line
        assert f"{result[f'shortcut/{probe}/rmse_change']:+.4f}" in line
        assert f"{result[f'shortcut/{probe}/side_change']:.0%}" in line
    assert f"the policy {result['shortcut/verdict']}" in printed
    assert "mirrored images, and no side" not in printed
    assert "train std" not in printed


def test_the_table_of_an_arm_says_its_unit_and_why_nothing_is_mirrored() -> None:
    joints = [Signal(name=f"joint_{i}", unit="rad", kind="position") for i in range(2)]
    gripper = Signal(name="gripper", kind="binary")
    scale = ActionScale.of(signals_spec(*joints, gripper), [np.eye(3, dtype=np.float32)])
    result: dict[str, float | str] = {
        "shortcut/unchanged/rmse": 0.5,
        "shortcut/camera_wrist_black/rmse": 0.75,
        "shortcut/camera_wrist_black/rmse_change": 0.25,
        "shortcut/verdict": "uses the images",
    }
    console = Console(file=io.StringIO(), width=300)
    print_shortcuts(result, console, scale=scale)
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "nRMSE [train std]" in printed
    assert "each action is divided by its standard deviation over the train frames" in printed
    assert "no probe with mirrored images, and no side: no action is known as a velocity" in printed
    assert "side changed" not in printed
