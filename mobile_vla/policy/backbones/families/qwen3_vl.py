"""Qwen3-VL (2025): the prompt format of Qwen2.5-VL; its larger patches are read from its processor's settings."""

from __future__ import annotations

from mobile_vla.policy.backbones.families.qwen2_5_vl import Qwen25Vl

FAMILY = Qwen25Vl
