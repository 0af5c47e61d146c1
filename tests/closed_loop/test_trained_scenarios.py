"""Laws of what a policy's episodes show of the world: read from the data, kept as JSON, refused where it is none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import compose_config

from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.data.dataset import OpenDataset
from mobile_vla.data.episode_writer import write_episode
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.run.build import build_dataset
from mobile_vla.sim.scene import Scenario

HELD_OUT = "2box_vert_left_variant_far"


def opened(tiny: tuple[str, ...], *overrides: str) -> OpenDataset:
    return build_dataset(compose_config([*tiny, *overrides])).open()


def test_scenarios_and_image_size_come_from_the_episodes(tiny: tuple[str, ...]) -> None:
    world = TrainedScenarios.of(opened(tiny, "dataset.unseen=[2box_vert_left]"))
    assert world.image_size == 16
    assert {scenario.name for scenario in world.trained} == {"1box_hori_left_core_close", "1box_hori_right_core_medium"}
    assert [scenario.name for scenario in world.held_out] == [HELD_OUT]
    assert world.held_out[0] == Scenario(num_boxes=2, layout="vert", side="left", placement="variant", distance="far")


def test_nothing_held_out_is_an_empty_list(tiny: tuple[str, ...]) -> None:
    world = TrainedScenarios.of(opened(tiny))
    assert world.held_out == ()
    assert HELD_OUT in {scenario.name for scenario in world.trained}


def test_it_comes_back_from_json_as_it_was(tiny: tuple[str, ...]) -> None:
    world = TrainedScenarios.of(opened(tiny, "dataset.unseen=[2box_vert_left]"))
    assert TrainedScenarios.from_description(json.loads(json.dumps(world.described()))) == world


def test_a_policy_of_another_world_is_refused() -> None:
    with pytest.raises(UserError, match=r"not trained on recordings of the embedded world.*dataset\.world=sim"):
        TrainedScenarios.from_description(None)


@pytest.mark.parametrize("scenario", ["1box_diagonal_left_core_close", "walk"])
def test_names_that_are_no_scenarios_of_it_are_refused(
    tmp_path: Path, episodes: Path, tiny: tuple[str, ...], scenario: str
) -> None:
    folder = tmp_path / "episodes"
    shutil.copytree(episodes, folder)
    first = sorted(folder.glob("*.h5"))[0]
    first.rename(folder / f"episode_20251204_101000_{scenario}.h5")
    data = opened(tiny, f"dataset.path={folder}", f"dataset.cache_dir={tmp_path}")
    with pytest.raises(ConfigError, match=rf"{scenario}.*does not name a scenario.*dataset\.world=null"):
        TrainedScenarios.of(data)


def test_images_that_are_not_square_are_refused(tmp_path: Path, episodes: Path, tiny: tuple[str, ...]) -> None:
    folder = tmp_path / "episodes"
    shutil.copytree(episodes, folder)
    write_episode(
        folder / "episode_20251204_101300_1box_hori_left_core_close.h5",
        images_FYXC=np.zeros((9, 16, 20, 3), np.uint8),
        actions_FA=np.ones((9, 3), np.float32),
        instruction="Go to the left bottle",
    )
    data = opened(tiny, f"dataset.path={folder}", f"dataset.cache_dir={tmp_path}")
    with pytest.raises(ConfigError, match=r"\(16, 16\), \(16, 20\).*square and of one size"):
        TrainedScenarios.of(data)


@pytest.mark.parametrize("name", ["", "walk", "box_hori_left_core_close", "1box_hori_left_core", "1_2_3_4_5_6"])
def test_a_name_that_is_no_scenario_cannot_be_parsed(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Scenario.parse(name)
