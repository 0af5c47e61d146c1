"""Save vision-language models of random weights in any size, as their own classes save them: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    Kosmos2Config,
    LlavaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

INSTRUCTION = "Navigate around the box and stop in front of the left bottle"


@dataclass(frozen=True, kw_only=True)
class Size:
    """The widths and depths of a model; ``image_size`` and ``patch_size`` in pixels."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    vision_hidden: int
    vision_mlp: int
    vision_layers: int
    image_size: int
    patch_size: int


SIZES = {
    "tiny": Size(
        hidden=32, mlp=48, layers=2, heads=4,
        vision_hidden=16, vision_mlp=24, vision_layers=2, image_size=28, patch_size=7,
    ),
    "small": Size(
        hidden=256, mlp=1024, layers=6, heads=4,
        vision_hidden=256, vision_mlp=1024, vision_layers=6, image_size=112, patch_size=14,
    ),
    "full": None,
}  # fmt: skip
"""``full`` is what the class of the config says itself: Kosmos-2 with 1.7 B weights, LLaVA 1.5 with 7 B."""


@dataclass(frozen=True, kw_only=True)
class _Family:
    """How a family is configured; ``special`` are its tokens, padding first, beginning second."""

    special: Callable[[Size | None], tuple[str, ...]]
    config: Callable[[Size | None, Mapping[str, int]], PretrainedConfig]


def _kosmos2_queries(size: Size | None) -> int:
    return 64 if size is None else 5


def _kosmos2(size: Size | None, ids: Mapping[str, int]) -> PretrainedConfig:
    text: dict[str, Any] = {
        "bos_token_id": ids["<s>"], "pad_token_id": ids["<pad>"], "eos_token_id": ids["</s>"]
    }  # fmt: skip
    if size is None:
        return Kosmos2Config(text_config=text, vision_config={})
    text |= {
        "vocab_size": len(ids), "embed_dim": size.hidden, "layers": size.layers, "ffn_dim": size.mlp,
        "attention_heads": size.heads, "max_position_embeddings": 512,
    }  # fmt: skip
    return Kosmos2Config(text_config=text, vision_config=_vision(size), latent_query_num=_kosmos2_queries(size))


def _llava(size: Size | None, ids: Mapping[str, int]) -> PretrainedConfig:
    text: dict[str, Any] = {"model_type": "llama", "pad_token_id": ids["<pad>"]}
    vision: dict[str, Any] | None = None
    if size is not None:
        text |= {
            "vocab_size": len(ids), "hidden_size": size.hidden, "intermediate_size": size.mlp,
            "num_hidden_layers": size.layers, "num_attention_heads": size.heads, "num_key_value_heads": size.heads,
        }  # fmt: skip
        vision = {"model_type": "clip_vision_model", **_vision(size)}
    places: dict[str, Any] = {"image_token_id": ids["<image>"]}
    return LlavaConfig(text_config=text, vision_config=vision, **places)


def _vision(size: Size) -> dict[str, Any]:
    return {
        "hidden_size": size.vision_hidden, "intermediate_size": size.vision_mlp,
        "num_hidden_layers": size.vision_layers, "num_attention_heads": size.heads,
        "image_size": size.image_size, "patch_size": size.patch_size,
    }  # fmt: skip


FAMILIES = {
    "kosmos2": _Family(
        special=lambda size: (
            *("<pad>", "<s>", "</s>", "<unk>"),
            *(f"<place{i}>" for i in range(_kosmos2_queries(size))),
            *("<image>", "</image>"),
        ),
        config=_kosmos2,
    ),
    "llava": _Family(special=lambda _: ("<pad>", "<s>", "</s>", "<unk>", "<image>"), config=_llava),
}


def save_random_model(family: str, size: str, folder: Path, *, dtype: torch.dtype, seed: int) -> Path:
    """Write model, tokenizer and image processor of a family to ``folder``; the tokenizer knows ``INSTRUCTION``."""
    found, sizes = FAMILIES[family], SIZES[size]
    tokenizer = _train_tokenizer(found.special(sizes))
    config = found.config(sizes, tokenizer.get_vocab())
    torch.manual_seed(seed)
    AutoModelForImageTextToText.from_config(config, dtype=dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edge = config.vision_config.image_size
    CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}).save_pretrained(
        folder
    )
    return folder


def _train_tokenizer(special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.train_from_iterator([INSTRUCTION], trainers.BpeTrainer(vocab_size=300, special_tokens=list(special)))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, padding_side="left", pad_token=special[0], bos_token=special[1], unk_token="<unk>"
    )
