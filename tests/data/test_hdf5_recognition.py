"""Check what ``auto`` takes from a convention that a file only looks like, and what it takes from the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_dataset, images, write_h5

from mobile_vla.data.dataset import Scan, summarise_problems
from mobile_vla.spec import known_signal

AUTO = ("dataset/layout=auto", "dataset.actions=all", "dataset.state=all")


def scan_of(folder: Path, *overrides: str, **keys: Any) -> Scan:
    """Return the scan of two files with ``keys``, under dataset=auto unless ``overrides`` say another layout."""
    (folder / "episodes").mkdir()
    for number in range(2):
        write_h5(folder / "episodes" / f"run_{number}.h5", **keys)
    return h5_dataset(folder / "episodes", *AUTO, *overrides).scan()


@pytest.mark.parametrize("place", ["images", "observations__images"])
@pytest.mark.parametrize("num_columns", [2, 3])
def test_columns_are_a_base_s_velocities_only_where_the_file_or_the_user_says_so(
    tmp_path: Path, place: str, num_columns: int
) -> None:
    content = {place: images(), "actions": actions(num_columns=num_columns) + 100}
    base = [known_signal(name) for name in ("linear_x", "linear_y", "angular_z")][:num_columns]
    for name, overrides, more, expected in (
        ("unknown", (), {}, [known_signal(f"action_{index}") for index in range(num_columns)]),
        ("collector", (), {"action_event_types": np.array([b"start"] * 4)}, base),
        ("flat", ("dataset/layout=flat",), {}, base),
        ("own", (f"dataset.layout.images.front={place.replace('__', '/')}",), {}, None),
    ):
        (tmp_path / name).mkdir()
        scan = scan_of(tmp_path / name, *overrides, **content, **more)
        assert scan.spec is not None
        found = list(scan.spec.actions)
        assert found == (expected or [known_signal(f"action_{index}") for index in range(num_columns)])
        is_unnamed = any("If they are a base's linear_x, linear_y" in warning for warning in scan.warnings)
        assert is_unnamed == (name in ("unknown", "own"))
    assert known_signal("action_0").unit is None


def test_names_that_the_file_states_need_no_advice(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", images=images(), actions=actions(num_columns=2))
    with h5py.File(path, "a") as file:
        file["actions"].attrs["names"] = ["x", "y"]
    scan = h5_dataset(path, *AUTO).scan()
    assert scan.spec is not None
    assert scan.spec.action_names == ("x", "y")
    assert not any("If they are" in warning for warning in scan.warnings)


@pytest.mark.parametrize("place", ["images", "observations__images"])
def test_what_the_user_states_beside_images_and_actions_is_used_too(tmp_path: Path, place: str) -> None:
    scan = scan_of(
        tmp_path,
        "dataset.layout.state=[observations/state]",
        "dataset.layout.instruction=[meta/prompt]",
        "dataset.layout.rate_hz=25",
        "dataset.layout.names.actions=[a,b,c,d]",
        "dataset.layout.signals.b.unit=rad",
        **{place: images(), "actions": actions(num_columns=4), "observations__state": np.ones((4, 2))},
        meta__prompt=b"stack the cubes",
    )
    assert scan.problems == []
    assert scan.spec is not None
    assert scan.spec.state_names == ("state_0", "state_1")
    assert [(s.name, s.unit) for s in scan.spec.actions] == [("a", None), ("b", "rad"), ("c", None), ("d", None)]
    assert scan.spec.rate_hz == 25
    assert {episode.instruction for episode in scan.episodes} == {"stack the cubes"}


@pytest.mark.parametrize(
    "override",
    [
        "dataset.layout.state=[nonsense]",
        "dataset.layout.actions=nonsense",
        "dataset.layout.images.front=nonsense",
        "dataset.layout.episodes=nonsense",
        "dataset.layout.cameras=[nonsense]",
    ],
)
@pytest.mark.parametrize("layout", ["auto", "nested"])
@pytest.mark.parametrize("num_columns", [1, 7])
def test_a_key_that_is_not_there_is_named(tmp_path: Path, override: str, layout: str, num_columns: int) -> None:
    scan = scan_of(
        tmp_path,
        f"dataset/layout={layout}",
        override,
        observations__images=images(),
        actions=actions(num_columns=num_columns),
        observations__state=np.ones((4, 2)),
    )
    assert scan.episodes == []
    assert "'nonsense'" in summarise_problems(scan.problems)
