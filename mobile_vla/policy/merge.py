"""Merge an adapter into the pretrained weights beside it, and store these as a model of transformers."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from mobile_vla.errors import UserError
from mobile_vla.policy.backbones.pretrained import base_hash, quiet, read_settings
from mobile_vla.policy.backbones.vlm import VlmBackbone
from mobile_vla.policy.description import PolicyDescription
from mobile_vla.policy.model import Model
from mobile_vla.policy.stored_model import with_backbone
from mobile_vla.policy.weights import BASE_FOLDER


def merge_adapter(model: Model, description: PolicyDescription, folder: Path) -> PolicyDescription:
    """Merge the adapter in place, write the pretrained model to ``folder/base``; return the new description.

    It comes with its tokenizer and image processor, as transformers saves them. Where the weights are not float32 the
    sum is rounded to what they are. ``UserError`` where the model has no adapter.
    """
    backbone = model.backbone
    if not isinstance(backbone, VlmBackbone) or backbone.adapter is None:
        why = "it builds on no pretrained weights"
        if isinstance(backbone, VlmBackbone):
            why = "what it has learnt of the pretrained weights, if anything, is whole and stands in its own file"
        raise UserError(f"--merge: this policy has no adapter to merge: {why}. Leave --merge out.")
    settings = read_settings(backbone.weights)
    merged = backbone.adapter.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    assert isinstance(settings.processor, BaseImageProcessor)
    base = folder / BASE_FOLDER
    with quiet():
        for part in (merged, settings.tokenizer, settings.processor):
            part.save_pretrained(base)
    backbone.base, backbone.weights, backbone.base_hash = (
        merged,
        BASE_FOLDER,
        base_hash(read_settings(str(base)), merged),
    )
    return with_backbone(
        description,
        weights=BASE_FOLDER,
        tuning={"_target_": "mobile_vla.policy.backbones.tuning.Frozen", "cached_variants": 0},
    )
