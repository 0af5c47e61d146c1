"""Check what every augmentation promises: one draw a window, reproducible, in range, and in training alone."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from augmented import BATCH, STREAM, batch_of
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law, made_spec
from tiny_runs import compose_config, options_of, run_in

from mobile_vla.augmentation.color_jitter import ColorJitter
from mobile_vla.augmentation.gaussian_noise import GaussianNoise
from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.augmentation.random_crop import RandomCrop
from mobile_vla.config import check_config
from mobile_vla.errors import ConfigError
from mobile_vla.run.build import build_augmentation
from mobile_vla.schema import Batch
from mobile_vla.streams import Stream

OPTIONS = options_of("augmentation")
IMAGE_OPTIONS = [option for option in OPTIONS if option not in ("none", "mirror")]


def pipeline(option: str, *, seed: int = 0) -> Pipeline:
    """Return the pipeline of a config option."""
    cfg = compose_config([f"augmentation={option}"])
    return build_augmentation(cfg.augmentation, made_spec(), stream=Stream(seed, "augmentation"))


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    return {option: pipeline(option) for option in OPTIONS}


def equal(one: Batch, other: Batch) -> bool:
    tensors = ("images_BTVCYX", "history_BT", "actions_BTKA", "mask_BTK")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors) and (
        one.instruction,
        one.scenario,
    ) == (other.instruction, other.scenario)


def test_none_leaves_the_batch_untouched(pipelines: dict[str, Pipeline]) -> None:
    batch = batch_of(is_float=False)
    assert pipelines["none"](batch, step=3) is batch
    assert batch.images_BTVCYX.dtype == torch.uint8


@law
@given(option=st.sampled_from(OPTIONS), step=st.integers(0, 10**9))
def test_seed_and_step_decide_and_no_global_state_is_touched(
    pipelines: dict[str, Pipeline], option: str, step: int
) -> None:
    batch = batch_of(is_float=False)
    before = batch.images_BTVCYX.clone()
    states = (random.getstate(), str(np.random.get_state()), torch.get_rng_state())
    first = pipelines[option](batch, step=step)
    assert (random.getstate(), str(np.random.get_state())) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    torch.rand(3)
    np.random.rand(3)
    assert equal(pipelines[option](batch, step=step), first)
    assert torch.equal(batch.images_BTVCYX, before)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "none"])
def test_another_step_or_seed_is_another_change(pipelines: dict[str, Pipeline], option: str) -> None:
    batch = batch_of(num_windows=16, is_float=False)
    first = pipelines[option](batch, step=0)
    assert not equal(pipelines[option](batch, step=1), first)
    assert not equal(pipeline(option, seed=1)(batch, step=0), first)


@law
@given(option=st.sampled_from(OPTIONS), step=st.integers(0, 10**6))
def test_images_stay_in_range_and_absent_frames_zero(pipelines: dict[str, Pipeline], option: str, step: int) -> None:
    batch = batch_of(is_float=False)
    images = pipelines[option](batch, step=step).images_BTVCYX
    assert images.shape == batch.images_BTVCYX.shape
    if option not in ("none", "mirror"):  # these move pixels at most: bytes stay bytes
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
    assert not batch.history_BT.all()
    assert not images[~batch.history_BT].any()


@pytest.mark.parametrize("option", IMAGE_OPTIONS)
def test_only_the_mirror_changes_anything_but_pixels(pipelines: dict[str, Pipeline], option: str) -> None:
    batch = batch_of(num_windows=16, is_float=False)
    changed = pipelines[option](batch, step=0)
    assert torch.equal(changed.history_BT, batch.history_BT)
    assert torch.equal(changed.mask_BTK, batch.mask_BTK)
    assert equal(replace(changed, images_BTVCYX=batch.images_BTVCYX), batch) == (option != "all")


@law
@given(
    transform=st.sampled_from(
        [
            ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2),
            RandomCrop(scale_min=0.5),
        ]
    ),
    step=st.integers(0, 10**6),
)
def test_one_draw_a_window_is_the_same_for_all_its_frames_and_cameras(
    transform: ColorJitter | RandomCrop, step: int
) -> None:
    one_frame = batch_of(num_windows=6, num_frames=3).images_BTVCYX[:1, 1:2]
    batch = replace(BATCH, images_BTVCYX=one_frame.expand(6, 3, 2, -1, -1, -1), window_ids=np.arange(6))
    images = transform(batch, stream=STREAM, step=step).images_BTVCYX
    first = images[:, :1, :1].expand_as(images)
    torch.testing.assert_close(images, first, rtol=0, atol=1e-6)  # another frame, another camera: the same change
    assert len({tuple(window[0].flatten().tolist()) for window in images}) == 6


def test_noise_has_one_strength_a_window_and_new_values_every_image() -> None:
    gray = torch.full((40, 3, 2, 3, 32, 32), 0.5)
    batch = replace(BATCH, images_BTVCYX=gray, window_ids=np.arange(40))
    noise = GaussianNoise(std_max=0.1)(batch, stream=STREAM, step=0).images_BTVCYX - gray
    later = GaussianNoise(std_max=0.1)(batch, stream=STREAM, step=1).images_BTVCYX - gray
    strength_BT = noise.flatten(2).std(-1)
    assert (later.flatten(2).std(-1) - strength_BT).abs().mean() > 0.01
    torch.testing.assert_close(strength_BT, strength_BT[:, :1].expand(-1, 3), rtol=0.06, atol=1e-4)
    assert strength_BT.max() <= 0.105
    assert strength_BT.mean() == pytest.approx(0.05, abs=0.015)
    for t, camera in ((1, 0), (2, 0), (0, 1)):
        correlation = torch.corrcoef(torch.stack([noise[:, 0, 0].flatten(), noise[:, t, camera].flatten()]))[0, 1]
        assert abs(correlation) < 0.02


def test_zero_widths_are_the_identity() -> None:
    for transform in (
        ColorJitter(brightness=0, contrast=0, saturation=0, hue=0),
        GaussianNoise(std_max=0),
        RandomCrop(scale_min=1),
    ):
        images = transform(BATCH, stream=STREAM, step=5).images_BTVCYX
        torch.testing.assert_close(images, BATCH.images_BTVCYX, rtol=0, atol=2e-6)


def jittered(step: int, **widths: float) -> torch.Tensor:
    zero = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    return ColorJitter(**(zero | widths))(BATCH, stream=STREAM, step=step).images_BTVCYX


def luma(images: torch.Tensor) -> torch.Tensor:
    return torch.einsum("c,btvcyx->btvyx", torch.tensor([0.299, 0.587, 0.114]), images)


@law
@given(step=st.integers(0, 10**6))
def test_each_colour_change_keeps_what_it_must(step: int) -> None:
    images = BATCH.images_BTVCYX
    exists = BATCH.history_BT
    ratio = (jittered(step, brightness=0.5) / images)[images > 0.05]
    assert ratio.min() >= 0.5 - 1e-4
    assert ratio.max() <= 1.5 + 1e-4
    contrasted = jittered(step, contrast=0.5)
    torch.testing.assert_close(luma(contrasted).mean((-1, -2)), luma(images).mean((-1, -2)), rtol=0, atol=1e-5)
    spread = (luma(contrasted).std((-1, -2)) / luma(images).std((-1, -2)))[exists]
    assert spread.min() >= 0.5 - 1e-4
    assert spread.max() <= 1.5 + 1e-4
    torch.testing.assert_close(luma(jittered(step, saturation=0.5)), luma(images), rtol=0, atol=1e-5)
    turned = jittered(step, hue=0.5)
    torch.testing.assert_close(turned.sum(3), images.sum(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(turned.square().sum(3), images.square().sum(3), rtol=0, atol=1e-4)


@law
@given(step=st.integers(0, 10**6), scale_min=st.floats(0.3, 1))
def test_a_crop_shows_a_part_of_the_image_upright_and_not_smaller(step: int, scale_min: float) -> None:
    """On a ramp of columns a crop is a ramp again: it starts and ends inside, and rises more slowly."""
    width = 32
    ramp = torch.arange(width, dtype=torch.float32).expand(5, 3, 2, 3, 4, width)
    cropped = RandomCrop(scale_min=scale_min)(
        replace(BATCH, images_BTVCYX=ramp), stream=STREAM, step=step
    ).images_BTVCYX
    assert cropped.min() >= 0
    assert cropped.max() <= width - 1
    rise = cropped[..., 17] - cropped[..., 16]
    assert rise.min() >= scale_min - 1e-3
    assert rise.max() <= 1 + 1e-3
    torch.testing.assert_close(cropped, cropped[:, :1, :1, :1, :1].expand_as(cropped), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("option", "override"),
    [
        ("mirror", "augmentation.transforms.mirror.probability=1.5"),
        ("mirror", "augmentation.transforms.mirror.probability=-0.1"),
        ("random_crop", "augmentation.transforms.random_crop.scale_min=0"),
        ("random_crop", "augmentation.transforms.random_crop.scale_min=1.1"),
        ("color_jitter", "augmentation.transforms.color_jitter.hue=-0.1"),
        ("gaussian_noise", "augmentation.transforms.gaussian_noise.std_max=-1"),
    ],
)
def test_options_out_of_range_are_named(option: str, override: str) -> None:
    with pytest.raises(ConfigError, match=f"{override.split('=')[0]}: .*Input should be"):
        check_config(compose_config([f"augmentation={option}", override]))


def test_only_training_is_augmented(tiny: tuple[str, ...], tmp_path: Path) -> None:
    rows = {}
    for option in ("none", "all"):
        ran = run_in(tmp_path / option, *tiny, f"augmentation={option}")
        assert ran.exit_code == 0
        rows[option] = ran.timeless_rows
    measured = ("val/loss", "val/rmse", "probe/loss", "probe/rmse")
    first, last = [{key: (rows["none"][i][key], rows["all"][i][key]) for key in measured} for i in (0, -1)]
    assert all(plain == augmented for plain, augmented in first.values())
    assert all(plain != augmented for plain, augmented in last.values())


def test_each_transform_draws_from_a_stream_of_its_own() -> None:
    jitter = ColorJitter(brightness=0.5, contrast=0, saturation=0, hue=0)
    batch = batch_of(is_float=False)
    stream = Stream(0, "augmentation")
    alone = Pipeline(transforms={"jitter": jitter}, stream=stream)(batch, step=0)
    beside = Pipeline(transforms={"crop": RandomCrop(scale_min=1), "jitter": jitter}, stream=stream)(batch, step=0)
    torch.testing.assert_close(beside.images_BTVCYX, alone.images_BTVCYX, rtol=0, atol=2e-6)
    renamed = Pipeline(transforms={"other": jitter}, stream=stream)(batch, step=0)
    assert not torch.equal(renamed.images_BTVCYX, alone.images_BTVCYX)
