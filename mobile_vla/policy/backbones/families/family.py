"""The interface for what differs between families of vision-language models; the family of a config."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.families.preprocessing import ImageProcessor, Preprocessing, Size


class Family(Protocol):
    """One family of models: its prompt format, its preprocessing and the names of its parts. One file per family.

    The prompt for one frame is ``opening``, the images of its cameras, the instruction, ``closing`` and the action
    token. The prompt for several frames is ``opening``, the instruction, and each frame's images followed by its own
    action token.
    """

    language_module: ClassVar[str]
    vision_module: ClassVar[str]
    opening: ClassVar[str]
    closing: ClassVar[str]
    takes_video: ClassVar[bool]
    """Whether one prompt may contain several frames, with causal attention over them."""

    takes_cameras: ClassVar[bool]
    """Whether one prompt may contain several images at all, so that a frame may have several cameras."""

    action_token: ClassVar[str | None]
    """A vocabulary entry that occurs in no prompt: its position marks the learned action token. None: the padding."""

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, processor: ImageProcessor) -> None:
        """Store the settings of a pretrained model that the other methods need."""
        ...

    def preprocessing(self, recorded: Size) -> Preprocessing:
        """Return the preprocessing for frames of ``recorded`` size."""
        ...

    def frame_ids(self, size: Size, *, num_cameras: int) -> list[int]:
        """Return the tokens of a frame's images of ``size`` pixels: their placeholders and the tokens around them."""
        ...

    def inputs(self, ids_NL: torch.Tensor, pixels_NFCYX: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the model's arguments in addition to ids and attention mask, for prompts with F images each.

        The images are in the order of their placeholders: the cameras of the first frame, then those of the second.
        """
        ...


def find_family(config: PretrainedConfig) -> type[Family]:
    """Return the family of a model's config; ``ConfigError`` lists the known ones."""
    # The files are the list of families: a new one needs no entry elsewhere.
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
    """Return the tokens of a part of a prompt; special tokens in ``text`` are recognised, and none are added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def instruction_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of an instruction; the name of a special token in it is ordinary text.

    An instruction may come from anybody over the network, and must not close the prompt or insert an image.
    """
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) if text else []


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Return the id of one special token; ``ConfigError`` if the vocabulary lacks it."""
    # For a token that it lacks, the tokenizer returns the id of <unk> and no error.
    found: Any = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int) or found == tokenizer.unk_token_id:
        raise ConfigError(f"model.backbone.weights: its tokenizer has no {token!r}, which its family of models needs")
    return found


def shortest_edge_size(recorded: Size, shortest_edge: int) -> Size:
    """Return the size whose shorter edge is ``shortest_edge``; the other edge is rounded as CLIP's processor does."""
    rows, columns = recorded
    if rows <= columns:
        return shortest_edge, int(shortest_edge * columns / rows)
    return int(shortest_edge * rows / columns), shortest_edge


def square_or_cropped(processor: ImageProcessor, recorded: Size) -> Preprocessing:
    """Return the preprocessing of CLIP and SigLIP: resize to a fixed size, or to a shortest edge with a centre crop."""
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
    family: Family, tokenizer: PreTrainedTokenizerBase, instruction: str, *, frame: list[int], num_frames: int | None
) -> Sequence[int]:
    """Return the prompt of one frame with its instruction (``num_frames`` None), or of a window of frames.

    ``frame`` are the tokens of one frame's images.
    """
    opening, text = template_ids(tokenizer, family.opening), instruction_ids(tokenizer, instruction)
    action = [action_token_id(type(family), tokenizer)]
    if num_frames is None:
        return [*opening, *frame, *text, *template_ids(tokenizer, family.closing), *action]
    return [*opening, *text, *(frame + action) * num_frames]
