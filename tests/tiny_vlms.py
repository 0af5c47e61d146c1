"""Save tiny models of every family as their real classes would be saved: random weights, a trained tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    Idefics3Config,
    Kosmos2Config,
    LlavaConfig,
    PaliGemmaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
    SmolVLMConfig,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

SENTENCES = (
    "Navigate around the box and stop in front of the left bottle",
    "Drive past the boxes and stop before the bottle on the right",
    "Go to the left bottle, mind the box",
    "USER: ASSISTANT: User: user assistant",
)

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True, kw_only=True)
class TinyFamily:
    """How one family's tiny folder is made; ``special`` are its tokens, padding first, beginning second."""

    special: tuple[str, ...]
    config: Callable[[Mapping[str, int]], PretrainedConfig]
    processor: Callable[[], BaseImageProcessor]


def _square(edge: int) -> dict[str, Any]:
    return {"size": {"height": edge, "width": edge}}


def _kosmos(ids: Mapping[str, int]) -> PretrainedConfig:
    text = {
        "vocab_size": len(ids),
        "embed_dim": 32,
        "layers": 2,
        "ffn_dim": 48,
        "attention_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": ids["<s>"],
        "pad_token_id": ids["<pad>"],
        "eos_token_id": ids["</s>"],
    }
    return Kosmos2Config(
        text_config=text, vision_config={**_VISION, "image_size": 28, "patch_size": 7}, latent_query_num=5
    )


def _paligemma(ids: Mapping[str, int]) -> PretrainedConfig:
    return PaliGemmaConfig(
        text_config={
            **_TEXT,
            "model_type": "gemma",
            "head_dim": 8,
            "vocab_size": len(ids),
            "pad_token_id": ids["<pad>"],
        },
        vision_config={**_VISION, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7},
        projection_dim=32,
        image_token_id=ids["<image>"],
    )


def _llava(ids: Mapping[str, int]) -> PretrainedConfig:
    return LlavaConfig(
        text_config={**_TEXT, "model_type": "llama", "vocab_size": len(ids), "pad_token_id": ids["<pad>"]},
        vision_config={**_VISION, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 7},
        image_token_id=ids["<image>"],
    )


def _idefics3(ids: Mapping[str, int]) -> PretrainedConfig:
    return Idefics3Config(**_idefics3_parts(ids))


def _smolvlm(ids: Mapping[str, int]) -> PretrainedConfig:
    return SmolVLMConfig(**_idefics3_parts(ids))


def _idefics3_parts(ids: Mapping[str, int]) -> dict[str, Any]:
    pad = next(iter(ids))
    return {
        "text_config": {**_TEXT, "model_type": "llama", "vocab_size": len(ids), "pad_token_id": ids[pad]},
        "vision_config": {**_VISION, "image_size": 28, "patch_size": 7},
        "scale_factor": 2,
        "image_token_id": ids["<image>"],
    }


_QWEN_VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "patch_size": 7,
    "out_hidden_size": 32,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
_ROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}


def _qwen2_5(ids: Mapping[str, int]) -> PretrainedConfig:
    return Qwen2_5_VLConfig(
        text_config={**_TEXT, "vocab_size": len(ids), "rope_parameters": _ROPE, "pad_token_id": ids["<|endoftext|>"]},
        vision_config={
            **_QWEN_VISION,
            "window_size": 28,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def _qwen3(ids: Mapping[str, int]) -> PretrainedConfig:
    return Qwen3VLConfig(
        text_config={
            **_TEXT,
            "vocab_size": len(ids),
            "head_dim": 8,
            "rope_parameters": _ROPE,
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            **_QWEN_VISION,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


_IDEFICS3_TOKENS = ("<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>")
_QWEN_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)

FAMILIES: Mapping[str, TinyFamily] = {
    "kosmos2": TinyFamily(
        special=("<pad>", "<s>", "</s>", "<unk>", *(f"<place{i}>" for i in range(5)), "<image>", "</image>"),
        config=_kosmos,
        processor=lambda: CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
    ),
    "paligemma": TinyFamily(
        special=("<pad>", "<bos>", "<eos>", "<unk>", "<image>"),
        config=_paligemma,
        processor=lambda: SiglipImageProcessorPil(**_square(28), image_seq_length=16),
    ),
    "smolvlm": TinyFamily(
        special=("<|im_end|>", "<|im_start|>", "<unk>", *_IDEFICS3_TOKENS),
        config=_smolvlm,
        processor=lambda: SmolVLMImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}),
    ),
    "qwen2_5_vl": TinyFamily(
        special=_QWEN_TOKENS,
        config=_qwen2_5,
        processor=lambda: Qwen2VLImageProcessorPil(patch_size=7, size={"shortest_edge": 196, "longest_edge": 4096}),
    ),
    "qwen3_vl": TinyFamily(
        special=_QWEN_TOKENS,
        config=_qwen3,
        processor=lambda: Qwen2VLImageProcessorPil(patch_size=7, size={"shortest_edge": 196, "longest_edge": 4096}),
    ),
    "llava": TinyFamily(
        special=("<pad>", "<s>", "</s>", "<unk>", "<image>"),
        config=_llava,
        processor=lambda: CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
    ),
    "idefics3": TinyFamily(
        special=("<|pad|>", "<|begin_of_text|>", "<unk>", *_IDEFICS3_TOKENS),
        config=_idefics3,
        processor=lambda: Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}),
    ),
}


def save_tiny_vlm(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write the tiny model of a family to ``folder``: model, tokenizer and image processor, each by its own class."""
    family = FAMILIES[name]
    tokenizer = _train_tokenizer(family.special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(family.config(tokenizer.get_vocab()))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    family.processor().save_pretrained(folder)
    return folder


def _train_tokenizer(special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(vocab_size=300, special_tokens=[*special, *(() if "<unk>" in special else ("<unk>",))]),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, padding_side="left", pad_token=special[0], bos_token=special[1], unk_token="<unk>"
    )
