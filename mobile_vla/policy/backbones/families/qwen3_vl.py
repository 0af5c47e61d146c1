"""Qwen3-VL (2025): prompted like Qwen2.5-VL, with larger patches that its own processor's settings tell."""

from __future__ import annotations

from mobile_vla.policy.backbones.families.qwen2_5_vl import Qwen25Vl

FAMILY = Qwen25Vl
