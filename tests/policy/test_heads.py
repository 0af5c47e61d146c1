"""Every head of the configs gives a loss a window and actions in physical units, by the same laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_batches import NUM_HISTORY, NUM_PREDICTED, make_batch, select
from made_heads import KEYS_FA, SPEED, build_model, key_batch
from tiny_runs import CONF, options_of, slow_but

from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch

each = pytest.mark.parametrize("head", options_of("model/head"))


def loss_and_gradients(model: Model, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(7)  # what the head draws
    model.zero_grad()
    loss_B = model(batch).loss_B
    loss_B.mean().backward()
    return loss_B.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def learn(model: Model, batch: Batch, *, steps: int, rate: float = 5e-3) -> list[float]:
    """Take ``steps`` on one batch and return the losses, each before its step."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=rate)
    torch.manual_seed(0)
    losses = []
    for _ in range(steps):
        loss = model(batch).loss_B.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def evaluated_loss(model: Model, batch: Batch) -> float:
    with torch.no_grad():
        return float(model.eval()(batch).loss_B.mean())


@each
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -7.0, 1e30])
def test_a_masked_target_reaches_neither_the_loss_nor_the_gradient(head: str, garbage: float) -> None:
    model, batch = build_model(head), key_batch()
    mask_BTK = torch.rand(batch.mask_BTK.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    mask_BTK[0] = False
    clean = replace(batch, mask_BTK=mask_BTK)
    dirty = replace(clean, actions_BTKA=torch.where(mask_BTK[..., None], batch.actions_BTKA, garbage))

    for mode in (True, False):
        loss_B, gradients = loss_and_gradients(model.train(mode), dirty)
        clean_loss_B, clean_gradients = loss_and_gradients(model, clean)
        assert loss_B[0] == 0
        assert torch.equal(loss_B, clean_loss_B)
        assert all(torch.equal(a, b) for a, b in zip(gradients, clean_gradients, strict=True))
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


@each
def test_the_loss_of_a_window_is_its_own(head: str) -> None:
    model, batch = build_model(head).eval(), key_batch()
    other = batch.actions_BTKA.clone()
    other[1] = -other[1]

    before, after = model(batch).loss_B, model(replace(batch, actions_BTKA=other)).loss_B

    assert before.shape == (len(batch),)
    assert torch.equal(before != after, torch.tensor([False, True, False, False]))


@each
@given(seed=st.integers(0, 99))
@settings(max_examples=5)
def test_a_window_is_answered_alike_alone_and_in_a_batch_and_again(head: str, seed: int) -> None:
    model, batch = build_model(head).eval(), key_batch(seed=seed)
    torch.nn.init.normal_(list(model.get_submodule("head").parameters())[-2], std=0.1)
    torch.manual_seed(seed)
    state = torch.get_rng_state()

    together, again = model(batch), model(batch)
    alone = [model(select(batch, [row])) for row in range(len(batch))]

    assert torch.equal(torch.get_rng_state(), state), "evaluation draws"
    assert torch.equal(together.actions_BKA, again.actions_BKA)
    assert torch.equal(together.loss_B, again.loss_B)
    torch.testing.assert_close(model.predict(batch), together.actions_BKA)
    torch.testing.assert_close(torch.cat([a.actions_BKA for a in alone]), together.actions_BKA)
    torch.testing.assert_close(torch.cat([a.loss_B for a in alone]), together.loss_B)


@each
def test_absent_frames_do_not_matter(head: str) -> None:
    model, batch = build_model(head).eval(), key_batch()
    history_BT = torch.arange(NUM_HISTORY) >= torch.tensor([[0], [1], [2], [2]])
    clean = replace(batch, history_BT=history_BT, mask_BTK=batch.mask_BTK & history_BT[..., None])
    other = torch.where(history_BT[:, :, None, None, None, None], clean.images_BTVCYX, 255 - clean.images_BTVCYX)
    dirty = replace(clean, images_BTVCYX=other)

    torch.testing.assert_close(model.predict(dirty), model.predict(clean))
    torch.testing.assert_close(model(dirty).loss_B, model(clean).loss_B)


@each
def test_features_stand_for_the_images_they_were_made_of(head: str) -> None:
    model, batch = build_model(head).eval(), key_batch()
    features = model.encode(batch.images_BTVCYX, batch.history_BT, batch.instruction).detach()
    cached = replace(batch, images_BTVCYX=torch.zeros_like(batch.images_BTVCYX), features_BTD=features)

    assert torch.equal(model.predict(cached), model.predict(batch))
    assert torch.equal(model(cached.to(torch.device("cpu"))).loss_B, model(batch).loss_B)


@each
@pytest.mark.parametrize("num_actions", [1, 3])
@pytest.mark.parametrize("normalization", ["mean_std", "min_max", "quantile"])
def test_an_untrained_answer_lies_among_the_train_actions(head: str, num_actions: int, normalization: str) -> None:
    random = np.random.default_rng(0)
    train_FA = random.normal([5.0, -9.0, 2.0], [0.5, 0.1, 1.0], (200, 3)).astype(np.float32)[:, :num_actions]
    model = build_model(head, train_FA=train_FA, normalization=normalization)
    batch = make_batch(num_actions=num_actions)

    answer = model.eval()(batch)

    assert answer.actions_BKA.shape == (len(batch), NUM_PREDICTED, num_actions)
    assert not answer.actions_BKA.requires_grad
    assert (answer.actions_BKA.numpy() >= train_FA.min(0) - 1e-5).all()
    assert (answer.actions_BKA.numpy() <= train_FA.max(0) + 1e-5).all()


@each
def test_a_few_steps_on_one_batch_lower_its_loss(head: str) -> None:
    model, batch = build_model(head), key_batch()
    before = evaluated_loss(model, batch)

    learn(model, batch, steps=20)

    assert evaluated_loss(model, batch) < 0.95 * before


@pytest.mark.parametrize("head", slow_but(options_of("model/head"), ("lstm",)))
def test_what_the_instruction_says_can_be_learnt(head: str) -> None:
    model, batch = build_model(head), key_batch()
    ways_BA = torch.from_numpy(KEYS_FA[[3 if "left" in text else 4 for text in batch.instruction]])
    taught = replace(batch, actions_BTKA=ways_BA[:, None, None].expand_as(batch.actions_BTKA))

    learn(model, taught, steps=140, rate=1e-2)

    error = (model.eval().predict(taught) - ways_BA[:, None]).abs().max()
    assert error < 0.15 * SPEED


@each
def test_a_checkpoint_restores_all_that_inference_needs(head: str) -> None:
    model, batch = build_model(head), key_batch()
    learn(model, batch, steps=3)
    other = build_model(head, fit=False)

    other.load_state_dict(model.state_dict())

    assert torch.equal(other.eval().predict(batch), model.eval().predict(batch))
    assert torch.equal(other(batch).loss_B, model(batch).loss_B)


@each
def test_training_is_repeated_by_its_seed(head: str) -> None:
    runs = [learn(build_model(head), key_batch(), steps=4) for _ in range(2)]

    assert runs[0] == runs[1]


@pytest.mark.parametrize("head", ["flow", "diffusion"])
def test_training_draws_anew(head: str) -> None:
    model, batch = build_model(head).train(), key_batch()
    torch.manual_seed(0)

    assert not torch.equal(model(batch).loss_B, model(batch).loss_B)


@pytest.mark.parametrize("group", ["model/head", "model/head/history"])
def test_every_option_says_what_it_is_for(group: str) -> None:
    for option in options_of(group):
        assert (CONF / group / f"{option}.yaml").read_text().startswith("# "), f"{group}/{option} has no comment"


@pytest.mark.parametrize("history", options_of("model/head/history"))
def test_a_head_takes_any_history(history: str) -> None:
    model = build_model("flow", f"model/head/history={history}")

    assert type(model.head.history).__name__.lower() == f"{history}history"
    assert torch.isfinite(model(key_batch()).loss_B).all()


@each
def test_the_norm_of_the_gradient_is_that_of_the_last_layers_output(head: str) -> None:
    one_draw = ["model.head.num_draws=1"] if head in ("flow", "diffusion") else []
    model, batch = build_model(head, *one_draw).eval(), key_batch()
    mask_BTK = torch.zeros_like(batch.mask_BTK)
    mask_BTK[:, -1] = True  # one frame alone has targets, so the bias gets its output's gradient
    batch = replace(batch, mask_BTK=mask_BTK)
    for row in range(len(batch)):
        window = batch.rows(row, row + 1)
        model.zero_grad()
        torch.manual_seed(row)
        norm = model.gradient_norms(window)
        assert all(p.grad is None for p in model.parameters())
        torch.manual_seed(row)
        model(window).loss_B.sum().backward()
        torch.testing.assert_close(norm, torch.linalg.vector_norm(model.head.last_layer.bias.grad)[None])
    assert not model.head.last_layer._forward_hooks


@each
def test_a_window_has_its_gradient_norm_whoever_its_neighbours_are(head: str) -> None:
    model, batch = build_model(head).eval(), key_batch(5)
    alone = torch.cat([model.gradient_norms(batch.rows(row, row + 1)) for row in range(len(batch))])
    torch.testing.assert_close(model.gradient_norms(batch), alone, rtol=1e-4, atol=1e-6)
