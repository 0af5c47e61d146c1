"""Several cameras are encoded together: each matters, in its place, and one camera is what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_batches import make_batch, make_model
from test_pretrained_backbone import features, make_backbone, windows
from tiny_vlms import FAMILIES

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.families.family import find_family
from mobile_vla.policy.backbones.pretrained import read_settings

SEVERAL = [name for name in FAMILIES if name != "kosmos2"]
STRUCTURES = [
    (name, structure)
    for name in SEVERAL
    for structure in ("frame", "video")
    if (name, structure) != ("paligemma", "video")
]


@pytest.mark.parametrize("camera_towers", ["shared", "apart"])
@pytest.mark.parametrize("num_cameras", [2, 3])
def test_each_camera_matters_and_in_its_place(camera_towers: str, num_cameras: int) -> None:
    model = make_model(num_cameras=num_cameras, camera_towers=camera_towers)
    batch = make_batch(num_cameras=num_cameras)
    answer = model.predict(batch)

    for camera in range(num_cameras):
        images = batch.images_BTVCYX.clone()
        images[:, :, camera] = 255 - images[:, :, camera]
        assert not torch.allclose(model.predict(replace(batch, images_BTVCYX=images)), answer)
    swapped = replace(batch, images_BTVCYX=batch.images_BTVCYX.flip(2))
    assert not torch.allclose(model.predict(swapped), answer)


def test_towers_apart_have_weights_of_their_own() -> None:
    def convolutions(num_cameras: int, camera_towers: str) -> int:
        model = make_model(num_cameras=num_cameras, camera_towers=camera_towers)
        return sum(p.numel() for name, p in model.named_parameters() if "convolutions" in name)

    assert convolutions(3, "shared") == convolutions(1, "shared")
    assert convolutions(3, "apart") == 3 * convolutions(1, "shared")
    with pytest.raises(ConfigError, match="camera_towers=apart: has no effect, as the policy sees one camera"):
        make_model(num_cameras=1, camera_towers="apart")


def test_towers_apart_that_are_equal_are_a_shared_one() -> None:
    shared, apart = (make_model(num_cameras=2, camera_towers=towers) for towers in ("shared", "apart"))
    weights = shared.state_dict()
    own = {
        name.replace("convolutions.", "convolutions_apart.0."): t
        for name, t in weights.items()
        if "convolutions." in name
    }
    apart.load_state_dict(weights | own)
    batch = make_batch(num_cameras=2)

    torch.testing.assert_close(apart.predict(batch), shared.predict(batch))


def test_images_lie_camera_by_camera_or_frame_by_frame_and_give_the_same() -> None:
    model, batch = make_model(num_cameras=2), make_batch(num_cameras=2)
    by_camera = batch.images_BTVCYX.permute(2, 0, 1, 4, 5, 3).contiguous().permute(1, 2, 0, 5, 3, 4)
    assert by_camera.stride() != batch.images_BTVCYX.stride()

    torch.testing.assert_close(model.predict(replace(batch, images_BTVCYX=by_camera)), model.predict(batch))


@pytest.mark.parametrize(("name", "structure"), STRUCTURES)
def test_a_pretrained_model_gets_every_camera_of_a_frame(name: str, structure: Any, vlms: Path) -> None:
    backbone, batch = make_backbone(vlms / name, structure=structure, num_cameras=2), windows(num_cameras=2)
    found = features(backbone, batch)

    assert found.shape == (3, 4, backbone.feature_dim)
    with torch.no_grad():
        alone = [
            backbone(batch.images_BTVCYX[i : i + 1], batch.history_BT[i : i + 1], batch.instruction[i : i + 1])
            for i in range(3)
        ]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-5)
    for camera in range(2):
        images = batch.images_BTVCYX.clone()
        images[:, 2, camera] = 255 - images[:, 2, camera]
        changed = features(backbone, batch, images=images)
        is_other_T = (changed - found).abs().amax((0, 2)) > 1e-5
        # In a window's prompt the frames after it see it, and none before it.
        assert is_other_T.tolist() == [False, False, True, structure == "video"]
    swapped = features(backbone, batch, images=batch.images_BTVCYX.flip(2))
    assert not torch.allclose(swapped[1], found[1], atol=1e-5)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_prompt_has_the_places_of_two_images(name: str, vlms: Path) -> None:
    settings = read_settings(str(vlms / name))
    family = find_family(settings.config)(settings.config, settings.tokenizer, settings.processor)
    size = family.preprocessing((28, 28)).size
    one, two = (family.frame_ids(size, num_cameras=count) for count in (1, 2))
    place = settings.config.image_token_id

    assert two.count(place) == 2 * one.count(place)
    if name == "paligemma":
        assert two == [*one[:-1], *one]  # a single <bos>, after the images
    else:
        assert two == one * 2


def test_a_model_of_one_image_refuses_a_second_camera(vlms: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.cameras: 2 cameras, and Kosmos2 takes one image in a prompt"):
        make_backbone(vlms / "kosmos2", num_cameras=2)


def test_frames_are_encoded_in_parts_without_a_difference(vlms: Path) -> None:
    batch = windows(num_cameras=2)
    whole, parts = (
        features(make_backbone(vlms / "llava", num_cameras=2, frames_at_once=count), batch) for count in (64, 3)
    )

    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)
