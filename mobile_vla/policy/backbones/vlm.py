"""A backbone from a pretrained vision-language model; the feature is the last hidden state of an action token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from pydantic import PositiveInt
from safetensors.torch import load_file
from torch import nn

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.policy.backbones.contract import Backbone
from mobile_vla.policy.backbones.families.family import action_token_id, find_family, prompt_ids
from mobile_vla.policy.backbones.families.preprocessing import Size
from mobile_vla.policy.backbones.pretrained import Attention, DType, base_hash, load_model, read_settings
from mobile_vla.policy.backbones.tuning import Frozen, Tuning

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class VlmBackbone(Backbone):
    """The "policy head" structure of RoboVLMs (Li et al. 2024) with any model family in ``families``.

    With the ``structure`` ``frame``, each frame has its own prompt, with the instruction and the action token at its
    end. With ``video``, all frames of a window are in one prompt after the instruction, and each is followed by the
    action token, which sees no later frame. A frame has one image in the prompt for each camera. ``weights`` is a
    folder or a hub name. ``dtype`` is that of the pretrained weights and of the computation in them; adapters, action
    token and features are float32. Without gradients, at most ``frames_at_once`` frames are encoded at a time. Raises
    ``ConfigError`` if the weights are not available, if their family accepts no video or no second camera, or if
    trained weights would have less than float32.
    """

    def __init__(
        self,
        *,
        weights: str,
        structure: Literal["frame", "video"],
        tuning: Tuning,
        dtype: DType,
        attention: Attention,
        gradient_checkpointing: bool,
        frames_at_once: PositiveInt,
        num_cameras: int,
    ) -> None:
        super().__init__()
        settings = read_settings(weights)
        family = find_family(settings.config)
        if structure == "video" and not family.takes_video:
            raise ConfigError(
                f"model.backbone.structure=video: {family.__name__} does not take several images in time order; "
                "expected structure=frame"
            )
        if num_cameras > 1 and not family.takes_cameras:
            raise ConfigError(
                f"dataset.cameras: {num_cameras} cameras, and {family.__name__} takes one image in a prompt. Name one "
                "of the cameras, or choose another pretrained model."
            )
        if gradient_checkpointing and not tuning.learns:
            raise ConfigError(
                "model.backbone.gradient_checkpointing=true: has no effect, as nothing learns; leave it out"
            )
        self.weights = weights
        self.learns = tuning.learns
        self.cached_variants = tuning.cached_variants if isinstance(tuning, Frozen) else 0
        self._frames_at_once = frames_at_once
        self._num_cameras = num_cameras
        self.frames_apart = structure == "frame"
        self._tokenizer = settings.tokenizer
        self._family = family(settings.config, settings.tokenizer, settings.processor)
        self._preprocessing = lru_cache(lambda recorded, device: self._family.preprocessing(recorded).to(device))
        self._prompt_ids = lru_cache(maxsize=4096)(self._make_prompt_ids)
        self._action_id = action_token_id(family, settings.tokenizer)
        base = load_model(settings, dtype=DTYPES[dtype], attention=attention)
        self.base_hash = base_hash(settings, base)
        table = base.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        self._dtype = table.weight.dtype
        self.feature_dim = table.embedding_dim
        self.action_token = nn.Parameter(_typical_entry(table), requires_grad=tuning.learns)
        table.register_forward_hook(self._embed_action_token)
        self.base = tuning(base, family)
        if gradient_checkpointing:  # after peft, which would otherwise send gradients through a frozen vision tower too
            base.activation_checkpointing_enable({"use_reentrant": False})
        if any(p.requires_grad and p.dtype != torch.float32 for p in self.parameters()):
            raise ConfigError(
                f"model.backbone.dtype={dtype}: weights that learn must be fp32, or small steps are lost in rounding. "
                "Use model.backbone.dtype=fp32, with trainer.precision=bf16 for speed."
            )

    @property
    def feature_key(self) -> str | None:
        """See ``Backbone``."""
        if self.learns or not self.frames_apart:
            return None
        return f"{self.base_hash} {self._dtype} {self._family.opening!r} {self._family.closing!r}"

    @property
    def adapter(self) -> PeftModel | None:
        """The model with its adapter; None if it has none."""
        return self.base if isinstance(self.base, PeftModel) else None

    @property
    def unstored(self) -> frozenset[str]:
        """See ``Backbone``."""
        learned = {name for name, p in self.base.named_parameters() if p.requires_grad and self.adapter is None}
        return frozenset(f"base.{name}" for name in self.base.state_dict() if name not in learned)

    def save_adapter(self, folder: Path) -> None:
        """See ``Backbone``."""
        if self.adapter is not None:
            self.adapter.peft_config["default"].base_model_name_or_path = self.weights
            self.adapter.save_pretrained(str(folder), save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # peft's template of a model card, not filled in

    def load_adapter(self, folder: Path) -> None:
        """See ``Backbone``."""
        if self.adapter is None:
            return
        state = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
        expected = get_peft_model_state_dict(self.adapter, save_embedding_layers=False).keys()
        if odd := sorted(state.keys() ^ expected):
            raise UserError(
                f"{folder}: is not this model's adapter: missing or unexpected in it: {odd[0]} and {len(odd) - 1} more"
            )
        set_peft_model_state_dict(self.adapter, state)

    def forward(
        self, images_BTVCYX: torch.Tensor, history_BT: torch.Tensor, instruction: tuple[str, ...]
    ) -> torch.Tensor:
        """See ``Backbone``; the features of frames that do not exist are zero."""
        if not self.frames_apart:
            return self._encode(images_BTVCYX, history_BT, instruction) * history_BT[..., None]
        # Computed on the CPU, so that the GPU must be waited for only once.
        rows_N, frames_N = history_BT.cpu().nonzero(as_tuple=True)
        texts = [instruction[row] for row in rows_N.tolist()]
        rows_N, frames_N = rows_N.to(history_BT.device), frames_N.to(history_BT.device)
        frames_N1VCYX = images_BTVCYX[rows_N, frames_N][:, None]
        features_ND = self._encode(frames_N1VCYX, None, texts)[:, 0]
        features_BTD = features_ND.new_zeros(*history_BT.shape, self.feature_dim)
        return features_BTD.index_put((rows_N, frames_N), features_ND)

    def train(self, mode: bool = True) -> VlmBackbone:
        """Set the mode as usual, but keep evaluation mode, without dropout, if no weight of the backbone is trained."""
        super().train(mode and self.learns)
        return self

    def _encode(
        self, images_NFVCYX: torch.Tensor, exists_NF: torch.Tensor | None, instruction: Sequence[str]
    ) -> torch.Tensor:
        """Return the last hidden states [N, F, D] of the action tokens, float32, for N prompts with F frames each.

        With ``exists_NF`` None, each prompt has one frame, and it exists.
        """
        device, num_frames = images_NFVCYX.device, images_NFVCYX.shape[1]
        at_once = max(1, self._frames_at_once // num_frames)
        if not torch.is_grad_enabled() and len(images_NFVCYX) > at_once:
            parts = [slice(first, first + at_once) for first in range(0, len(images_NFVCYX), at_once)]
            exist = [None if exists_NF is None else exists_NF[part] for part in parts]
            return torch.cat(
                [self._encode(images_NFVCYX[p], e, instruction[p]) for p, e in zip(parts, exist, strict=True)]
            )
        prepare = self._preprocessing((images_NFVCYX.shape[-2], images_NFVCYX.shape[-1]), device)
        ids_NL, real_NL = self._tokenize(instruction, prepare.size, None if exists_NF is None else num_frames)
        ids_NL, real_NL = ids_NL.to(device, non_blocking=True), real_NL.to(device, non_blocking=True)
        tokens_per_frame = len(self._family.frame_ids(prepare.size, num_cameras=self._num_cameras)) + 1
        if exists_NF is not None:
            # The frames are at the end of a prompt; the tokens of one that does not exist are masked like padding.
            real_NL[:, -num_frames * tokens_per_frame :] &= exists_NF.repeat_interleave(tokens_per_frame, dim=1)
        pixels_NCYX = prepare(images_NFVCYX.flatten(0, 2)).to(self._dtype)
        # No autocast if the weights have one 16-bit type and autocast uses the other: the two cannot be multiplied.
        mixes = self._dtype not in (torch.float32, torch.get_autocast_dtype(device.type))
        with torch.autocast(device.type, enabled=torch.is_autocast_enabled(device.type) and not mixes):
            hidden_NLD = self.base(
                input_ids=ids_NL,
                attention_mask=real_NL.long(),
                use_cache=False,
                **self._family.inputs(ids_NL, pixels_NCYX.unflatten(0, (len(images_NFVCYX), -1))),
            ).last_hidden_state
        # The last token of every prompt is an action token; those of the earlier frames come at equal distances before.
        first = ids_NL.shape[1] - 1 - (num_frames - 1) * tokens_per_frame
        return hidden_NLD[:, first::tokens_per_frame].float()

    @torch.compiler.disable()
    def _tokenize(
        self, instruction: Sequence[str], size: Size, num_frames: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens of N prompts, and a mask that is False for padding, both [N, L], on the CPU.

        The padding is on the left, so that the action tokens have the same positions in every prompt.
        """
        prompts = [self._prompt_ids(size, text, num_frames) for text in instruction]
        num_tokens = max(map(len, prompts))
        padding = (self._tokenizer.pad_token_id,)
        ids_NL = torch.tensor([padding * (num_tokens - len(ids)) + ids for ids in prompts])
        return ids_NL, torch.tensor([[False] * (num_tokens - len(ids)) + [True] * len(ids) for ids in prompts])

    def _make_prompt_ids(self, size: Size, text: str, num_frames: int | None) -> tuple[int, ...]:
        frame = self._family.frame_ids(size, num_cameras=self._num_cameras)
        return tuple(prompt_ids(self._family, self._tokenizer, text, frame=frame, num_frames=num_frames))

    def _embed_action_token(self, _: nn.Module, ids: tuple[torch.Tensor], embedded: torch.Tensor) -> torch.Tensor:
        is_action_NL1 = (ids[0] == self._action_id)[..., None]
        return torch.where(is_action_NL1, self.action_token.to(embedded.dtype), embedded)


def _typical_entry(table: nn.Embedding) -> torch.Tensor:
    """Return the initial value [D] of a new vocabulary entry: the mean entry, scaled to the mean length; float32.

    It is not random, so that runs with different seeds can share the cached features of a frozen model.
    """
    entries_VD = table.weight.detach().float()
    return nn.functional.normalize(entries_VD.mean(0), dim=0) * entries_VD.norm(dim=1).mean()
