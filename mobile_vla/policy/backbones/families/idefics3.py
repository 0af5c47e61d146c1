"""Idefics3 (Laurençon et al. 2024), without the split of an image into tiles that its processor does for documents."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.idefics3.image_processing_pil_idefics3 import (
    _resize_output_size_rescale_to_max_len as longest_edge_size,
)

from mobile_vla.policy.backbones.families.family import token_id
from mobile_vla.policy.backbones.families.preprocessing import ImageProcessor, Preprocessing, Size


class Idefics3:
    """See ``Family``."""

    language_module: ClassVar = "text_model"
    vision_module: ClassVar = "vision_model"
    opening: ClassVar = "<|begin_of_text|>User:"
    closing: ClassVar = "<end_of_utterance>\nAssistant:"
    takes_video: ClassVar = True
    takes_cameras: ClassVar = True
    action_token: ClassVar = None

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, processor: ImageProcessor) -> None:
        settings: Any = processor
        self._processor = processor
        self._edge: int = settings.max_image_size["longest_edge"]
        self._around = token_id(tokenizer, "<fake_token_around_image>")
        self._whole = token_id(tokenizer, "<global-img>")
        self._place: int = config.image_token_id
        self._edge_of_place: int = config.vision_config.patch_size * config.scale_factor

    def preprocessing(self, recorded: Size) -> Preprocessing:
        """See ``Family``."""
        # Its processor resizes twice: first the longest edge, then to a square. One resize would give other pixels.
        enlarged = longest_edge_size(*recorded, max_len=self._processor.size["longest_edge"])
        size = (self._edge, self._edge)
        return Preprocessing(self._processor, recorded=recorded, resizes=[enlarged, size], crop=size)

    def frame_ids(self, size: Size, *, num_cameras: int) -> list[int]:
        """See ``Family``."""
        # <global-img> announces the whole image; tiles would have their own row and column tokens.
        num_places = (size[0] // self._edge_of_place) * (size[1] // self._edge_of_place)
        return [self._around, self._whole, *[self._place] * num_places, self._around] * num_cameras

    def inputs(self, ids_NL: torch.Tensor, pixels_NFCYX: torch.Tensor) -> dict[str, torch.Tensor]:
        """See ``Family``."""
        return {"pixel_values": pixels_NFCYX}


FAMILY = Idefics3
