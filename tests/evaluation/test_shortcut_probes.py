"""Check each probe against what it says it shows, by a policy that answers with what it was shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_batches import make_model
from made_episodes import law, made_episode, made_reader
from made_policies import K, noise_reader
from torch.nn.functional import dropout

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.windows import Padding
from mobile_vla.evaluation.shortcut_probes import PROBES, UNCHANGED, run_probes
from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch
from mobile_vla.streams import Stream

STREAM = Stream(3, "shortcuts")


@pytest.fixture(scope="module", params=["none", "both"])
def reader(request: pytest.FixtureRequest, episodes: Path) -> WindowReader:
    return noise_reader(episodes, request.param)


def shows_through() -> Model:
    """Return a policy whose "actions" [T, 4] are what it was shown: frame colours, and the number of the text."""

    def show(batch: Batch) -> torch.Tensor:
        number_B = torch.tensor([float(text.split()[-1]) + 1 for text in batch.instruction])
        number_BT1 = number_B[:, None, None] * batch.history_BT[..., None]
        return torch.cat([batch.images_BTVCYX[..., 0, 0].flatten(2).float(), number_BT1], dim=-1)

    model = make_model()
    model.predict = show
    return model


@law
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    num_history=st.integers(1, 5),
    padding=st.sampled_from(["end", "both"]),
    seed=st.integers(0, 99),
)
def test_each_probe_shows_what_it_says(lengths: list[int], num_history: int, padding: Padding, seed: int) -> None:
    lengths = [*lengths, num_history + 1]  # one episode at least has a window
    episodes = [made_episode(i, num_frames=n) for i, n in enumerate(lengths)]
    reader = made_reader(episodes, window_size=num_history, fwd_pred_next_n=K, padding=padding)
    found = run_probes(shows_through(), reader, batch_size=10, stream=Stream(seed, "s"))
    shown = {name: outcome.actions_NKA for name, outcome in found.items()}
    windows = reader.windows
    times_NT = windows.start[:, None] + np.arange(num_history)
    exists_NT = times_NT >= 0
    columns = np.broadcast_arrays(1 + windows.episode[:, None], 1 + times_NT, 255, 1 + windows.episode[:, None])
    original = np.stack(columns, axis=-1) * exists_NT[..., None]
    episode_NT, time_NT, text_NT = 0, 1, 3  # columns of what is shown

    np.testing.assert_array_equal(shown[UNCHANGED], original)
    np.testing.assert_array_equal(shown["instruction_swapped"], original)  # no such word
    np.testing.assert_array_equal(shown["images_mirrored"], original)  # one colour a frame

    np.testing.assert_array_equal(shown["instruction_other"][..., :3], original[..., :3])
    has_other = len(set(windows.episode.tolist())) > 1
    differs_NT = shown["instruction_other"][..., text_NT] != original[..., text_NT]
    np.testing.assert_array_equal(differs_NT, exists_NT & has_other)

    shuffled = shown["images_time_shuffled"]
    np.testing.assert_array_equal(shuffled[..., [episode_NT, text_NT]], original[..., [episode_NT, text_NT]])
    seen = [np.arange(windows.start[windows.episode == e].max() + num_history) for e in windows.episode.tolist()]
    np.testing.assert_array_equal(shuffled[..., time_NT] > 0, exists_NT)
    assert all(set(row[row > 0] - 1) <= set(times) for row, times in zip(shuffled[..., time_NT], seen, strict=True))

    mean = np.round(original[exists_NT][:, :3].mean(0))
    np.testing.assert_array_equal(shown["images_mean"][..., :3], np.where(exists_NT[..., None], mean, 0))
    np.testing.assert_array_equal(shown["images_mean"][..., text_NT], original[..., text_NT])

    is_last_T = np.arange(num_history) == num_history - 1
    np.testing.assert_array_equal(shown["history_cut"], original * is_last_T[:, None])

    shift, is_whole_N = num_history // 2, np.all(exists_NT, axis=1)
    moved = np.concatenate([original[:, shift:], np.zeros_like(original[:, :shift])], axis=1)
    np.testing.assert_array_equal(shown["position_shifted"], np.where(is_whole_N[:, None, None], moved, original))

    for name in PROBES:
        is_other_N = (shown[name] != original).any((1, 2))
        if name not in ("images_mean", "images_mirrored"):  # these change every window, if only in other pixels
            np.testing.assert_array_equal(found[name].is_changed_N, is_other_N, err_msg=name)
    assert found["images_mean"].is_changed_N.all()
    assert found["images_mirrored"].is_changed_N.all()


CHANGES: dict[str, Callable[[Batch], Batch]] = {
    UNCHANGED: lambda batch: batch,
    "instruction_swapped": lambda batch: replace(
        batch,
        instruction=tuple(
            text.replace("left", "R").replace("right", "left").replace("R", "right") for text in batch.instruction
        ),
    ),
    "images_mirrored": lambda batch: replace(batch, images_BTVCYX=batch.images_BTVCYX.flip(-1)),
    "history_cut": lambda batch: replace(batch, history_BT=batch.history_BT & torch.tensor([False, False, True])),
}


@pytest.mark.parametrize("probe", CHANGES)
def test_the_answer_under_a_probe_is_the_models_own_to_the_changed_batch(reader: WindowReader, probe: str) -> None:
    model = make_model(num_actions=2)
    found = run_probes(model, reader, batch_size=32, stream=STREAM)[probe].actions_NKA
    expected = model.predict(CHANGES[probe](reader.gather(np.arange(len(reader.windows)))))
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=1e-5)


def test_a_shifted_position_is_the_models_own_answer_to_a_history_that_ends_early(reader: WindowReader) -> None:
    model = make_model(num_actions=2)
    found = run_probes(model, reader, batch_size=32, stream=STREAM)["position_shifted"]
    ids = np.flatnonzero(found.is_changed_N)
    batch = reader.gather(ids)
    shown = torch.tensor([True, True, False])
    early = replace(batch, images_BTVCYX=batch.images_BTVCYX.roll(-1, 1), history_BT=batch.history_BT & shown)
    torch.testing.assert_close(torch.from_numpy(found.actions_NKA[ids]), model.predict(early), atol=1e-5, rtol=1e-5)
    assert len(ids) > 0


@pytest.mark.parametrize(
    ("scenarios", "texts", "allowed"),
    [
        (["at_left", "at_left", "at_right"], ["to 0", "to 1", "to 2"], [{2}, {2}, {0, 1}]),
        (["at_left", "at_right", "at_right"], ["to 0", "to 0", "to 1"], [{1}, {1}, {0}]),  # other side, the same text
        (["unknown", "unknown", "unknown"], ["left 0", "left 1", "right 2"], [{2}, {2}, {0, 1}]),
        (["unknown", "unknown", "unknown"], ["to 0", "to 0", "to 1"], [{1}, {1}, {0}]),
        (  # a colour is set against the other colour, a side against the other side, whatever stands where
            ["at_left", "at_right", "at_right", "at_left"],
            ["red 0", "blue 1", "right 2", "left 3"],
            [{1}, {0}, {3}, {2}],
        ),
        (["at_left", "at_right"], ["red 0", "red 1"], [{1}, {0}]),
        (["at_left", "at_left", "at_left"], ["to 0", "to 1", "to 2"], [{1, 2}, {0, 2}, {0, 1}]),
    ],
)
def test_another_task_is_one_of_another_side_where_there_is_one(
    scenarios: list[str], texts: list[str], allowed: list[set[int]]
) -> None:
    episodes = [
        replace(made_episode(i, num_frames=3, scenario=scenario), instruction=text)
        for i, (scenario, text) in enumerate(zip(scenarios, texts, strict=True))
    ]
    reader = made_reader(episodes, window_size=2, fwd_pred_next_n=K)
    drawn: list[set[int]] = [set() for _ in episodes]
    for seed in range(30):
        found = run_probes(shows_through(), reader, batch_size=10, stream=Stream(seed, "s"))["instruction_other"]
        for episode, heard in zip(reader.windows.episode, found.actions_NKA[:, -1, 3], strict=True):
            drawn[episode].add(int(heard) - 1)
    assert drawn == allowed


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Go to the red bottle, mind the box", "Go to the blue bottle, mind the box"),
        ("BLUE bottle! Red one?", "RED bottle! Blue one?"),
        ("the red one on the left", "the blue one on the right"),
        ("1box_hori_left_redblue_task_blue", "1box_hori_right_redblue_task_red"),
        ("a bored bluebell, reddish", "a bored bluebell, reddish"),
    ],
)
def test_colours_and_sides_are_swapped_as_whole_words(text: str, swapped: str) -> None:
    episode = replace(made_episode(0, num_frames=4), instruction=text)
    reader = made_reader([episode], window_size=2, fwd_pred_next_n=K)
    heard: list[str] = []
    model = make_model()
    model.predict = lambda batch: heard.extend(batch.instruction) or torch.zeros(len(batch), K, 3)
    found = run_probes(model, reader, batch_size=10, stream=STREAM)["instruction_swapped"]
    assert set(heard) == {text, swapped}
    assert found.is_changed_N.all() == (text != swapped)


def test_the_model_is_asked_in_evaluation_mode(reader: WindowReader) -> None:
    model = make_model(num_actions=2)
    model.get_submodule("head.history").register_forward_hook(lambda module, _, out: dropout(out, 0.5, module.training))
    in_training, in_evaluation = (
        run_probes(model.train(mode), reader, batch_size=32, stream=STREAM) for mode in (True, False)
    )
    for name, outcome in in_evaluation.items():
        np.testing.assert_array_equal(in_training[name].actions_NKA, outcome.actions_NKA)
