"""The cache on disk of a frozen backbone's features, computed once for every frame of a data set."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.data.dataset import OpenDataset
from mobile_vla.policy.model import Model
from mobile_vla.process.progress_bar import track
from mobile_vla.schema import Batch
from mobile_vla.storage.build_once import build_once, check_free_space
from mobile_vla.storage.disk import allocate

CACHE_VERSION = 1
"""Part of every cache key: increase it if a change of the code gives other features for the same settings."""


@dataclass(frozen=True, kw_only=True)
class FeatureStore:
    """Features [V, F, D] of all frames of a data set, memory-mapped, with the actions and scenarios of V variants.

    Variant 0 is as recorded. The others are augmented, with one draw for each episode, and have only the train
    episodes. ``actions_VFA`` are in physical units; ``scenarios`` maps each episode of a variant to its scenario, which
    the augmentation may have changed. ``states_VFS`` are the states of the variants, in memory; None without variants
    or without state.
    """

    features_VFD: NDArray[np.float32]
    actions_VFA: NDArray[np.float32]
    scenarios: Sequence[Mapping[str, str]]
    states_VFS: NDArray[np.float32] | None = None


def open_features(
    model: Model, data: OpenDataset, *, key: str, augment: Pipeline, num_variants: int, cache_dir: Path
) -> FeatureStore:
    """Return the features of all frames of ``data``; compute them first if they are not in the cache.

    ``key`` identifies the backbone. ``augment`` makes ``num_variants`` variants of each train episode. Several runs
    that start together compute the features only once.
    """
    texts = [(name, data.episodes[name].instruction) for name in sorted(data.episodes)]
    augmented = [num_variants, repr(augment.transforms), repr(augment.stream), data.split.hash] if num_variants else []
    # The folder name of the frames contains a digest of the episode files and of the image settings.
    content = json.dumps([CACHE_VERSION, data.frames.key, list(data.spec.action_names), key, texts, augmented])
    digest = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    num_rows = (1 + num_variants, _num_frames(data))
    shapes = {"features.f4": (*num_rows, model.backbone.feature_dim), "actions.f4": (*num_rows, len(data.spec.actions))}
    folder = build_once(
        cache_dir / f"features-{digest}", partial(_build, shapes=shapes, model=model, data=data, augment=augment)
    )
    features, actions = (np.memmap(folder / name, np.float32, mode="r", shape=s) for name, s in shapes.items())
    scenarios = json.loads((folder / "scenarios.json").read_text())
    states = _variant_states(data, augment, num_rows) if num_variants and data.spec.state else None
    return FeatureStore(features_VFD=features, actions_VFA=actions, scenarios=scenarios, states_VFS=states)


@torch.no_grad()
def _build(
    folder: Path, *, shapes: Mapping[str, tuple[int, ...]], model: Model, data: OpenDataset, augment: Pipeline
) -> None:
    num_bytes = 4 * sum(map(math.prod, shapes.values()))  # float32
    check_free_space(folder, num_bytes, what="the features", remedy="lower model.backbone.tuning.cached_variants")
    for name, shape in shapes.items():
        allocate(folder / name, 4 * math.prod(shape))
    features_VFD, actions_VFA = (
        np.memmap(folder / name, np.float32, mode="r+", shape=shape) for name, shape in shapes.items()
    )
    was_training = model.training
    model.eval()
    scenarios: list[dict[str, str]] = [{} for _ in features_VFD]
    for number, (variant, name) in enumerate(track(_jobs(data, len(features_VFD)), description="computing features")):
        batch = _episode_batch(data, name).to(model.normalizer.std_A.device)
        if variant:
            batch = augment(batch, step=number)  # numbered by job: every episode of every variant has its own draw
        rows = slice(data.frames.first_row[name], data.frames.first_row[name] + batch.history_BT.shape[1])
        features_VFD[variant, rows] = _encode(model, batch)
        actions_VFA[variant, rows] = batch.actions_BTKA[0, :, 0].cpu().numpy()
        scenarios[variant][name] = batch.scenario[0]
    model.train(was_training)
    features_VFD.flush()
    actions_VFA.flush()
    (folder / "scenarios.json").write_text(json.dumps(scenarios))


def _jobs(data: OpenDataset, num_variants: int) -> list[tuple[int, str]]:
    """Return (variant, episode) of all episodes as recorded, then of the train episodes of each augmented variant."""
    train = data.split.train
    return [(0, name) for name in data.episodes] + [(v, name) for v in range(1, num_variants) for name in train]


def _variant_states(data: OpenDataset, augment: Pipeline, num_rows: tuple[int, int]) -> NDArray[np.float32]:
    """Return the states [V, F, S] of all variants, augmented by the same draws as the cached features.

    They are computed again in each run, because the cache is valid whatever the state is: on images of one pixel the
    augmentation takes about a millisecond for an episode.
    """
    states_VFS = np.zeros((*num_rows, len(data.spec.state)), np.float32)
    for number, (variant, name) in enumerate(_jobs(data, num_rows[0])):
        batch = _episode_batch(data, name, with_images=False)
        if variant:
            batch = augment(batch, step=number)
        first = data.frames.first_row[name]
        states_VFS[variant, first : first + batch.state_BTS.shape[1]] = batch.state_BTS[0].numpy()
    return states_VFS


def _num_frames(data: OpenDataset) -> int:
    return len(next(iter(data.frames.cameras.values())))


def _episode_batch(data: OpenDataset, name: str, *, with_images: bool = True) -> Batch:
    """Return a whole episode as one window [1, T] whose target at each frame is only that frame's action.

    With ``with_images`` False its images are one black pixel each.
    """
    episode, first = data.episodes[name], data.frames.first_row[name]
    rows = slice(first, first + episode.num_frames)
    cameras = data.frames.cameras.values()
    images_VTYXC = (
        np.stack([images_FYXC[rows] for images_FYXC in cameras])
        if with_images
        else np.zeros((len(cameras), episode.num_frames, 1, 1, 3), np.uint8)
    )
    # Copies: arrays from the cache of recordings cannot be written, and torch warns about those.
    exists_1T = torch.ones(1, episode.num_frames, dtype=torch.bool)
    return Batch(
        images_BTVCYX=torch.from_numpy(images_VTYXC).permute(1, 0, 4, 2, 3)[None],
        history_BT=exists_1T,
        state_BTS=torch.from_numpy(episode.state.copy())[None],
        actions_BTKA=torch.from_numpy(episode.actions.copy())[None, :, None],
        mask_BTK=exists_1T[..., None],
        instruction=(episode.instruction,),
        scenario=(episode.scenario,),
        window_ids=np.zeros(1, np.int64),
    )


def _encode(model: Model, batch: Batch) -> NDArray[np.float32]:
    """Return the features [T, D] of an episode's frames, each encoded as a window of one frame."""
    frames_T1VCYX = batch.images_BTVCYX[0][:, None]
    exists_T1 = frames_T1VCYX.new_ones(len(frames_T1VCYX), 1, dtype=torch.bool)
    features_T1D = model.encode(frames_T1VCYX, exists_T1, batch.instruction * len(frames_T1VCYX))
    return features_T1D[:, 0].float().cpu().numpy()
