"""Check that the image size goes with the model where nobody gave one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import compose_config

from mobile_vla.run.build import build_dataset


def size_of(*overrides: str) -> tuple[int, int]:
    return build_dataset(compose_config(["dataset=auto", "dataset.path=anywhere", *overrides])).image.size


def test_the_small_policy_sees_64_pixels() -> None:
    assert size_of() == (64, 64)
    assert size_of("dataset.image_size=[48,80]") == (48, 80)


@pytest.mark.parametrize(("model", "side"), [("kosmos2", 28), ("paligemma", 28), ("llava", 28), ("qwen2_5_vl", 56)])
def test_a_pretrained_model_sees_what_its_processor_makes(model: str, side: int, vlms: Path) -> None:
    # This Qwen takes images of any size up to 56 px; one that takes more is given 224.
    assert size_of("model=pretrained", f"model.backbone.weights={vlms / model}") == (side, side)
