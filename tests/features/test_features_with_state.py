"""The features of a frozen backbone hold all cameras and no state: one cache serves every choice of the state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from made_rigs import rig
from tiny_runs import compose_config, run_in

from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.features.readers import with_features
from mobile_vla.run.build import Run, build_run
from mobile_vla.schema import Batch
from mobile_vla.streams import Stream

VARIANTS = ("augmentation=color_jitter", "model.backbone.tuning.cached_variants=2")


@dataclass(frozen=True)
class TurnState:
    """A transform that turns the sign of the state and of the actions in half of the windows, as a mirror may."""

    takes_bytes: ClassVar[bool] = True

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        sign_B = torch.from_numpy(np.where(stream.at(step).random(len(batch)) < 0.5, -1.0, 1.0)).float()
        return replace(
            batch,
            state_BTS=batch.state_BTS * sign_B[:, None, None],
            actions_BTKA=batch.actions_BTKA * sign_B[:, None, None, None],
        )


def frozen(vlms: Path, cache: Path, *more: str) -> tuple[str, ...]:
    shared = [o for o in rig("Rig", cache) if not o.startswith(("model.backbone", "model.head"))]
    return (
        *shared,
        *("model=pretrained", f"model.backbone.weights={vlms / 'smolvlm'}", "model.backbone.dtype=fp32"),
        *("model/backbone/tuning=frozen", "model.head.history.hidden_dim=8", "evaluation.shortcuts=false", *more),
    )


def opened(run: Run, cache: Path):
    return with_features(run.model, run.data, run.augment, split_seed=run.dataset.split_seed, cache_dir=cache)


def test_cached_features_with_state_are_the_computed_ones(vlms: Path, tmp_path: Path) -> None:
    run = build_run(compose_config(frozen(vlms, tmp_path, "model.state=all")))
    readers, _ = opened(run, tmp_path)

    for part, reader in readers.items():
        ids = np.arange(len(reader.windows))
        cached, computed = reader.gather(ids), run.data.readers[part].gather(ids)
        assert cached.images_BTVCYX.shape == (*cached.history_BT.shape, 2, 3, 0, 0)
        assert torch.equal(cached.state_BTS, computed.state_BTS)
        with torch.no_grad():
            found, expected = run.model(cached), run.model(computed)
        torch.testing.assert_close(found.loss_B, expected.loss_B, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.actions_BKA, expected.actions_BKA, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("more", [(), VARIANTS], ids=["as recorded", "variants"])
def test_one_cache_serves_every_choice_of_the_state_and_one_for_each_choice_of_cameras(
    more: tuple[str, ...], vlms: Path, tmp_path: Path
) -> None:
    for state in ("none", "all", "[joint_2]"):
        opened(build_run(compose_config(frozen(vlms, tmp_path, *more, f"model.state={state}"))), tmp_path)
    assert len(list(tmp_path.glob("features-*"))) == 2  # the folder and its lock

    opened(build_run(compose_config(frozen(vlms, tmp_path, *more, "dataset.cameras=[wrist]"))), tmp_path)
    assert len(list(tmp_path.glob("features-*"))) == 4


def test_the_state_of_a_variant_is_changed_with_its_actions(vlms: Path, tmp_path: Path) -> None:
    run = build_run(compose_config(frozen(vlms, tmp_path, *VARIANTS, "model.state=all")))
    run = replace(run, augment=Pipeline(transforms={"turn": TurnState()}, stream=run.augment.stream))
    readers, draw = opened(run, tmp_path)
    plain = readers["train"].gather(np.arange(len(readers["train"].windows)))

    drawn = draw(plain, step=0)

    turned_B = (drawn.state_BTS == -plain.state_BTS).all(2).all(1)
    kept_B = (drawn.state_BTS == plain.state_BTS).all(2).all(1)
    assert (turned_B ^ kept_B).all()
    assert turned_B.any()
    assert kept_B.any()
    sign_B = torch.where(turned_B, -1.0, 1.0)
    assert torch.equal(drawn.actions_BTKA, plain.actions_BTKA * sign_B[:, None, None, None])


def test_a_run_on_cached_features_with_state_resumes_exactly(vlms: Path, tmp_path: Path) -> None:
    overrides = frozen(vlms, tmp_path, *VARIANTS, "model.state=all")
    whole = run_in(tmp_path / "whole", *overrides)
    stopped = run_in(tmp_path / "stopped", *overrides, "trainer.stop_at_step=2")
    resumed = run_in(stopped.folder, f"resume={stopped.folder}", "trust=[made_rigs.Rig]")

    assert whole.exit_code == stopped.exit_code == resumed.exit_code == 0, whole.message + resumed.message
    assert whole.timeless_rows == resumed.timeless_rows
