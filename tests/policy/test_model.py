"""A policy sees what exists and the instruction, nothing else, and answers in physical units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_batches import NUM_HISTORY, NUM_PREDICTED, make_batch, make_model, select

from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch


def gradients(model: Model, batch: Batch) -> list[torch.Tensor]:
    model.zero_grad()
    model(batch).loss_B.mean().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@given(seed=st.integers(0, 2**31), garbage=st.sampled_from([float("nan"), float("inf"), -7.0, 1e30]))
@settings(max_examples=15)
def test_a_masked_target_reaches_neither_the_loss_nor_the_gradient(seed: int, garbage: float) -> None:
    model, batch = make_model(), make_batch()
    mask_BTK = torch.rand(batch.mask_BTK.shape, generator=torch.Generator().manual_seed(seed)) < 0.7
    clean = replace(batch, mask_BTK=mask_BTK)
    dirty = replace(clean, actions_BTKA=torch.where(mask_BTK[..., None], batch.actions_BTKA, garbage))

    assert torch.equal(model(dirty).loss_B, model(clean).loss_B)
    for of_dirty, of_clean in zip(gradients(model, dirty), gradients(model, clean), strict=True):
        assert torch.equal(of_dirty, of_clean)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_an_absent_frame_never_matters(seed: int) -> None:
    model, batch = make_model(), make_batch()
    random = torch.Generator().manual_seed(seed)
    num_absent = torch.randint(0, NUM_HISTORY, (len(batch), 1), generator=random)
    history_BT = torch.arange(NUM_HISTORY) >= num_absent
    clean = replace(batch, history_BT=history_BT, mask_BTK=batch.mask_BTK & history_BT[..., None])
    other = torch.randint(0, 256, batch.images_BTVCYX.shape, generator=random, dtype=torch.uint8)
    exists = history_BT[:, :, None, None, None, None]
    dirty = replace(clean, images_BTVCYX=torch.where(exists, batch.images_BTVCYX, other))

    assert torch.equal(model.predict(dirty), model.predict(clean))
    assert torch.equal(model(dirty).loss_B, model(clean).loss_B)


def test_a_frame_that_exists_does_matter() -> None:
    model, batch = make_model(), make_batch()
    for frame in range(NUM_HISTORY):
        images = batch.images_BTVCYX.clone()
        images[:, frame] = 255 - images[:, frame]
        assert not torch.allclose(model.predict(replace(batch, images_BTVCYX=images)), model.predict(batch))


def test_the_loss_is_the_mean_over_the_targets_that_exist() -> None:
    model, batch = make_model(), make_batch(num_windows=1)
    features = model.backbone(batch.images_BTVCYX, batch.history_BT, batch.instruction)
    predicted = model.head.predict(model.head.history(features, batch.history_BT))
    error = (predicted - model.normalizer.normalize(batch.actions_BTKA)).square()
    mask_BTK = torch.zeros_like(batch.mask_BTK)
    mask_BTK[0, 1, 2] = mask_BTK[0, 2, 0] = True

    loss_B = model(replace(batch, mask_BTK=mask_BTK)).loss_B

    torch.testing.assert_close(loss_B[0], (error[0, 1, 2].mean() + error[0, 2, 0].mean()) / 2)


def test_a_window_without_any_target_has_no_loss() -> None:
    model, batch = make_model(), make_batch()

    assert model(replace(batch, mask_BTK=torch.zeros_like(batch.mask_BTK))).loss_B.tolist() == [0.0] * len(batch)


@pytest.mark.parametrize("row", range(4))
def test_a_window_is_answered_alike_alone_and_in_a_batch(row: int) -> None:
    model, batch = make_model(), make_batch()

    together, alone = model(batch), model(select(batch, [row]))

    torch.testing.assert_close(together.actions_BKA[row], alone.actions_BKA[0])
    torch.testing.assert_close(together.loss_B[row], alone.loss_B[0])


def test_the_instruction_changes_the_answer() -> None:
    model, batch = make_model(), select(make_batch(), [0, 0])

    left, right = model.predict(replace(batch, instruction=("go to the left bottle", "go to the right bottle")))

    assert not torch.allclose(left, right)


@given(words=st.lists(st.text(max_size=12), min_size=2, max_size=2))
@settings(max_examples=25)
def test_any_text_is_an_instruction(words: list[str]) -> None:
    model, batch = make_model(), select(make_batch(), [0, 1])

    assert torch.isfinite(model.predict(replace(batch, instruction=tuple(words)))).all()


def test_an_instruction_is_read_alike_whatever_its_case_and_its_neighbours() -> None:
    model, batch = make_model(), make_batch()

    shouted = replace(batch, instruction=tuple(text.upper() + "!" for text in batch.instruction))
    reversed_order = select(batch, [3, 2, 1, 0])

    torch.testing.assert_close(model.predict(shouted), model.predict(batch))
    torch.testing.assert_close(model.predict(reversed_order), model.predict(batch).flip(0))


def test_bytes_and_their_shares_of_255_are_the_same_image() -> None:
    model, batch = make_model(), make_batch()

    floats = replace(batch, images_BTVCYX=batch.images_BTVCYX.float() / 255)

    torch.testing.assert_close(model.predict(floats), model.predict(batch))


def test_predictions_are_in_physical_units() -> None:
    model, batch = make_model(), make_batch()
    for parameter in model.get_submodule("head").parameters():
        torch.nn.init.zeros_(parameter)

    # A head that says 0 says the mean.
    assert torch.equal(model.predict(batch), torch.tensor([1.0, 2.0]).expand(len(batch), NUM_PREDICTED, 2))


def test_predicting_leaves_no_gradient() -> None:
    assert not make_model().predict(make_batch()).requires_grad


@pytest.mark.parametrize("num_actions", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (33, 20), (64, 64)])
def test_shapes_follow_the_actions_whatever_the_image(num_actions: int, size: tuple[int, int]) -> None:
    batch = make_batch(num_actions=num_actions)
    images = torch.zeros(len(batch), NUM_HISTORY, 1, 3, *size, dtype=torch.uint8)

    answer = make_model(num_actions=num_actions)(replace(batch, images_BTVCYX=images))

    assert answer.actions_BKA.shape == (len(batch), NUM_PREDICTED, num_actions)
    assert answer.loss_B.shape == (len(batch),)


def test_huber_is_half_the_square_of_a_small_error_and_linear_in_a_large_one() -> None:
    squared, robust, batch = make_model(loss="mse"), make_model(loss="huber"), make_batch()
    at = squared(batch).actions_BKA.detach()
    small = replace(batch, actions_BTKA=(at + 0.01)[:, None].expand_as(batch.actions_BTKA))
    only_current = batch.mask_BTK.clone()
    only_current[:, :-1] = False
    small = replace(small, mask_BTK=only_current)
    large = replace(small, actions_BTKA=small.actions_BTKA + 1e4)
    larger = replace(small, actions_BTKA=small.actions_BTKA + 2e4)

    torch.testing.assert_close(robust(small).loss_B, squared(small).loss_B / 2)
    torch.testing.assert_close(
        robust(larger).loss_B / robust(large).loss_B, torch.full((len(batch),), 2.0), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_it_can_learn_one_batch_by_heart(loss: str) -> None:
    model, batch = make_model(num_actions=3, loss=loss, width=32), make_batch(num_actions=3)
    # One action a window: what differs between windows must come from image and instruction.
    held = replace(batch, actions_BTKA=batch.actions_BTKA[:, :1, :1].expand_as(batch.actions_BTKA))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    losses = []
    for _ in range(150):
        losses.append(model(held).loss_B.mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()

    assert losses[-1] < losses[0] / 10
    near = (model.predict(held) - held.actions_BTKA[:, -1]).square().mean()
    assert near < held.actions_BTKA[:, -1].sub(torch.tensor([1.0, 2.0, 3.0])).square().mean() / 10


def test_the_parameters_are_counted() -> None:
    model = make_model()
    for parameter in model.get_submodule("backbone.words").parameters():
        parameter.requires_grad_(False)

    trainable, total = model.num_parameters()

    assert total == sum(parameter.numel() for parameter in model.parameters())
    assert total - trainable == 64 * 8


def test_the_normaliser_travels_with_the_weights() -> None:
    model, other = make_model(seed=0), make_model(seed=1)
    other.normalizer.shift_A += 5

    other.load_state_dict(model.state_dict())

    assert torch.equal(other.predict(make_batch()), model.predict(make_batch()))
    assert np.allclose(other.normalizer.shift_A, [1, 2])
