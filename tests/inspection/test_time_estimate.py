"""The estimate of a run's time rests on the run's own steps and on an episode of median length, and says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from made_episodes import actions, images, write_h5
from omegaconf import DictConfig
from tiny_runs import SMALLEST_MODEL, compose_config

from mobile_vla.data.dataset import Dataset, OpenDataset, Scan
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.inspection.decoding_speed import decoding_speed
from mobile_vla.inspection.first_comparison import num_seeds, open_for_report
from mobile_vla.inspection.time_estimate import TimeEstimate, estimate_time
from mobile_vla.installation import CONF
from mobile_vla.training.loop import take_step

LENGTHS = (12, 14, 20, 30, 60)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes whose lengths, in the order of their names, are LENGTHS; the middle one has 20 frames."""
    folder = tmp_path_factory.mktemp("lengths")
    for number, length in enumerate(LENGTHS):
        write_h5(
            folder / f"run_{number}.h5",
            images=images(length, seed=number),
            actions=actions(length, seed=number, num_columns=3),
        )
    return folder


def opened(folder: Path, cache: Path, *overrides: str) -> tuple[DictConfig, Dataset, Scan, OpenDataset]:
    cfg = compose_config(
        [
            "dataset=auto",
            f"dataset.path={folder}",
            f"dataset.cache_dir={cache}",
            "dataset.image_size=16",
            *SMALLEST_MODEL,
            "trainer.steps=100",
            "trainer.eval_every=50",
            "trainer.batch_size=8",
            "trainer.device=cpu",
            *overrides,
        ]
    )
    return cfg, *open_for_report(cfg)


def estimated(folder: Path, cache: Path, *overrides: str) -> TimeEstimate:
    found = estimate_time(*opened(folder, cache, *overrides))
    assert found is not None
    return found


@pytest.mark.parametrize("overrides", [(), ("trainer.precision=bf16", "trainer.micro_batch_size=2")])
def test_the_steps_are_those_of_the_run_and_the_sentence_says_what_it_rests_on(
    recordings: Path, tmp_path: Path, overrides: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int | None, bool]] = []

    def spied(state, parts, trainer, **given):  # the real step, seen from outside
        seen.append((trainer.precision, trainer.micro_batch_size, bool(parts.augment.transforms)))
        return take_step(state, parts, trainer, **given)

    monkeypatch.setattr("mobile_vla.inspection.time_estimate.take_step", spied)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()

    found = estimated(recordings, tmp_path, "augmentation=color_jitter", *overrides)

    assert set(seen) == {("bf16", 2, True) if overrides else ("fp32", None, True)}
    assert found.run_s > 0
    assert found.decode_s is not None
    precision = "bf16" if overrides else "fp32"
    assert re.search(rf"6 steps of 8 windows \({precision}, cpu\) on black images", found.sentence(10))
    assert "20 frames of run_2, of median length" in found.basis
    assert "Not counted: checkpoints, drives, and the extra passes of samplers" in found.basis
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_more_steps_and_evaluations_take_more_time(recordings: Path, tmp_path: Path) -> None:
    short, long = (estimated(recordings, tmp_path, f"trainer.steps={steps}").run_s for steps in (20, 20_000))
    assert long > 50 * short


def test_an_episode_that_cannot_be_decoded_is_passed_over_and_three_are_not(recordings: Path, tmp_path: Path) -> None:
    _, dataset, scan, _ = opened(recordings, tmp_path)
    assert scan.spec is not None
    cameras = scan.spec.camera_names

    def episode_measured(*gone: str) -> str:
        given = [replace(r, path=recordings / "gone.h5") if r.name in gone else r for r in scan.recordings.values()]
        return decoding_speed(scan.source, given, cameras=cameras, image=dataset.image).episode

    assert episode_measured() == "run_2"
    assert episode_measured("run_2") == "run_1"  # the next in length
    with pytest.raises(DataError, match=r"gone\.h5"):
        episode_measured("run_0", "run_1", "run_2")


def test_an_unknown_time_to_decode_is_said_with_its_cause(recordings: Path, tmp_path: Path) -> None:
    cfg, dataset, scan, data = opened(recordings, tmp_path)
    gone = {name: replace(r, path=r.path.with_name("gone.h5")) for name, r in scan.recordings.items()}
    found = estimate_time(cfg, dataset, replace(scan, recordings=gone), data)
    assert found is not None
    assert found.decode_s is None
    assert re.search(r"the time to decode the frames is unknown, because a try failed \(.*gone\.h5", found.sentence(2))


def test_a_model_that_cannot_be_built_is_not_passed_over(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.state=all: has no effect"):
        estimated(recordings, tmp_path, "model.state=all")


def test_frames_in_the_cache_need_no_time(recordings: Path, tmp_path: Path) -> None:
    cfg, dataset, scan, _ = opened(recordings, tmp_path)
    data = dataset.open(scan)
    found = estimate_time(cfg, dataset, scan, data)
    assert found is not None
    assert found.decode_s == 0
    assert "all frames are decoded already" in found.basis


def test_the_seeds_are_those_that_the_experiment_sweeps() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", ["experiment=my_data", "dataset.path=/recordings"], return_hydra_config=True)
    assert num_seeds() == len(cfg.hydra.sweeper.params.seed.split(","))
