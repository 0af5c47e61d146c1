"""Compute what a frozen backbone makes of every frame once, so that training costs as much as a head does."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.augmentation.pipeline import Augment, Pipeline
from mobile_vla.data.batches import Reader, Targets, WindowReader
from mobile_vla.data.build_once import build_once, check_free_space
from mobile_vla.data.dataset import OpenDataset
from mobile_vla.disk import allocate
from mobile_vla.errors import ConfigError
from mobile_vla.policy.model import Model
from mobile_vla.policy.weights import Pretrained
from mobile_vla.progress import track
from mobile_vla.schema import Batch, WindowTable
from mobile_vla.streams import Stream

CACHE_VERSION = 1
"""Part of every cache key: raise it when the same settings give other features."""


@dataclass(frozen=True, kw_only=True)
class FeatureStore:
    """Features [V, F, D] of all frames of a data set, memory-mapped, and what changed with them.

    Variant 0 is as recorded; the others are augmented, each episode by one draw, and hold the train episodes alone.
    ``actions_VFA`` are physical units; ``scenarios`` maps the episodes of each variant to what their scenario became.
    """

    features_VFD: NDArray[np.float32]
    actions_VFA: NDArray[np.float32]
    scenarios: Sequence[Mapping[str, str]]


class FeatureReader:
    """Reads windows like ``WindowReader``, with the features of their frames as recorded in place of the images."""

    def __init__(self, reader: WindowReader, store: FeatureStore) -> None:
        self.windows: WindowTable = reader.windows
        self._reader = reader
        self._features_FD = store.features_VFD[0]

    def gather(self, ids: NDArray[np.int64]) -> Batch:
        """Return the windows ``ids`` [B] as one batch on the CPU."""
        batch = self._reader.gather(ids, with_images=False)
        rows_BT, _ = self._reader.frame_rows(ids)
        return replace(batch, features_BTD=torch.from_numpy(self._features_FD[rows_BT]))

    def targets(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See ``WindowReader``."""
        return self._reader.targets(ids)

    def current_targets(self) -> Targets:
        """See ``WindowReader``."""
        return self._reader.current_targets()


class DrawVariant:
    """Stands for the augmentation: gives each window of a batch one of its episode's augmented variants, at random."""

    def __init__(self, reader: WindowReader, store: FeatureStore, stream: Stream) -> None:
        self._reader = reader
        self._store = store
        self._stream = stream

    def __call__(self, batch: Batch, *, step: int) -> Batch:
        """Return ``batch`` with what the drawn variants changed; the same step gives the same draw."""
        variant_B = self._stream.at(step).integers(1, len(self._store.features_VFD), len(batch))
        rows_BT, _ = self._reader.frame_rows(batch.window_ids)
        features_BTD = torch.from_numpy(self._store.features_VFD[variant_B[:, None], rows_BT])
        _, mask_BTK = self._reader.targets(batch.window_ids)
        rows_BTK = np.where(mask_BTK, rows_BT[..., None] + np.arange(mask_BTK.shape[-1]), 0)
        actions_BTKA = self._store.actions_VFA[variant_B[:, None, None], rows_BTK] * mask_BTK[..., None]
        windows, device = self._reader.windows, batch.actions_BTKA.device
        episodes = [windows.episode_names[e] for e in windows.episode[batch.window_ids]]
        return replace(
            batch,
            features_BTD=features_BTD.to(device),
            actions_BTKA=torch.from_numpy(actions_BTKA).to(device),
            scenario=tuple(self._store.scenarios[v][name] for v, name in zip(variant_B, episodes, strict=True)),
        )


def check_variants(model: Model, augment: Pipeline) -> None:
    """Raise ``ConfigError`` where cached features and augmentation do not fit each other."""
    if not isinstance(model.backbone, Pretrained):
        return
    num_variants, key = model.backbone.cached_variants, "model.backbone.tuning.cached_variants"
    if model.backbone.feature_key is not None and augment.transforms and not num_variants:
        raise ConfigError(
            f"augmentation: {', '.join(augment.transforms)} would change images at every step, and a frozen backbone's "
            f"features are computed once. Say how many augmented variants of each episode to compute ({key}=8), or "
            "leave the augmentation out (augmentation=none)."
        )
    if num_variants and (model.backbone.feature_key is None or not augment.transforms):
        reason = "there is no augmentation" if not augment.transforms else "structure=video has no features to cache"
        raise ConfigError(f"{key}={num_variants}: has no effect, as {reason}; expected 0")


def feature_warnings(model: Model) -> list[str]:
    """Say where a frozen backbone is asked again and again for what it said before."""
    backbone = model.backbone
    if not isinstance(backbone, Pretrained) or backbone.learns or backbone.feature_key is not None:
        return []
    return [
        "the backbone is frozen and its features are computed anew at every step: in structure=video they belong to a "
        "window, not to a frame. structure=frame computes them once"
    ]


def with_features(
    model: Model, data: OpenDataset, augment: Pipeline, *, split_seed: int, cache_dir: Path
) -> tuple[Mapping[str, Reader], Augment]:
    """Return the readers and the augmentation to train with: on cached features where the backbone is frozen.

    The augmented variants come from the split's own seed, so that all runs on a split share them; which of them a
    window is given comes from the run's. A model whose features change is given what ``data`` and ``augment`` are.
    """
    if not isinstance(model.backbone, Pretrained) or model.backbone.feature_key is None:
        return data.readers, augment
    store = open_features(
        model,
        data,
        key=model.backbone.feature_key,
        augment=Pipeline(transforms=augment.transforms, stream=Stream(split_seed, "variants")),
        num_variants=model.backbone.cached_variants,
        cache_dir=cache_dir,
    )
    readers = {part: FeatureReader(reader, store) for part, reader in data.readers.items()}
    if not augment.transforms:
        return readers, augment
    return readers, DrawVariant(data.readers["train"], store, augment.stream.child("variant"))


def open_features(
    model: Model, data: OpenDataset, *, key: str, augment: Pipeline, num_variants: int, cache_dir: Path
) -> FeatureStore:
    """Return the features of all frames of ``data``, computing them first where the cache lacks them.

    ``key`` tells the backbone from others. ``augment`` makes ``num_variants`` variants of each train episode. Several
    runs that start together compute everything once.
    """
    texts = [(name, data.episodes[name].instruction) for name in sorted(data.episodes)]
    augmented = [num_variants, repr(augment.transforms), repr(augment.stream), data.split.hash] if num_variants else []
    content = json.dumps([CACHE_VERSION, data.frames.folder.name, list(data.action_names), key, texts, augmented])
    digest = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    num_rows = (1 + num_variants, len(data.frames.images_FYXC))
    shapes = {"features.f4": (*num_rows, model.backbone.feature_dim), "actions.f4": (*num_rows, len(data.action_names))}
    folder = build_once(
        cache_dir / f"features-{digest}", partial(_build, shapes=shapes, model=model, data=data, augment=augment)
    )
    features, actions = (np.memmap(folder / name, np.float32, mode="r", shape=s) for name, s in shapes.items())
    scenarios = json.loads((folder / "scenarios.json").read_text())
    return FeatureStore(features_VFD=features, actions_VFA=actions, scenarios=scenarios)


@torch.no_grad()
def _build(
    folder: Path, *, shapes: Mapping[str, tuple[int, ...]], model: Model, data: OpenDataset, augment: Pipeline
) -> None:
    num_bytes = 4 * sum(map(math.prod, shapes.values()))
    check_free_space(folder, num_bytes, what="the features", remedy="lower model.backbone.tuning.cached_variants")
    for name, shape in shapes.items():
        allocate(folder / name, 4 * math.prod(shape))
    features_VFD, actions_VFA = (
        np.memmap(folder / name, np.float32, mode="r+", shape=shape) for name, shape in shapes.items()
    )
    was_training = model.training
    model.eval()
    num_variants, train = len(features_VFD), data.split.train
    jobs = [(0, name) for name in data.episodes] + [(v, name) for v in range(1, num_variants) for name in train]
    scenarios: list[dict[str, str]] = [{} for _ in range(num_variants)]
    for number, (variant, name) in enumerate(track(jobs, description="computing features")):
        batch = _episode_batch(data, name).to(model.normalizer.std_A.device)
        if variant:
            batch = augment(batch, step=number)
        rows = slice(data.frames.first_row[name], data.frames.first_row[name] + batch.history_BT.shape[1])
        features_VFD[variant, rows] = _encode(model, batch)
        actions_VFA[variant, rows] = batch.actions_BTKA[0, :, 0].cpu().numpy()
        scenarios[variant][name] = batch.scenario[0]
    model.train(was_training)
    features_VFD.flush()
    actions_VFA.flush()
    (folder / "scenarios.json").write_text(json.dumps(scenarios))


def _episode_batch(data: OpenDataset, name: str) -> Batch:
    """Return a whole episode as one window [1, T] that predicts each frame's own action alone."""
    episode, first = data.episodes[name], data.frames.first_row[name]
    images_TYXC = np.array(data.frames.images_FYXC[first : first + episode.num_frames])
    exists_1T = torch.ones(1, episode.num_frames, dtype=torch.bool)
    return Batch(
        images_BTCYX=torch.from_numpy(images_TYXC).permute(0, 3, 1, 2)[None],
        history_BT=exists_1T,
        actions_BTKA=torch.from_numpy(episode.actions_of(data.action_names))[None, :, None],
        mask_BTK=exists_1T[..., None],
        instruction=(episode.instruction,),
        scenario=(episode.scenario,),
        window_ids=np.zeros(1, np.int64),
    )


def _encode(model: Model, batch: Batch) -> NDArray[np.float32]:
    """Return the features [T, D] of an episode's frames, each encoded by itself."""
    frames_T1CYX = batch.images_BTCYX[0][:, None]
    exists_T1 = frames_T1CYX.new_ones(len(frames_T1CYX), 1, dtype=torch.bool)
    features_T1D = model.encode(frames_T1CYX, exists_T1, batch.instruction * len(frames_T1CYX))
    return features_T1D[:, 0].float().cpu().numpy()
