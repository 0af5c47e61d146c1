"""A frozen backbone's features are computed once, and a run on them is the run that computes them at every step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import compose_config, run_in

from mobile_vla.data.batches import Reader
from mobile_vla.errors import ConfigError
from mobile_vla.features.readers import DrawVariant, with_features
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.run.build import Run, build_run


def frozen(vlms: Path, tiny: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return (
        *(override for override in tiny if not override.startswith("model.")),
        *("model=pretrained", f"model.backbone.weights={vlms / 'smolvlm'}", "model.backbone.dtype=fp32"),
        *("model/backbone/tuning=frozen", "model.head.history.hidden_dim=8", *more),
    )


def built(vlms: Path, tiny: tuple[str, ...], cache: Path, *more: str) -> Run:
    return build_run(compose_config(frozen(vlms, tiny, f"dataset.cache_dir={cache}", *more)))


def opened(run: Run, cache: Path):
    return with_features(run.model, run.data, run.augment, split_seed=run.dataset.split_seed, cache_dir=cache)


def test_cached_features_are_the_computed_ones(vlms: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    run = built(vlms, tiny, tmp_path)
    readers, augment = opened(run, tmp_path)
    assert augment is run.augment

    for part, reader in readers.items():
        ids = np.arange(len(reader.windows))
        cached, computed = reader.gather(ids), run.data.readers[part].gather(ids)
        assert cached.images_BTVCYX.numel() == 0
        with torch.no_grad():
            found, expected = run.model(cached), run.model(computed)
        torch.testing.assert_close(found.loss_B, expected.loss_B, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.actions_BKA, expected.actions_BKA, atol=1e-5, rtol=1e-5)


def test_features_are_computed_once_for_all_seeds(vlms: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    first, other_seed = built(vlms, tiny, tmp_path), built(vlms, tiny, tmp_path, "seed=3")
    opened(first, tmp_path)
    for parameter in other_seed.model.backbone.parameters():  # pyright: ignore[reportAttributeAccessIssue]
        parameter.data.fill_(torch.nan)
    readers, _ = opened(other_seed, tmp_path)

    assert len(list(tmp_path.glob("features-*"))) == 2  # the folder and its lock
    assert all(torch.isfinite(features_of(reader, [0, 1])).all() for reader in readers.values())


def features_of(reader: Reader, ids: list[int]) -> torch.Tensor:
    found = reader.gather(np.array(ids)).features_BTD
    assert found is not None
    return found


def test_variants_are_what_the_augmentation_makes_of_whole_episodes(
    vlms: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    more = ("augmentation=mirror", "augmentation.transforms.mirror.probability=1", "dataset.padding=both")
    run = built(vlms, tiny, tmp_path, *more, "model.backbone.tuning.cached_variants=2")
    readers, draw = opened(run, tmp_path)
    assert isinstance(draw, DrawVariant)
    plain = readers["train"].gather(np.arange(12))

    drawn, mirrored = draw(plain, step=5), run.augment(run.data.readers["train"].gather(np.arange(12)), step=5)

    torch.testing.assert_close(drawn.actions_BTKA, mirrored.actions_BTKA)
    assert drawn.scenario == mirrored.scenario
    with torch.no_grad():
        expected = run.model.encode(mirrored.images_BTVCYX, mirrored.history_BT, mirrored.instruction)
    found = drawn.features_BTD
    assert found is not None
    torch.testing.assert_close(found[plain.history_BT], expected[plain.history_BT], atol=1e-5, rtol=1e-5)


def test_the_variant_of_a_window_is_a_function_of_the_step(vlms: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    run = built(vlms, tiny, tmp_path, "augmentation=color_jitter", "model.backbone.tuning.cached_variants=3")
    readers, draw = opened(run, tmp_path)
    batch = readers["train"].gather(np.arange(8))

    def features(step: int) -> torch.Tensor:
        found = draw(batch, step=step).features_BTD
        assert found is not None
        return found

    assert torch.equal(features(1), features(1))
    assert len({features(step).numpy().tobytes() for step in range(8)}) > 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("augmentation=color_jitter",), r"augmentation: color_jitter would change images at every step.*variants=8"),
        (
            ("model.backbone.tuning.cached_variants=2",),
            r"cached_variants=2: has no effect, as there is no augmentation",
        ),
        (
            ("model.backbone.tuning.cached_variants=2", "augmentation=all", "model.backbone.structure=video"),
            r"cached_variants=2: has no effect, as the backbone has no features",
        ),
    ],
)
def test_augmentation_and_cache_must_fit(
    more: tuple[str, ...], message: str, vlms: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        built(vlms, tiny, tmp_path, *more)


def test_a_run_on_cached_features_resumes_exactly(vlms: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    overrides = frozen(vlms, tiny, "augmentation=all", "model.backbone.tuning.cached_variants=2")
    whole = run_in(tmp_path / "whole", *overrides)
    stopped = run_in(tmp_path / "stopped", *overrides, "trainer.stop_at_step=2")
    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert whole.exit_code == stopped.exit_code == resumed.exit_code == 0, whole.message
    assert whole.timeless_rows == resumed.timeless_rows
    assert not (find_checkpoint(whole.folder) / "adapter").exists()


def test_features_that_do_not_fit_on_the_disk_are_an_error(
    vlms: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = built(vlms, tiny, tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())

    with pytest.raises(ConfigError, match=r"the features need .* are free"):
        opened(run, tmp_path)
