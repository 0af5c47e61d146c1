"""SmolVLM (Marafioti et al. 2025): Idefics3 with another opening of the prompt."""

from __future__ import annotations

from typing import ClassVar

from mobile_vla.policy.backbones.families.idefics3 import Idefics3


class SmolVlm(Idefics3):
    """See ``Family``."""

    opening: ClassVar = "<|im_start|>User:"


FAMILY = SmolVlm
