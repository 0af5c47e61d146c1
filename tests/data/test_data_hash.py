"""The data hash: what changes the targets changes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mobile_vla.data.data_hash import data_hash
from mobile_vla.schema import Episode
from mobile_vla.spec import NORMALISED, Camera, Signal, Spec, known_signal


def episode(name: str, **fields: str) -> Episode:
    return Episode(
        name=name,
        path=Path(name),
        num_frames=4,
        actions=np.zeros((4, 2), np.float32),
        state=np.zeros((4, 0), np.float32),
        instruction="Go",
        instruction_source="constant",
        similar_names=(),
        scenario="left",
        fields=fields,
        image_sizes=((8, 8),),
    )


def spec_of(*actions: Signal) -> Spec:
    return Spec(actions=actions, cameras=(Camera(name="front", rows=8, columns=8),))


BASE = spec_of(known_signal("linear_x"), known_signal("angular_z"))
CAR = spec_of(*(replace(signal, unit=NORMALISED) for signal in BASE.actions))
FETCH = "episode_20251204_101000_1box_hori_left_task_fetch"
EPISODES = (episode(FETCH, task="fetch"), episode("b"))


def hash_of(*episodes: Episode, spec: Spec = BASE) -> str:
    return data_hash(
        episodes or EPISODES,
        spec=spec,
        digests={FETCH: "0a", "b": "0b"},
        window_size=8,
        fwd_pred_next_n=10,
        padding="both",
    )


def test_labels_units_and_kinds_change_it() -> None:
    first, second = EPISODES
    moved = spec_of(replace(BASE.actions[0], kind="position", rest=None), BASE.actions[1])
    hashes = [
        hash_of(),
        hash_of(replace(first, fields={}), second),
        hash_of(replace(first, fields={"task": "bring"}), second),
        hash_of(first, replace(second, fields={"task": "fetch"})),
        hash_of(spec=moved),
        hash_of(spec=CAR),
        hash_of(spec=spec_of(replace(BASE.actions[0], unit="cm/s"), BASE.actions[1])),
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_mirror_does_not_change_the_targets() -> None:
    turned = spec_of(replace(BASE.actions[0], flips=True), BASE.actions[1])
    assert hash_of(spec=turned) == hash_of()
