"""Qwen2.5-VL (Bai et al. 2025): images of any size as flat patches, with positions in three dimensions."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from mobile_vla.policy.backbones.families.family import token_id
from mobile_vla.policy.backbones.families.preprocessing import ImageProcessor, Preprocessing, Size


class Qwen25Vl:
    """See ``Family``."""

    language_module: ClassVar = "language_model"
    vision_module: ClassVar = "visual"
    opening: ClassVar = "<|im_start|>user\n"
    closing: ClassVar = "<|im_end|>\n<|im_start|>assistant\n"
    takes_video: ClassVar = True
    takes_cameras: ClassVar = True
    action_token: ClassVar = None

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, processor: ImageProcessor) -> None:
        settings: Any = processor
        self._processor = processor
        self._patch: int = settings.patch_size
        self._merge: int = settings.merge_size
        self._num_repeats: int = settings.temporal_patch_size
        self._place: int = config.image_token_id
        self._begin, self._end = token_id(tokenizer, "<|vision_start|>"), token_id(tokenizer, "<|vision_end|>")

    def preprocessing(self, recorded: Size) -> Preprocessing:
        """See ``Family``."""
        low, high = self._processor.size["shortest_edge"], self._processor.size["longest_edge"]
        size = smart_resize(*recorded, factor=self._patch * self._merge, min_pixels=low, max_pixels=high)
        return Preprocessing(self._processor, recorded=recorded, resizes=[size], crop=size)

    def frame_ids(self, size: Size, *, num_cameras: int) -> list[int]:
        """See ``Family``."""
        edge = self._patch * self._merge
        return [self._begin, *[self._place] * (size[0] // edge * (size[1] // edge)), self._end] * num_cameras

    def inputs(self, ids_NL: torch.Tensor, pixels_NFCYX: torch.Tensor) -> dict[str, torch.Tensor]:
        """See ``Family``."""
        images = pixels_NFCYX.flatten(0, 1)
        grid = [1, images.shape[-2] // self._patch, images.shape[-1] // self._patch]
        return {
            "pixel_values": self._patches(images),
            "image_grid_thw": torch.tensor([grid] * len(images), device=images.device),
            "mm_token_type_ids": (ids_NL == self._place).int(),
        }

    def _patches(self, images_NCYX: torch.Tensor) -> torch.Tensor:
        """Return [patches of all images, 3 * temporal patch * patch * patch]; patches that merge are neighbours."""
        patch, merge = self._patch, self._merge
        # Axes: image, colour, (row of the merged patch, row in it, row in the patch), the same for columns.
        parts = images_NCYX.unflatten(3, (-1, merge, patch)).unflatten(2, (-1, merge, patch))
        parts = parts.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(0, 4)
        # The model expects video patches of several frames; its processor repeats a still image.
        return parts[:, :, None].expand(-1, -1, self._num_repeats, -1, -1).flatten(1)


FAMILY = Qwen25Vl
