"""Probes tell which of the state and the cameras a policy acts on, also where it copies its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_batches import make_model
from made_episodes import made_episode
from made_rigs import rig
from PIL import Image
from tiny_runs import Ran, run_in

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.frames import FrameStore
from mobile_vla.data.windows import build_windows
from mobile_vla.evaluation.shortcut_probes import UNCHANGED, run_probes
from mobile_vla.evaluation.shortcuts import judge
from mobile_vla.schema import Batch
from mobile_vla.streams import Stream

STATE_MEAN = np.array([1.0, 2.0], np.float32)
"""Of the train frames that ``make_model`` was fitted to."""


def reader_of(*, num_history: int = 4, cameras: Sequence[str] = ("front", "wrist")) -> WindowReader:
    """Return windows whose frames are (1 + number) in the front camera and (101 + number) in the wrist camera."""
    episodes = [
        replace(
            made_episode(index, num_frames=9),
            state=np.stack([np.arange(10.0, 19.0), np.full(9, 50 + index)], axis=1).astype(np.float32),
            image_sizes=((2, 2), (2, 2)),
        )
        for index in range(2)
    ]
    number_F = np.tile(np.arange(9), 2).astype(np.uint8)
    shape = {"window_size": num_history, "fwd_pred_next_n": 2}
    return WindowReader(
        windows=build_windows(episodes, **shape, padding="both"),
        episodes={episode.name: episode for episode in episodes},
        frames=FrameStore(
            cameras={
                name: np.broadcast_to(number_F[:, None, None, None] + first, (18, 2, 2, 3)).copy()
                for name, first in (("front", 1), ("wrist", 101))
                if name in cameras
            },
            first_row={episode.name: 9 * index for index, episode in enumerate(episodes)},
            key="made",
        ),
        **shape,
    )


def test_each_probe_changes_its_own_input_alone() -> None:
    shown: dict[str, Batch] = {}
    model = make_model(num_state=2, num_cameras=2)
    names = iter(range(1000))

    def remember(batch: Batch) -> torch.Tensor:
        shown[str(next(names))] = batch
        return torch.zeros(len(batch), 2, 2)

    model.predict = remember
    found = run_probes(model, reader_of(), batch_size=100, stream=Stream(0, "s"))
    by_probe = dict(zip(found, shown.values(), strict=True))
    plain, exists_BT = by_probe[UNCHANGED], by_probe[UNCHANGED].history_BT

    removed = by_probe["state_removed"]
    assert torch.equal(removed.state_BTS, torch.from_numpy(STATE_MEAN) * exists_BT[..., None])
    assert torch.equal(removed.images_BTVCYX, plain.images_BTVCYX)
    for index, camera in enumerate(("front", "wrist")):
        black = by_probe[f"camera_{camera}_black"]
        assert not black.images_BTVCYX[:, :, index].any()
        assert torch.equal(black.images_BTVCYX[:, :, 1 - index], plain.images_BTVCYX[:, :, 1 - index])
        assert torch.equal(black.state_BTS, plain.state_BTS)
    mean = by_probe["images_mean"].images_BTVCYX[exists_BT]
    assert (mean[:, 1].int() - mean[:, 0].int() == 100).all()  # each camera has its own mean frame
    cut, moved = by_probe["history_cut"], by_probe["position_shifted"]
    assert torch.equal(cut.state_BTS[:, -1], plain.state_BTS[:, -1])
    assert not cut.state_BTS[:, :-1].any()
    whole_B = exists_BT.all(1)
    assert torch.equal(moved.state_BTS[whole_B, :2], plain.state_BTS[whole_B, 2:])
    assert not moved.state_BTS[whole_B, 2:].any()
    for name in ("state_removed", "camera_front_black", "camera_wrist_black"):
        assert found[name].is_changed_N.all()


def test_a_policy_of_one_camera_and_no_state_has_no_such_probe() -> None:
    model = make_model()
    model.predict = lambda batch: torch.zeros(len(batch), 2, 2)
    found = run_probes(model, reader_of(cameras=["front"]), batch_size=100, stream=Stream(0, "s"))

    assert not [name for name in found if "state" in name or "camera" in name]


def test_the_verdict_names_state_and_spare_cameras() -> None:
    figures = {"shortcut/unchanged/rmse": 0.1, "shortcut/images_mean/rmse_change": 0.9} | {
        f"shortcut/{probe}/rmse_change": change
        for probe, change in (("state_removed", 0.5), ("camera_front_black", 0.01), ("camera_left_wrist_black", 0.4))
    }
    references = {"baseline/mean/rmse": 1.0, "baseline/scenario_time_lookup/rmse": 1.0}
    found = judge(figures, references)

    assert found["shortcut/verdict"] == (
        "was measured with one instruction only, uses the images, could do without the camera front, uses the state"
    )
    assert (found["shortcut/uses_state"], found["shortcut/uses_camera_front"]) == (1, 0)
    assert found["shortcut/uses_camera_left_wrist"] == 1
    ignored = judge(figures | {"shortcut/state_removed/rmse_change": 0.0}, references)
    assert "hardly uses the state" in str(ignored["shortcut/verdict"])


@pytest.fixture(scope="module", params=["CopiesState", "FollowsWrist"])
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Ran]:
    """A run that has learnt its task."""
    folder = tmp_path_factory.mktemp("rig")
    more = ("model.state=all", "trainer.steps=150", "trainer.eval_every=150", "trainer.batch_size=32")
    sizes = ("trainer.learning_rate=0.01", "model.backbone.feature_dim=16", "model.head.history.hidden_dim=16")
    horizon = ("dataset.fwd_pred_next_n=1", "model.state_dim=16", "model.backbone.channels=[8,8,8]")
    ran = run_in(folder / "run", *rig(request.param, folder, *more, *sizes, *horizon))
    assert ran.exit_code == 0, ran.message
    return request.param, ran


def test_a_policy_that_copies_its_state_is_told_from_one_that_looks(learnt: tuple[str, Ran]) -> None:
    task, ran = learnt
    copies = task == "CopiesState"
    found = ran.summary

    assert found["val/rmse"] < 0.7 * found["baseline/mean/rmse"], "else it has learnt nothing"
    assert (found["shortcut/uses_state"], found["shortcut/uses_images"]) == ((1, 0) if copies else (0, 1))
    assert found["shortcut/uses_camera_wrist"] == (not copies)
    assert found["shortcut/uses_camera_front"] == 0
    verdict = found["shortcut/verdict"]
    if copies:
        assert "hardly uses the images, uses the state" in verdict
        assert found["shortcut/state_removed/rmse"] > 2 * found["val/rmse"]
    else:
        assert "uses the images, could do without the camera front, hardly uses the state" in verdict


def test_the_hardest_windows_show_both_cameras(learnt: tuple[str, Ran]) -> None:
    pictures = sorted((learnt[1].folder / "hardest").iterdir())
    assert pictures
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size == (3 * 16, 2 * 16)
