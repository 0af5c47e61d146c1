"""Train with one option or another: the variants that are compared, and a step of each."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from random_models import INSTRUCTION
from torch import nn

from mobile_vla.config import compose_config
from mobile_vla.policy.backbones.vlm import VlmBackbone
from mobile_vla.policy.estimate.step import BackboneOptions, Workload, estimate_backbone
from mobile_vla.policy.model import Backbone, Model
from mobile_vla.schema import Batch
from mobile_vla.training.gradient import accumulate_gradient, gradient_scaler, measure
from mobile_vla.training.optimizer import build_optimizer, trained_parameters
from mobile_vla.training.options import Trainer

NUM_ACTIONS, FWD_PRED_NEXT_N = 2, 10


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train: overrides of the config. Its ratio is to the variant ``against``, another's name."""

    name: str
    against: str
    overrides: tuple[str, ...] = ()
    is_frame_by_frame: bool = False
    has_features: bool = False


def make_variants(device: torch.device, *, has_compile: bool) -> list[Variant]:
    """Return the reference, LoRA in one pass over all frames, and what differs from it by one option each."""
    is_gpu = device.type == "cuda"
    other = ("fp32", "fp32") if is_gpu else ("bf16", "bf16")
    variants = [
        Variant(name="lora", against="lora"),
        Variant(name="frame by frame", against="lora", is_frame_by_frame=True),
        Variant(
            name="gradient checkpointing", against="lora", overrides=("model.backbone.gradient_checkpointing=true",)
        ),
        Variant(name="attention=eager", against="lora", overrides=("model.backbone.attention=eager",)),
        Variant(
            name=f"dtype={other[0]}",
            against="lora",
            overrides=(f"model.backbone.dtype={other[0]}", f"trainer.precision={other[1]}"),
        ),
        Variant(name="frozen, recomputed", against="frozen, recomputed", overrides=("model/backbone/tuning=frozen",)),
        Variant(
            name="frozen, cached features",
            against="frozen, recomputed",
            overrides=("model/backbone/tuning=frozen",),
            has_features=True,
        ),
    ]
    if has_compile:
        variants.insert(1, Variant(name="compile", against="lora", overrides=("trainer.compile=true",)))
    return variants


class FrameByFrame(nn.Module):
    """Passes the frames of a window through a backbone one after another."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.feature_dim = backbone.feature_dim
        self.frames_apart = True

    def forward(
        self, images_BTVCYX: torch.Tensor, history_BT: torch.Tensor, instruction: tuple[str, ...]
    ) -> torch.Tensor:
        """See ``Backbone``."""
        pairs = zip(images_BTVCYX.split(1, dim=1), history_BT.split(1, dim=1), strict=True)
        return torch.cat([self.backbone(images, exists, instruction) for images, exists in pairs], dim=1)


class Step:
    """A model with its optimiser, and the training step of ``mobile_vla.training.loop`` on one batch that stays."""

    def __init__(self, variant: Variant, weights: Path, batch: Batch, options: argparse.Namespace) -> None:
        device = batch.images_BTVCYX.device
        cfg = compose_config(_overrides(variant, weights, options, device))
        self.variant = variant
        self.trainer: Trainer = instantiate(cfg.trainer)
        torch.manual_seed(options.seed)
        sizes = {"fwd_pred_next_n": FWD_PRED_NEXT_N, "num_actions": NUM_ACTIONS, "num_state": 0, "num_cameras": 1}
        self.model: Model = instantiate(cfg.model, _convert_="all", _partial_=True)(**sizes)
        assert isinstance(self.model.backbone, VlmBackbone)
        self.base: nn.Module = self.model.backbone.base
        self.model.fit(batch.actions_BTKA[:, :, 0].flatten(0, 1).cpu().numpy())
        if variant.is_frame_by_frame:
            self.model.backbone = FrameByFrame(self.model.backbone)
        self.model.to(device).train()
        if self.trainer.compile:
            self.model.compile()
        self.optimizer = build_optimizer(self.model, self.trainer)
        self.scaler = gradient_scaler(self.trainer.precision, device)
        self.batch = batch
        if variant.has_features:
            with torch.no_grad():
                features = self.model.encode(batch.images_BTVCYX, batch.history_BT, batch.instruction)
            self.batch = replace(batch, features_BTD=features)
        self.estimated_bytes = _estimated_bytes(cfg.model.backbone, self.trainer, batch)

    def __call__(self) -> None:
        """Change the weights once."""
        answer = accumulate_gradient(
            self.model,
            self.batch,
            np.ones(len(self.batch), np.float32),
            micro_batch_size=self.trainer.micro_batch_size,
            precision=self.trainer.precision,
            scaler=self.scaler,
        )
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(trained_parameters(self.optimizer), self.trainer.clip_grad_norm)
        measure(answer, self.batch, norm)
        self.optimizer.step()
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def num_bytes(self) -> int:
        """Return the bytes of the weights and of the optimiser's state."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers(), *states))


def _overrides(variant: Variant, weights: Path, options: argparse.Namespace, device: torch.device) -> tuple[str, ...]:
    dtype = "bf16" if device.type == "cuda" else "fp32"
    # The rate of the backbone is left to the head's: it has no effect where the backbone is frozen.
    return (
        *("model=pretrained", "trainer=lora", f"model.backbone.weights={weights}", f"model.backbone.dtype={dtype}"),
        *(f"trainer.precision={dtype}", f"trainer.batch_size={options.batch}", "trainer.micro_batch_size=null"),
        *(f"trainer.device={device}", "trainer.backbone_learning_rate=null"),
        *variant.overrides,
    )


def _estimated_bytes(node: Any, trainer: Trainer, batch: Batch) -> int:
    """Return what the estimate says of a step before the weights are loaded."""
    workload = Workload(
        batch_size=trainer.batch_size,
        micro_batch_size=trainer.micro_batch_size,
        window_size=batch.history_BT.shape[1],
        image_size=(batch.images_BTVCYX.shape[-2], batch.images_BTVCYX.shape[-1]),
        num_cameras=batch.images_BTVCYX.shape[2],
        instructions=batch.instruction,
        precision=trainer.precision,
        optimizer=trainer.optimizer,
        device_type=batch.images_BTVCYX.device.type,
    )
    return estimate_backbone(BackboneOptions(**instantiate(node).keywords), workload).total_bytes


def make_batch(num_windows: int, options: argparse.Namespace, device: torch.device) -> Batch:
    """Return random windows, everything in them present."""
    generator = torch.Generator().manual_seed(options.seed)
    shape = (num_windows, options.window)
    return Batch(
        images_BTVCYX=torch.randint(
            0, 256, (*shape, 1, 3, options.image, options.image), generator=generator, dtype=torch.uint8
        ),
        history_BT=torch.ones(shape, dtype=torch.bool),
        state_BTS=torch.zeros(*shape, 0),
        actions_BTKA=torch.randn(*shape, FWD_PRED_NEXT_N, NUM_ACTIONS, generator=generator),
        mask_BTK=torch.ones(*shape, FWD_PRED_NEXT_N, dtype=torch.bool),
        instruction=(INSTRUCTION,) * num_windows,
        scenario=("random",) * num_windows,
        window_ids=np.arange(num_windows),
    ).to(device)
