"""Readers of windows with cached features in place of images: a frozen backbone then costs no time in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.augmentation.pipeline import Augment, Pipeline
from mobile_vla.data.batches import Reader, Targets, WindowReader
from mobile_vla.data.dataset import OpenDataset
from mobile_vla.errors import ConfigError
from mobile_vla.features.store import FeatureStore, open_features
from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch, WindowTable
from mobile_vla.streams import Stream


class FeatureReader:
    """A reader like ``WindowReader`` that returns the features of the recorded frames in place of the images."""

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
    """An augmentation that replaces each window of a batch by a random one of its episode's augmented variants."""

    def __init__(self, reader: WindowReader, store: FeatureStore, stream: Stream) -> None:
        self._reader = reader
        self._store = store
        self._stream = stream

    def __call__(self, batch: Batch, *, step: int) -> Batch:
        """Return ``batch`` with the features, actions, states and scenarios of the variants drawn for ``step``."""
        # From 1: variant 0, the recorded frames, is not an augmented one.
        variant_B = self._stream.at(step).integers(1, len(self._store.features_VFD), len(batch))
        rows_BT, _ = self._reader.frame_rows(batch.window_ids)
        features_BTD = torch.from_numpy(self._store.features_VFD[variant_B[:, None], rows_BT])
        _, mask_BTK = self._reader.targets(batch.window_ids)
        # Targets that do not exist would lie after the episode's last row: row 0 is read for them, and masked below.
        rows_BTK = np.where(mask_BTK, rows_BT[..., None] + np.arange(mask_BTK.shape[-1]), 0)
        actions_BTKA = self._store.actions_VFA[variant_B[:, None, None], rows_BTK] * mask_BTK[..., None]
        state_BTS = batch.state_BTS
        if self._store.states_VFS is not None:
            variant_states = torch.from_numpy(self._store.states_VFS[variant_B[:, None], rows_BT]).to(state_BTS.device)
            state_BTS = variant_states * batch.history_BT[..., None]
        windows, device = self._reader.windows, batch.actions_BTKA.device
        episodes = [windows.episode_names[e] for e in windows.episode[batch.window_ids]]
        return replace(
            batch,
            features_BTD=features_BTD.to(device),
            actions_BTKA=torch.from_numpy(actions_BTKA).to(device),
            state_BTS=state_BTS,
            scenario=tuple(self._store.scenarios[v][name] for v, name in zip(variant_B, episodes, strict=True)),
        )


def check_variants(model: Model, augment: Pipeline) -> None:
    """Raise ``ConfigError`` if the cached features and the augmentation do not fit together."""
    num_variants, key = model.backbone.cached_variants, "model.backbone.tuning.cached_variants"
    if model.backbone.feature_key is not None and augment.transforms and not num_variants:
        raise ConfigError(
            f"augmentation: {', '.join(augment.transforms)} would change images at every step, and a frozen backbone's "
            f"features are computed once. Say how many augmented variants of each episode to compute ({key}=8), or "
            "leave the augmentation out (augmentation=none)."
        )
    if num_variants and (model.backbone.feature_key is None or not augment.transforms):
        reason = "there is no augmentation" if not augment.transforms else "the backbone has no features to cache"
        raise ConfigError(f"{key}={num_variants}: has no effect, as {reason}; expected 0")


def feature_warnings(model: Model) -> list[str]:
    """Return a warning if a frozen backbone computes the same features again at every step."""
    backbone = model.backbone
    if backbone.learns or backbone.feature_key is not None:
        return []
    return [
        "the backbone is frozen, but its features are computed again at every step, because they cannot be cached: its "
        "feature_key is None (of a pretrained model: in structure=video; structure=frame computes them once)"
    ]


def with_features(
    model: Model, data: OpenDataset, augment: Pipeline, *, split_seed: int, cache_dir: Path
) -> tuple[Mapping[str, Reader], Augment]:
    """Return the readers and the augmentation for training; with a frozen backbone they use cached features.

    The augmented variants are drawn with the split's seed, so that all runs on a split share one cache. The variant
    that a window gets is drawn with the run's seed. If the features cannot be cached, the readers of ``data`` and
    ``augment`` are returned unchanged.
    """
    if model.backbone.feature_key is None:
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
