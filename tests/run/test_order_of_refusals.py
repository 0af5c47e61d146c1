"""What refuses a data set does so before its frames are decoded, which can take an hour."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_bags import write_drive
from made_lerobot import write_v21
from tiny_runs import compose_config

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.run.build import build_dataset, build_run

REFUSED = {
    "missing episodes": ((), r"1 episode\(s\) are missing"),
    "a head that these actions do not fit": (
        ("dataset.on_bad_episode=skip", "model/head=classes"),
        r"model/head=classes: the classes are the signs",
    ),
    "no split": (("dataset.on_bad_episode=skip", "dataset.unseen=[nowhere]"), r"dataset\.unseen"),
    "no window": (("dataset.on_bad_episode=skip", "dataset.padding=none", "dataset.window_size=90"), "no episode has"),
    "unknown camera": (("dataset.on_bad_episode=skip", "dataset.cameras=[rear]"), r"dataset\.cameras: rear"),
    "unknown state": (("dataset.on_bad_episode=skip", "model.state=[torque]"), r"model\.state: torque"),
    "a mirror that nobody described": (("dataset.on_bad_episode=skip", "augmentation=mirror"), "mirror"),
}


def config_of(folder: Path, *overrides: str):
    common = ("dataset=auto", f"dataset.path={folder}", f"dataset.cache_dir={folder.parent / 'cache'}")
    return compose_config((*common, "dataset.val_fraction=0.5", *overrides))


@pytest.mark.parametrize("name", REFUSED)
def test_no_frame_is_decoded_before_a_refusal(tmp_path: Path, name: str) -> None:
    overrides, message = REFUSED[name]
    folder = write_v21(tmp_path / "set", lengths=(20, 21, 22, 23))
    (folder / "data/chunk-000/episode_000003.parquet").unlink()
    with pytest.raises(UserError, match=message):
        build_run(config_of(folder, *overrides))
    assert not list((tmp_path / "cache").glob("frames-*"))


def test_the_run_is_the_same_whether_the_frames_are_decoded_or_not(tmp_path: Path) -> None:
    for number in range(4):
        write_drive(tmp_path / "bags" / f"bag_{number}", num_frames=20)
    cfg = config_of(tmp_path / "bags")
    first, second = build_run(cfg), build_run(cfg)
    assert not build_dataset(cfg).looks_at_frames
    assert (first.data.data_hash, first.data.split) == (second.data.data_hash, second.data.split)
    for (name, mine), (_, theirs) in zip(
        first.model.state_dict().items(), second.model.state_dict().items(), strict=True
    ):
        assert mine.equal(theirs), name
    assert set(first.data.frames.cameras) == {"camera"}


class NoSide:
    """A backbone that does not say for which images it is made."""


def test_a_backbone_of_ones_own_without_an_image_size_is_told_which_option_gives_it() -> None:
    cfg = compose_config(("dataset=auto", "dataset.path=x"))
    cfg.model.backbone = {"_target_": f"{__name__}.NoSide", "_partial_": True}
    with pytest.raises(ConfigError, match=r"dataset\.image_size=auto: .*NoSide has no image_side.* Give dataset"):
        build_dataset(cfg)
