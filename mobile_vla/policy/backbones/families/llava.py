"""LLaVA 1.5 (Liu et al. 2023): each CLIP patch takes the place of one token."""

from __future__ import annotations

from typing import ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.families.family import square_or_cropped
from mobile_vla.policy.backbones.families.preprocessing import ImageProcessor, Preprocessing, Size


class Llava:
    """See ``Family``."""

    language_module: ClassVar = "language_model"
    vision_module: ClassVar = "vision_tower"
    opening: ClassVar = "<s>USER: "
    closing: ClassVar = " ASSISTANT:"
    takes_video: ClassVar = True
    takes_cameras: ClassVar = True
    action_token: ClassVar = None

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, processor: ImageProcessor) -> None:
        self._processor = processor
        self._patch: int = config.vision_config.patch_size
        self._place: int = config.image_token_id
        # "full" keeps the class token of CLIP in addition to the patches, and it needs a placeholder too.
        self._has_class_place = config.vision_feature_select_strategy == "full"

    def preprocessing(self, recorded: Size) -> Preprocessing:
        """See ``Family``; ``ConfigError`` if the processor would pad frames to squares."""
        rows, columns = recorded
        if getattr(self._processor, "do_pad", False) and rows != columns:
            raise ConfigError(
                f"model.backbone.weights: its image processor pads frames to squares, and yours are {rows}x{columns}. "
                "Give a square dataset.image_size, with dataset.resize=letterbox to keep the aspect."
            )
        return square_or_cropped(self._processor, recorded)

    def frame_ids(self, size: Size, *, num_cameras: int) -> list[int]:
        """See ``Family``."""
        num_places = (size[0] // self._patch) * (size[1] // self._patch) + self._has_class_place
        return [self._place] * num_places * num_cameras

    def inputs(self, ids_NL: torch.Tensor, pixels_NFCYX: torch.Tensor) -> dict[str, torch.Tensor]:
        """See ``Family``."""
        return {"pixel_values": pixels_NFCYX.flatten(0, 1)}


FAMILY = Llava
