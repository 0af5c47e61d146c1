"""What is said of memory and time before weights are loaded, against what the loaded model then does."""

from __future__ import annotations

import re
import shutil
import weakref
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny_runs import every, slow_but
from tiny_vlms import FAMILIES, SENTENCES
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.tuning import Frozen, Full, LastLayers, Lora
from mobile_vla.policy.backbones.vlm import VlmBackbone
from mobile_vla.policy.estimate.device import available_bytes, matmul_flops_per_s
from mobile_vla.policy.estimate.fit import check_fits, print_estimate
from mobile_vla.policy.estimate.step import (
    BackboneOptions,
    Estimate,
    Workload,
    estimate_backbone,
    estimate_outline,
)

LORA = Lora(rank=4, alpha=8, dropout=0.1, targets="all_linear", vision=False, dora=False, rslora=False)
FROZEN = Frozen(cached_variants=0)
TUNINGS = {
    "lora": LORA,
    "lora_attention_vision_dora": replace(LORA, targets="attention", vision=True, dora=True),
    "full_but_vision": Full(vision=False),
}
MIDDLING = ("kosmos2", "llava")
WORKLOAD = Workload(
    batch_size=4,
    micro_batch_size=2,
    window_size=3,
    image_size=(28, 28),
    num_cameras=1,
    instructions=SENTENCES[:2],
    precision="fp32",
    optimizer="adamw",
    device_type="cpu",
)


def options_of(folder: Path, **options: Any) -> BackboneOptions:
    defaults = BackboneOptions(
        weights=str(folder),
        structure="frame",
        tuning=LORA,
        dtype="fp32",
        attention="sdpa",
        gradient_checkpointing=False,
        frames_at_once=8,
    )
    return replace(defaults, **options)


def make_backbone(options: BackboneOptions, *, num_cameras: int = 1) -> VlmBackbone:
    given = {entry.name: getattr(options, entry.name) for entry in fields(options)}
    return VlmBackbone(**given, num_cameras=num_cameras).train()


def encode_once(backbone: VlmBackbone, workload: Workload) -> torch.Tensor:
    """Return the features of one pass of random frames."""
    shape = (workload.windows_at_once, workload.window_size)
    images = torch.randint(0, 256, (*shape, workload.num_cameras, 3, *workload.image_size), dtype=torch.uint8)
    texts = tuple(workload.instructions[i % len(workload.instructions)] for i in range(shape[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=workload.precision == "bf16"):
        return backbone(images, torch.ones(shape, dtype=torch.bool), texts)


class Kept:
    """A tensor that autograd keeps, as long as it does."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def kept_by_autograd(backbone: VlmBackbone, workload: Workload) -> int:
    """Return the bytes that backward needs after a forward pass, beside the model's own."""
    kept: weakref.WeakSet[Kept] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> Kept:
        held = Kept(tensor)
        kept.add(held)
        return held

    own = {tensor.untyped_storage().data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers())}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        features = encode_once(backbone, workload)
    storages = {held.tensor.untyped_storage().data_ptr(): held.tensor.untyped_storage() for held in kept}
    assert features.isfinite().all()
    return sum(storage.nbytes() for pointer, storage in storages.items() if pointer not in own)


@pytest.fixture(scope="module")
def middling(vlms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of some families with layers so wide (3 M weights) that what stands around them hardly counts."""
    text = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3}
    kosmos = {"embed_dim": 256, "ffn_dim": 704, "layers": 3}
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2}
    root = tmp_path_factory.mktemp("middling")
    for name in MIDDLING:
        sizes = AutoConfig.from_pretrained(vlms / name).to_dict()
        sizes["text_config"] |= {"layer_types": None, "head_dim": 64} | (kosmos if name == "kosmos2" else text)
        sizes["vision_config"] |= vision
        shutil.copytree(vlms / name, root / name)
        config = type(AutoConfig.from_pretrained(vlms / name)).from_dict(sizes)
        AutoModel.from_config(config).save_pretrained(root / name)
    return root


@pytest.mark.parametrize("tuning", TUNINGS.values(), ids=TUNINGS.keys())
@pytest.mark.parametrize("name", slow_but(FAMILIES, list(FAMILIES)[:2]))
def test_the_parameters_are_those_of_the_loaded_model(vlms: Path, name: str, tuning: Any) -> None:
    options = options_of(vlms / name, tuning=tuning, dtype="bf16" if isinstance(tuning, Lora | Frozen) else "fp32")
    estimate, loaded = estimate_backbone(options, WORKLOAD), list(make_backbone(options).parameters())

    assert estimate.num_parameters == sum(p.numel() for p in loaded)
    assert estimate.num_trained == sum(p.numel() for p in loaded if p.requires_grad)
    sizes = estimate.bytes_by_kind
    assert sizes["weights"] == sum(p.nbytes for p in loaded)
    assert sizes["gradients"] == sum(p.nbytes for p in loaded if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "num_cameras"),
    every(3, [*((name, 1) for name in FAMILIES), *((name, 2) for name in FAMILIES if name != "kosmos2")]),
)
def test_activations_are_what_autograd_keeps_of_every_family(vlms: Path, name: str, num_cameras: int) -> None:
    options, workload = options_of(vlms / name), replace(WORKLOAD, num_cameras=num_cameras)
    kept = kept_by_autograd(make_backbone(options, num_cameras=num_cameras), workload)

    # Tiny layers leave a share to what stands around them.
    assert 0.75 < estimate_backbone(options, workload).bytes_by_kind["activations"] / kept < 1.1


@pytest.mark.parametrize(
    ("changed", "precision"),
    every(
        2,
        [
            ({}, "fp32"),
            ({"tuning": replace(LORA, dropout=0.0, vision=True)}, "fp32"),
            ({"tuning": replace(LORA, dora=True)}, "fp32"),
            ({"tuning": Full(vision=True)}, "fp32"),
            ({"tuning": LastLayers(count=1)}, "fp32"),
            ({"attention": "eager"}, "fp32"),
            ({"dtype": "bf16"}, "fp32"),
            ({"dtype": "bf16"}, "bf16"),
            ({}, "bf16"),
        ],
    ),
)
@pytest.mark.parametrize("name", slow_but(MIDDLING, MIDDLING[:1]))
def test_activations_are_what_autograd_keeps_under_every_option(
    middling: Path, name: str, changed: dict[str, Any], precision: Any
) -> None:
    options, workload = options_of(middling / name, **changed), replace(WORKLOAD, precision=precision)
    kept = kept_by_autograd(make_backbone(options), workload)

    assert 0.8 < estimate_backbone(options, workload).bytes_by_kind["activations"] / kept < 1.2


def test_a_frozen_backbone_keeps_nothing_and_costs_a_step_nothing(vlms: Path) -> None:
    options = options_of(vlms / "llava", tuning=FROZEN)
    estimate = estimate_backbone(options, WORKLOAD)

    assert estimate.bytes_by_kind["activations"] == kept_by_autograd(make_backbone(options), WORKLOAD) == 0
    assert estimate.bytes_by_kind["optimizer"] == estimate.flops_per_step == 0


@pytest.mark.parametrize("tuning", [LORA, Full(vision=True), FROZEN], ids=["lora", "full", "frozen"])
@pytest.mark.parametrize("name", slow_but(FAMILIES, list(FAMILIES)[:2]))
def test_operations_are_those_that_are_counted(vlms: Path, name: str, tuning: Any) -> None:
    options = options_of(vlms / name, tuning=tuning, attention="eager")
    backbone = make_backbone(options)
    with FlopCounterMode(display=False) as counter:
        features = encode_once(backbone, WORKLOAD)
        if features.requires_grad:
            features.sum().backward()

    num_frames = WORKLOAD.windows_at_once * WORKLOAD.window_size
    assert 0.6 < num_frames * estimate_backbone(options, WORKLOAD).flops_per_frame / counter.get_total_flops() < 1.1


@pytest.fixture(scope="module")
def middling_estimate(middling: Path) -> Estimate:
    options = options_of(middling / "llava", tuning=replace(LORA, vision=True), attention="eager", frames_at_once=1)
    return estimate_backbone(options, replace(WORKLOAD, batch_size=16, micro_batch_size=None))


@given(
    windows=st.integers(1, 64), window_size=st.integers(1, 16), is_video=st.booleans(), is_checkpointed=st.booleans()
)
def test_more_windows_or_frames_never_need_less(
    middling_estimate: Estimate, windows: int, window_size: int, is_video: bool, is_checkpointed: bool
) -> None:
    options = replace(
        middling_estimate.options,
        structure="video" if is_video else "frame",
        gradient_checkpointing=is_checkpointed,
    )
    workload = replace(WORKLOAD, batch_size=64, micro_batch_size=windows, window_size=window_size)

    def needed(options: BackboneOptions, **changed: Any) -> tuple[int, float]:
        found = estimate_outline(middling_estimate.outline, options, replace(workload, **changed))
        return found.total_bytes, found.flops_per_step

    here = needed(options)
    assert needed(options, micro_batch_size=windows + 1)[0] > here[0]
    assert needed(options, micro_batch_size=windows + 1)[1] == here[1]
    assert needed(options, window_size=window_size + 1) > here
    assert needed(options, num_cameras=2) > here
    plain, checkpointed = (needed(replace(options, gradient_checkpointing=flag)) for flag in (False, True))
    assert plain[0] > checkpointed[0]
    assert plain[1] < checkpointed[1]


def test_what_fits_exactly_is_not_refused(middling_estimate: Estimate) -> None:
    check_fits(middling_estimate, middling_estimate.total_bytes)
    with pytest.raises(ConfigError, match="a training step needs about"):
        check_fits(middling_estimate, middling_estimate.total_bytes - 1)


def test_a_refusal_names_what_helps_and_what_would_then_be_needed(middling_estimate: Estimate) -> None:
    options, workload = middling_estimate.options, middling_estimate.workload
    micro = estimate_backbone(options, replace(workload, micro_batch_size=1))
    checkpointed = estimate_backbone(replace(options, gradient_checkpointing=True), workload)
    with pytest.raises(ConfigError) as refused:
        check_fits(middling_estimate, max(micro.total_bytes, checkpointed.total_bytes))

    lines = re.findall(r"^ +([\d.]+)  (\S+)(  \(fits\))?$", str(refused.value), re.MULTILINE)
    assert [float(gib) for gib, _, _ in lines] == sorted(float(gib) for gib, _, _ in lines)
    fits = {option: (gib, bool(fits)) for gib, option, fits in lines}
    assert fits["trainer.micro_batch_size=1"] == (f"{micro.total_bytes / 2**30:.2f}", True)
    assert fits["model.backbone.gradient_checkpointing=true"] == (f"{checkpointed.total_bytes / 2**30:.2f}", True)
    assert {"dataset.window_size=1", "model.backbone.dtype=bf16", "model/backbone/tuning=frozen"} <= fits.keys()
    assert "None is enough alone" not in str(refused.value)


def test_a_refusal_does_not_name_what_is_already_lowered(middling: Path) -> None:
    options = options_of(middling / "llava", dtype="bf16", gradient_checkpointing=True, tuning=FROZEN, frames_at_once=1)
    estimate = estimate_backbone(options, replace(WORKLOAD, micro_batch_size=1, window_size=1))
    with pytest.raises(ConfigError) as refused:
        check_fits(estimate, 1)

    assert "None is enough alone" in str(refused.value)
    assert "=" not in str(refused.value).replace("\n", "")


def test_the_printed_block_says_parameters_memory_and_time(middling_estimate: Estimate, middling: Path) -> None:
    def printed(estimate: Estimate) -> str:
        console = Console(file=StringIO(), width=200)
        print_estimate(estimate, console, available_bytes=2**34, flops_per_s=1e9)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    text = printed(middling_estimate)
    assert f"{middling_estimate.num_parameters:,}, of which {middling_estimate.num_trained:,} are trained" in text
    assert "of 16.0 GiB free" in text
    assert f"{middling_estimate.flops_per_step / 1e9:.2g} s a step of 16 windows, 16 at once" in text
    assert "features once" in printed(estimate_backbone(options_of(middling / "llava", tuning=FROZEN), WORKLOAD))


def test_the_device_is_asked(middling_estimate: Estimate) -> None:
    device = torch.device("cpu")

    assert available_bytes(device) > 2**20
    assert matmul_flops_per_s(device, torch.float32, seconds=0.01) > 1e6
