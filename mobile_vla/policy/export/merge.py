"""Merge an adapter into its pretrained weights and store the result as a model that transformers can load."""

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
    """Merge the adapter in place, write the merged model to ``folder/base``, and return the new description.

    Tokenizer and image processor are written too, as transformers saves them. The merged weights keep the dtype of the
    pretrained ones, so they are rounded if that is not float32. Raises ``UserError`` if the model has no adapter.
    """
    backbone = model.backbone
    if not isinstance(backbone, VlmBackbone) or backbone.adapter is None:
        why = "it builds on no pretrained weights"
        if isinstance(backbone, VlmBackbone):
            why = "what it has learnt of the pretrained weights, if anything, is stored whole in its own file"
        raise UserError(f"--merge: this policy has no adapter to merge: {why}. Leave --merge out.")
    settings = read_settings(str(backbone.weights))
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
    # Frozen: without an adapter, nothing of the merged model is trained any more.
    return with_backbone(
        description,
        weights=BASE_FOLDER,
        tuning={"_target_": "mobile_vla.policy.backbones.tuning.Frozen", "cached_variants": 0},
    )
