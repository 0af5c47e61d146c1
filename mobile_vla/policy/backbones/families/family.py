"""Say what differs between families of vision-language models, and find the family of a config."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.preprocessing import ImageProcessor, Preprocessing, Size


class Family(Protocol):
    """One family: how it is prompted, how it wants its pixels, what its parts are called. One file each.

    A prompt is ``opening``, an image, the instruction, ``closing`` and the action token; of several frames it is
    ``opening``, the instruction, and each image with an action token of its own.
    """

    language_module: ClassVar[str]
    vision_module: ClassVar[str]
    opening: ClassVar[str]
    closing: ClassVar[str]
    takes_video: ClassVar[bool]
    """Whether several images may stand in one prompt, each token seeing only what stands before it."""

    action_token: ClassVar[str | None]
    """An entry of the vocabulary that no prompt holds: its place is the learned action token's. None: the padding."""

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, processor: ImageProcessor) -> None:
        """Take what the folder of the weights says."""
        ...

    def preprocessing(self, recorded: Size) -> Preprocessing:
        """Return how frames of ``recorded`` size become pixels."""
        ...

    def image_ids(self, size: Size) -> list[int]:
        """Return the tokens of one image of ``size`` pixels: its placeholders and what stands around them."""
        ...

    def inputs(self, ids_NL: torch.Tensor, pixels_NFCYX: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the model takes beside ids and attention mask, for prompts that show F images each."""
        ...


def find_family(config: PretrainedConfig) -> type[Family]:
    """Return the family of a model's config; ``ConfigError`` lists those that there are."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "family"))
    name = config.model_type.replace("-", "_")
    if name not in known:
        raise ConfigError(
            f"model.backbone.weights: a model of type {config.model_type!r}; expected one of {', '.join(known)}. A new "
            f"family is one file: {Path(__file__).parent.name}/{name}.py"
        )
    module = importlib.import_module(f"{__package__}.{name}")
    return module.FAMILY


def template_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of a part of a prompt, its special tokens among them, none added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def instruction_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of an instruction; what looks like a special token in it is text like any other."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) if text else []


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Return the id of one special token; ``ConfigError`` where the vocabulary lacks it."""
    found: Any = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int) or found == tokenizer.unk_token_id:
        raise ConfigError(f"model.backbone.weights: its tokenizer has no {token!r}, which its family of models needs")
    return found


def shortest_edge_size(recorded: Size, shortest_edge: int) -> Size:
    """Return the size whose shorter edge is ``shortest_edge``, as CLIP's processor rounds the other."""
    rows, columns = recorded
    if rows <= columns:
        return shortest_edge, int(shortest_edge * columns / rows)
    return int(shortest_edge * rows / columns), shortest_edge


def square_or_cropped(processor: ImageProcessor, recorded: Size) -> Preprocessing:
    """Return the preprocessing of the CLIP and SigLIP kind: a fixed size, or a shortest edge and a centre crop."""
    size = processor.size
    if size.get("shortest_edge"):
        resized = shortest_edge_size(recorded, size["shortest_edge"])
    else:
        resized = (size["height"], size["width"])
    crop: Any = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    cut = (crop["height"], crop["width"]) if crop else resized
    return Preprocessing(processor, recorded=recorded, resizes=[resized], crop=cut)


def action_token_id(family: type[Family], tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id whose embedding the learned action token replaces."""
    return token_id(tokenizer, family.action_token or str(tokenizer.pad_token))


def prompt_ids(
    family: Family, tokenizer: PreTrainedTokenizerBase, instruction: str, *, image: list[int], num_frames: int | None
) -> Sequence[int]:
    """Return the tokens of one frame with its instruction (``num_frames`` None), or of a window of frames.

    ``image`` are the tokens of each image.
    """
    opening, text = template_ids(tokenizer, family.opening), instruction_ids(tokenizer, instruction)
    action = [action_token_id(type(family), tokenizer)]
    if num_frames is None:
        return [*opening, *image, *text, *template_ids(tokenizer, family.closing), *action]
    return [*opening, *text, *(image + action) * num_frames]
