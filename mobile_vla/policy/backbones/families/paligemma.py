"""PaliGemma (Beyer et al. 2024): attention over the prompt is bidirectional."""

from __future__ import annotations

from typing import ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from mobile_vla.policy.backbones.families.family import square_or_cropped, token_id
from mobile_vla.policy.backbones.families.preprocessing import ImageProcessor, Preprocessing, Size


class PaliGemma:
    """See ``Family``."""

    language_module: ClassVar = "language_model"
    vision_module: ClassVar = "vision_tower"
    opening: ClassVar = ""
    closing: ClassVar = "\n"
    takes_video: ClassVar = False  # bidirectional: an early frame's action token would see the later frames
    takes_cameras: ClassVar = True
    action_token: ClassVar = None

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, processor: ImageProcessor) -> None:
        self._processor = processor
        self._patch: int = config.vision_config.patch_size
        self._place: int = config.image_token_id
        self._bos = token_id(tokenizer, "<bos>")

    def preprocessing(self, recorded: Size) -> Preprocessing:
        """See ``Family``."""
        return square_or_cropped(self._processor, recorded)

    def frame_ids(self, size: Size, *, num_cameras: int) -> list[int]:
        """See ``Family``; one <bos> comes after all images, as in its processor."""
        return [self._place] * (size[0] // self._patch) * (size[1] // self._patch) * num_cameras + [self._bos]

    def inputs(self, ids_NL: torch.Tensor, pixels_NFCYX: torch.Tensor) -> dict[str, torch.Tensor]:
        """See ``Family``."""
        return {"pixel_values": pixels_NFCYX.flatten(0, 1), "token_type_ids": torch.zeros_like(ids_NL)}


FAMILY = PaliGemma
