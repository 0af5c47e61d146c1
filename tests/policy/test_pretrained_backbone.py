"""Every family of vision-language models, tiny and random, by its own classes of transformers and peft."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_runs import every, slow_but
from tiny_vlms import FAMILIES
from transformers import AutoModel

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.policy.backbones.families.family import find_family
from mobile_vla.policy.backbones.pretrained import read_settings
from mobile_vla.policy.backbones.tuning import Frozen, Full, LastLayers, Lora, Tuning
from mobile_vla.policy.backbones.vlm import VlmBackbone
from mobile_vla.policy.heads.regression import RegressionHead
from mobile_vla.policy.history.lstm import LstmHistory
from mobile_vla.policy.model import Model
from mobile_vla.policy.weights import load_weights, save_weights
from mobile_vla.schema import Batch
from mobile_vla.training.gradient import Precision, accumulate_gradient, autocast, gradient_scaler

VIDEO = ("smolvlm", "qwen2_5_vl", "qwen3_vl", "llava", "idefics3")
STRUCTURES = [*((name, "frame") for name in FAMILIES), *((name, "video") for name in VIDEO)]

each_third_structure = pytest.mark.parametrize(("name", "structure"), every(3, STRUCTURES))
each_slow_but_two = pytest.mark.parametrize("name", slow_but(FAMILIES, list(FAMILIES)[:2]))

LORA: Mapping[str, Any] = {
    "rank": 4,
    "alpha": 8,
    "dropout": 0.0,
    "targets": "all_linear",
    "vision": False,
    "dora": False,
    "rslora": False,
}

FROZEN = Frozen(cached_variants=0)

TEXTS = ("Go to the left bottle, mind the box", "stop", "Drive past the boxes and stop before the bottle on the right")


def make_backbone(
    folder: Path, *, tuning: Tuning | None = None, structure: Any = "frame", dtype: Any = "fp32", **options: Any
) -> VlmBackbone:
    torch.manual_seed(0)
    backbone = VlmBackbone(
        weights=str(folder),
        structure=structure,
        tuning=tuning or Lora(**LORA),
        dtype=dtype,
        attention=options.get("attention", "sdpa"),
        gradient_checkpointing=options.get("gradient_checkpointing", False),
        frames_at_once=options.get("frames_at_once", 64),
        num_cameras=options.get("num_cameras", 1),
    )
    return backbone.eval()


def make_vlm_model(folder: Path, **options: Any) -> Model:
    model = Model(
        backbone=lambda *, num_cameras: make_backbone(folder, **options, num_cameras=num_cameras),
        head=partial(RegressionHead, history=partial(LstmHistory, hidden_dim=8, num_layers=1), loss="mse"),
        state="none",
        state_dim=1,
        normalization="none",
        fwd_pred_next_n=4,
        num_actions=2,
        num_state=0,
        num_cameras=1,
    )
    return model.eval()


def windows(*, height: int = 32, width: int = 40, num_cameras: int = 1) -> Batch:
    """Return three windows of four frames with the instructions TEXTS; the first lacks its first two frames."""
    random = torch.Generator().manual_seed(0)
    history_BT = torch.ones(3, 4, dtype=torch.bool)
    history_BT[0, :2] = False
    return Batch(
        images_BTVCYX=torch.randint(0, 256, (3, 4, num_cameras, 3, height, width), generator=random, dtype=torch.uint8),
        history_BT=history_BT,
        state_BTS=torch.zeros(3, 4, 0),
        actions_BTKA=torch.randn(3, 4, 4, 2, generator=random),
        mask_BTK=history_BT[..., None].expand(3, 4, 4).clone(),
        instruction=TEXTS,
        scenario=("only",) * 3,
        window_ids=np.arange(3),
    )


def features(backbone: VlmBackbone, batch: Batch, **changed: Any) -> torch.Tensor:
    with torch.no_grad():
        return backbone(changed.get("images", batch.images_BTVCYX), batch.history_BT, batch.instruction)


@each_third_structure
def test_batched_equals_single(name: str, structure: str, vlms: Path) -> None:
    backbone, batch = make_backbone(vlms / name, structure=structure), windows()
    with torch.no_grad():
        alone = [
            backbone(batch.images_BTVCYX[i : i + 1], batch.history_BT[i : i + 1], batch.instruction[i : i + 1])
            for i in range(3)
        ]

    torch.testing.assert_close(features(backbone, batch), torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("structure", ["frame", "video"])
def test_frames_that_pass_in_parts_give_the_same(structure: str, vlms: Path) -> None:
    whole = make_backbone(vlms / "llava", structure=structure)
    in_parts = make_backbone(vlms / "llava", structure=structure, frames_at_once=5)

    torch.testing.assert_close(features(whole, windows()), features(in_parts, windows()))


def test_weights_do_not_learn_in_half_precision(vlms: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.backbone.dtype=bf16: weights that learn must be fp32"):
        make_backbone(vlms / "llava", tuning=Full(vision=False), dtype="bf16")


@each_third_structure
def test_a_frame_is_seen_by_its_own_feature_and_by_no_earlier_one(name: str, structure: str, vlms: Path) -> None:
    backbone, batch = make_backbone(vlms / name, structure=structure), windows()
    images = batch.images_BTVCYX.clone()
    images[:, 2] = 255 - images[:, 2]
    before, after = features(backbone, batch), features(backbone, batch, images=images)

    changed_BT = (before - after).abs().amax(-1) > 1e-6
    assert not changed_BT[:, :2].any()
    assert changed_BT[:, 2].all()
    assert changed_BT[:, 3].all() == (structure == "video")


@each_third_structure
def test_absent_frames_change_nothing(name: str, structure: str, vlms: Path) -> None:
    backbone, batch = make_backbone(vlms / name, structure=structure), windows()
    images = batch.images_BTVCYX.clone()
    images[0, :2] = 99

    torch.testing.assert_close(features(backbone, batch), features(backbone, batch, images=images), atol=0, rtol=0)
    assert not features(backbone, batch)[0, :2].any()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_instruction_is_read(name: str, vlms: Path) -> None:
    backbone, batch = make_backbone(vlms / name), windows()
    with torch.no_grad():
        other = backbone(batch.images_BTVCYX, batch.history_BT, (TEXTS[2], TEXTS[0], TEXTS[1]))

    assert ((features(backbone, batch) - other).abs().amax(-1) > 1e-6)[batch.history_BT].all()


@each_slow_but_two
@pytest.mark.parametrize("option", [{}, {"dora": True}, {"rslora": True, "vision": True}, {"targets": "attention"}])
def test_a_fresh_adapter_equals_the_base(name: str, option: dict[str, Any], vlms: Path) -> None:
    adapted = make_backbone(vlms / name, tuning=Lora(**{**LORA, **option}))

    torch.testing.assert_close(
        features(adapted, windows()), features(make_backbone(vlms / name, tuning=FROZEN), windows())
    )


@each_third_structure
def test_one_step_lowers_the_loss_and_moves_only_adapter_action_token_and_head(
    name: str, structure: str, vlms: Path
) -> None:
    model, batch = make_vlm_model(vlms / name, structure=structure), windows()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    first = model(batch).loss_B.mean()
    first.backward()
    learnable = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    optimizer.step()

    assert float(model(batch).loss_B.mean().detach()) < float(first.detach())
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == learnable
    assert "backbone.action_token" in moved
    assert all(".lora_" in key or key == "backbone.action_token" or key.startswith("head.") for key in moved)
    assert any(".lora_" in key for key in moved)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft, of transformers
@each_slow_but_two
def test_what_is_saved_is_loaded_equal_and_is_an_adapter_that_peft_reads(name: str, vlms: Path, tmp_path: Path) -> None:
    model = train_a_little(make_vlm_model(vlms / name))
    save_weights(model, tmp_path)
    again = make_vlm_model(vlms / name)
    load_weights(again, tmp_path)

    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert torch.equal(model.predict(windows()), again.predict(windows()))
    by_peft = PeftModel.from_pretrained(AutoModel.from_pretrained(vlms / name), tmp_path / "adapter").state_dict()
    learnt = {k.removeprefix("backbone.base."): v for k, v in model.state_dict().items() if ".lora_" in k}
    assert learnt
    assert all(torch.equal(value, by_peft[key]) for key, value in learnt.items())


@pytest.mark.parametrize("tuning", [Full(vision=False), Full(vision=True), LastLayers(count=1), FROZEN])
def test_weights_that_learnt_without_an_adapter_are_stored_and_no_others(
    tuning: Tuning, vlms: Path, tmp_path: Path
) -> None:
    model = train_a_little(make_vlm_model(vlms / "llava", tuning=tuning))
    save_weights(model, tmp_path)
    again = make_vlm_model(vlms / "llava", tuning=tuning)
    load_weights(again, tmp_path)

    assert torch.equal(model.predict(windows()), again.predict(windows()))
    assert not (tmp_path / "adapter").exists()
    stored = {f"backbone.{name}" for name in dict(model.backbone.named_parameters())} - {  # pyright: ignore
        f"backbone.{name}"
        for name in model.backbone.unstored  # pyright: ignore[reportAttributeAccessIssue]
    }
    learning = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("backbone.")}
    assert stored == learning | {"backbone.action_token"}


def train_a_little(model: Model) -> Model:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        model(windows()).loss_B.mean().backward()
        optimizer.step()
    return model.eval()


def test_what_learns_is_what_the_tuning_says(vlms: Path) -> None:
    def learning(tuning: Tuning) -> set[str]:
        backbone = make_backbone(vlms / "llava", tuning=tuning)
        return {name for name, p in backbone.named_parameters() if p.requires_grad}

    assert learning(FROZEN) == set()
    assert all("language_model.layers.1" in name for name in learning(LastLayers(count=1)) - {"action_token"})
    assert not any("vision_tower" in name for name in learning(Full(vision=False)))
    assert any("vision_tower" in name for name in learning(Full(vision=True)))
    language = learning(Lora(**LORA))
    assert not any("vision_tower" in name or "projector" in name for name in language)
    assert {name.split(".")[-4] for name in language - {"action_token"}} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    attention = learning(Lora(**{**LORA, "targets": "attention", "vision": True})) - {"action_token"}
    assert {name.split(".")[-4] for name in attention} == {"q_proj", "v_proj"}
    assert any("vision_tower" in name for name in attention)


def test_lora_goes_where_its_targets_are_named(vlms: Path) -> None:
    backbone = make_backbone(vlms / "llava", tuning=Lora(**{**LORA, "targets": ["o_proj"]}))
    assert {n.split(".")[-4] for n, p in backbone.named_parameters() if p.requires_grad and "lora" in n} == {"o_proj"}

    with pytest.raises(ConfigError, match=r"targets=\['oh_proj'\]: no linear layer is called so; expected .* o_proj"):
        make_backbone(vlms / "llava", tuning=Lora(**{**LORA, "targets": ["oh_proj"]}))


def test_checkpointing_what_does_not_learn_is_an_error(vlms: Path) -> None:
    with pytest.raises(ConfigError, match=r"gradient_checkpointing=true: has no effect"):
        make_backbone(vlms / "llava", tuning=FROZEN, gradient_checkpointing=True)


def test_more_last_layers_than_there_are_is_an_error(vlms: Path) -> None:
    with pytest.raises(ConfigError, match=r"tuning\.count=3: the language model has 2 layers"):
        make_backbone(vlms / "llava", tuning=LastLayers(count=3))


@pytest.mark.parametrize("name", ["kosmos2", "paligemma"])
def test_a_family_that_takes_one_image_refuses_video(name: str, vlms: Path) -> None:
    with pytest.raises(ConfigError, match=r"structure=video: .* does not take several images"):
        make_backbone(vlms / name, structure="video")


@each_slow_but_two
def test_gradient_checkpointing_changes_no_gradient(name: str, vlms: Path) -> None:
    def gradients(*, gradient_checkpointing: bool) -> list[torch.Tensor]:
        model = make_vlm_model(vlms / name, gradient_checkpointing=gradient_checkpointing).train()
        torch.manual_seed(0)
        model(windows()).loss_B.mean().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    plain, checkpointed = gradients(gradient_checkpointing=False), gradients(gradient_checkpointing=True)
    assert len(plain) == len(checkpointed)
    for one, other in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, other)


@each_slow_but_two
@pytest.mark.parametrize(("option", "tolerance"), [({"dtype": "bf16"}, 0.2), ({"attention": "eager"}, 1e-4)])
def test_other_arithmetic_gives_nearly_the_same_features(
    name: str, option: dict[str, Any], tolerance: float, vlms: Path
) -> None:
    expected, found = (
        features(make_backbone(vlms / name), windows()),
        features(make_backbone(vlms / name, **option), windows()),
    )

    assert found.dtype == torch.float32
    assert float((expected - found).norm() / expected.norm()) < tolerance


@pytest.mark.parametrize("name", slow_but(["kosmos2", "smolvlm", "qwen2_5_vl"], ["kosmos2"]))
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_mixed_precision_moves_the_gradients_little(name: str, gradient_checkpointing: bool, vlms: Path) -> None:
    def gradients(precision: Precision) -> torch.Tensor:
        model = make_vlm_model(vlms / name, gradient_checkpointing=gradient_checkpointing)
        with autocast(precision, torch.device("cpu")):
            loss = model(windows(height=64, width=64)).loss_B.mean()
        loss.backward()
        learning = [p.grad for n, p in model.backbone.named_parameters() if "lora_B" in n or n == "action_token"]  # pyright: ignore
        return torch.cat([grad.flatten() for grad in learning if grad is not None])

    expected, found = gradients("fp32"), gradients("bf16")
    assert float((expected - found).norm() / expected.norm()) < 0.1


@pytest.mark.parametrize("micro_batch_size", [1, 2])
@pytest.mark.parametrize("name", ["smolvlm", "kosmos2"])
def test_the_gradient_is_that_of_the_whole_batch_however_it_is_cut(
    name: str, micro_batch_size: int, vlms: Path
) -> None:
    def gradients(size: int | None) -> list[torch.Tensor]:
        model, weights = make_vlm_model(vlms / name), np.array([1.0, 0.2, 3.0], np.float32)
        scaler = gradient_scaler("fp32", torch.device("cpu"))
        accumulate_gradient(model, windows(), weights, micro_batch_size=size, precision="fp32", scaler=scaler)
        return [p.grad for p in model.parameters() if p.grad is not None]

    for whole, cut in zip(gradients(None), gradients(micro_batch_size), strict=True):
        torch.testing.assert_close(whole, cut, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "text", ["go <image> left", "go <pad> left", "</s> stop", "<|image_pad|>", "", "왼쪽 병으로", "é" * 300]
)
@pytest.mark.parametrize("name", slow_but(FAMILIES, list(FAMILIES)[:1]))
def test_no_instruction_is_more_than_text(name: str, text: str, vlms: Path) -> None:
    backbone, batch = make_backbone(vlms / name), windows()
    with torch.no_grad():
        found = backbone(batch.images_BTVCYX, batch.history_BT, (text, text, "go"))
        plain = backbone(batch.images_BTVCYX, batch.history_BT, ("go", "go", "go"))

    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[2], plain[2], atol=1e-5, rtol=1e-5)
    assert not torch.equal(found[:2], plain[:2])


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_adds_lies_on_the_device_of_its_pixels(name: str, vlms: Path) -> None:
    settings = read_settings(str(vlms / name))
    family = find_family(settings.config)(settings.config, settings.tokenizer, settings.processor)
    size = family.preprocessing((64, 64)).size
    ids = torch.zeros(2, 5, dtype=torch.long, device="meta")
    inputs = family.inputs(ids, torch.zeros(2, 1, 3, *size, device="meta"))

    assert {tensor.device.type for tensor in inputs.values()} == {"meta"}


def test_a_frozen_backbone_stays_without_dropout(vlms: Path) -> None:
    backbone = make_backbone(vlms / "kosmos2", tuning=FROZEN)  # its config has dropout

    assert torch.equal(features(backbone.train(), windows()), features(backbone.eval(), windows()))
    assert make_backbone(vlms / "kosmos2").train().base.training


TWICE_RESIZED = ("smolvlm", "idefics3")
"""Their processor enlarges, rounds and shrinks again; here both are one matrix, rounded once."""


def smooth_frames(height: int, width: int) -> torch.Tensor:
    """Return 12 frames [3, Y, X] of edges and slopes as a camera sees them: noise is what no camera sees."""
    coarse = torch.rand(12, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")).to(torch.uint8)


@pytest.mark.parametrize("size", [(28, 28), (64, 64), (48, 80), (90, 60)])
@pytest.mark.parametrize("name", FAMILIES)
def test_pixels_are_those_of_the_familys_own_processor(name: str, size: tuple[int, int], vlms: Path) -> None:
    settings = read_settings(str(vlms / name))
    processor: Any = settings.processor
    is_exact = name not in TWICE_RESIZED
    images = windows(height=size[0], width=size[1]).images_BTVCYX.flatten(0, 2) if is_exact else smooth_frames(*size)
    frames = [image.permute(1, 2, 0).numpy() for image in images]
    expected = processor(frames, return_tensors="pt", **({} if is_exact else {"do_image_splitting": False}))
    family = find_family(settings.config)(settings.config, settings.tokenizer, settings.processor)
    pixels = family.preprocessing(size)(images)
    found = family.inputs(torch.zeros(12, 3, dtype=torch.long), pixels[:, None])["pixel_values"]

    difference = (found - expected["pixel_values"].reshape(found.shape)).abs()
    levels = difference * 255 * min(processor.image_std)
    assert float(levels.max()) < 2.1
    assert float(levels.mean()) < (0.2 if is_exact else 0.5)
    if size == (28, 28) and is_exact:
        assert float(levels.max()) < 1e-3


def test_pixels_are_the_same_under_autocast(vlms: Path) -> None:
    settings = read_settings(str(vlms / "llava"))
    family = find_family(settings.config)(settings.config, settings.tokenizer, settings.processor)
    prepare, images = family.preprocessing((64, 64)), windows(height=64, width=64).images_BTVCYX.flatten(0, 2)

    with autocast("bf16", torch.device("cpu")):
        found = prepare(images)
    assert torch.equal(found, prepare(images))


def test_floats_are_prepared_like_the_bytes_they_stand_for(vlms: Path) -> None:
    backbone, batch = make_backbone(vlms / "paligemma"), windows(height=28, width=28)

    torch.testing.assert_close(
        features(backbone, batch),
        features(backbone, batch, images=batch.images_BTVCYX.float() / 255),
        atol=1e-4,
        rtol=1e-4,
    )


def test_half_an_adapter_is_refused(vlms: Path, tmp_path: Path) -> None:
    model = make_vlm_model(vlms / "llava")
    save_weights(model, tmp_path)
    file = tmp_path / "adapter/adapter_model.safetensors"
    state = load_file(file)
    save_file(dict(list(state.items())[::2]), file)

    with pytest.raises(UserError, match="is not this model's adapter: missing or unexpected in it: base_model"):
        load_weights(model, tmp_path)


def test_loading_onto_another_base_is_refused_by_name_and_hash(vlms: Path, tmp_path: Path) -> None:
    from tiny_vlms import save_tiny_vlm

    model = make_vlm_model(vlms / "llava")
    save_weights(model, tmp_path)
    other = make_vlm_model(save_tiny_vlm("llava", tmp_path / "other", seed=1))

    with pytest.raises(UserError, match=r"was trained on .*llava \(hash [0-9a-f]{16}\); .*other has hash [0-9a-f]{16}"):
        load_weights(other, tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 0.001'),
        ("preprocessor_config.json", "0.48145466", "0.5"),
        ("tokenizer.json", '"add_prefix_space": false', '"add_prefix_space": true'),
    ],
)
def test_a_base_with_other_settings_is_another(file: str, old: str, new: str, vlms: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vlms / "llava", tmp_path / "llava")
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))

    assert make_backbone(folder).base_hash != make_backbone(vlms / "llava").base_hash
    assert (
        make_backbone(shutil.copytree(vlms / "llava", tmp_path / "copy")).base_hash
        == make_backbone(vlms / "llava").base_hash
    )


def test_weights_of_another_size_are_named(vlms: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vlms / "llava", tmp_path / "llava")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"intermediate_size": 48', '"intermediate_size": 40'))

    with pytest.raises(ConfigError, match=r"weights of another size .* such as .*proj.weight: \[.*\], expected \[.*40"):
        make_backbone(folder)


def test_a_base_has_one_hash_in_every_dtype(vlms: Path) -> None:
    hashes = {make_backbone(vlms / "llava", dtype=dtype).base_hash for dtype in ("fp32", "bf16")}

    assert len(hashes) == 1
