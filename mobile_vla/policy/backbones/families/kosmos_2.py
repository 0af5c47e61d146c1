"""Kosmos-2 (Peng et al. 2023): every prompt has exactly one image, whose placeholders are marked by a mask."""

from __future__ import annotations

from typing import ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from mobile_vla.policy.backbones.families.family import square_or_cropped, token_id
from mobile_vla.policy.backbones.families.preprocessing import ImageProcessor, Preprocessing, Size


class Kosmos2:
    """See ``Family``."""

    language_module: ClassVar = "text_model"
    vision_module: ClassVar = "vision_model"
    opening: ClassVar = "<s>"
    closing: ClassVar = ""
    takes_video: ClassVar = False
    takes_cameras: ClassVar = False
    action_token: ClassVar = "</s>"  # not the padding: this model numbers positions by the tokens that are no padding

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, processor: ImageProcessor) -> None:
        self._processor = processor
        self._begin, self._end = token_id(tokenizer, "<image>"), token_id(tokenizer, "</image>")
        # As in its processor: the placeholders are the ids after <unk>. These are ordinary words; only the mask marks
        # them as an image.
        unknown = tokenizer.unk_token_id
        assert isinstance(unknown, int)
        self._places = [unknown + 1 + index for index in range(config.latent_query_num)]

    def preprocessing(self, recorded: Size) -> Preprocessing:
        """See ``Family``."""
        return square_or_cropped(self._processor, recorded)

    def frame_ids(self, size: Size, *, num_cameras: int) -> list[int]:
        """See ``Family``; the number of placeholders (``latent_query_num``) does not depend on the size."""
        return [self._begin, *self._places, self._end]

    def inputs(self, ids_NL: torch.Tensor, pixels_NFCYX: torch.Tensor) -> dict[str, torch.Tensor]:
        """See ``Family``."""
        num_begun = (ids_NL == self._begin).cumsum(1)
        num_ended = (ids_NL == self._end).cumsum(1)
        is_image = (num_begun > num_ended) & (ids_NL != self._begin)
        return {"pixel_values": pixels_NFCYX[:, 0], "image_embeds_position_mask": is_image.long()}


FAMILY = Kosmos2
