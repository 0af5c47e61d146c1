"""Which weights of a pretrained model are trained: an adapter's, all, none, or those of its last layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import nn
from transformers import PreTrainedModel

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.families.family import Family


class Tuning(Protocol):
    """A choice of trained weights; ``learns`` is False if none are trained, not even the action token's."""

    learns: ClassVar[bool]

    def __call__(self, base: PreTrainedModel, family: type[Family]) -> PreTrainedModel | PeftModel:
        """Set ``requires_grad`` of ``base`` in place and return it, with an adapter if this tuning has one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Neither the pretrained model nor the action token is trained, so the features of a frame never change.

    They are computed once, also for ``cached_variants`` augmented variants of each train episode.
    """

    learns: ClassVar = False
    cached_variants: NonNegativeInt

    def __call__(self, base: PreTrainedModel, family: type[Family]) -> PreTrainedModel:
        """See ``Tuning``."""
        base.requires_grad_(False)
        return base


@dataclass(frozen=True, kw_only=True)
class Full:
    """All weights are trained; those of the vision tower only if ``vision`` is True."""

    learns: ClassVar = True
    vision: bool

    def __call__(self, base: PreTrainedModel, family: type[Family]) -> PreTrainedModel:
        """See ``Tuning``."""
        base.requires_grad_(True)
        base.get_submodule(family.vision_module).requires_grad_(self.vision)
        return base


@dataclass(frozen=True, kw_only=True)
class LastLayers:
    """The last ``count`` layers of the language model are trained."""

    learns: ClassVar = True
    count: PositiveInt

    def __call__(self, base: PreTrainedModel, family: type[Family]) -> PreTrainedModel:
        """See ``Tuning``; ``ConfigError`` if the language model has fewer layers."""
        base.requires_grad_(False)
        layers = layer_stack(base.get_submodule(family.language_module))
        if self.count > len(layers):
            raise ConfigError(
                f"model.backbone.tuning.count={self.count}: the language model has {len(layers)} layers; expected at "
                "most that many"
            )
        for layer in list(layers)[-self.count :]:
            layer.requires_grad_(True)
        return base


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021) on the language model's linear layers, and with ``vision`` the vision tower's.

    ``targets``: ``attention``, the query and value projections; ``all_linear``, every linear layer; or the last parts
    of layer names, such as ``[q_proj, o_proj]``. ``dora`` (Liu et al. 2024) trains magnitudes separately; ``rslora``
    (Kalajdzievski 2023) scales by alpha / sqrt(rank). A new adapter does not change the model's output.
    """

    learns: ClassVar = True
    rank: PositiveInt
    alpha: PositiveInt
    dropout: Annotated[NonNegativeFloat, Field(lt=1)]
    targets: Literal["attention", "all_linear"] | Sequence[str]
    vision: bool
    dora: bool
    rslora: bool

    def __call__(self, base: PreTrainedModel, family: type[Family]) -> PeftModel:
        """See ``Tuning``; ``ConfigError`` if no layer has one of the names in ``targets``."""
        layers = dict(self._linear_layers(base, family))
        targets = sorted(name for name in layers if self._is_target(name.rsplit(".", 1)[1]))
        if not targets:
            known = sorted({name.rsplit(".", 1)[1] for name in layers})
            raise ConfigError(
                f"model.backbone.tuning.targets={self.targets}: no linear layer is called so; expected attention, "
                f"all_linear, or some of {', '.join(known)}"
            )
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            use_dora=self.dora,
            use_rslora=self.rslora,
            bias="none",
        )
        with warnings.catch_warnings():  # peft reads an attribute that transformers has renamed
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            adapted = get_peft_model(base, config)
        assert isinstance(adapted, PeftModel)
        return adapted

    def _is_target(self, last_name: str) -> bool:
        if isinstance(self.targets, str):
            # qkv: some vision towers compute queries, keys and values in one layer, which cannot be adapted in part.
            return self.targets == "all_linear" or last_name in ("q_proj", "v_proj", "qkv")
        return last_name in self.targets

    def _linear_layers(self, base: nn.Module, family: type[Family]) -> Iterator[tuple[str, nn.Linear]]:
        for part in (family.language_module, *([family.vision_module] if self.vision else [])):
            for name, module in base.get_submodule(part).named_modules(prefix=part):
                if isinstance(module, nn.Linear):
                    yield name, module


def layer_stack(part: nn.Module) -> nn.ModuleList:
    """Return the transformer layers of a language model or vision tower: the longest list in it."""
    return max((module for module in part.modules() if isinstance(module, nn.ModuleList)), key=len)
