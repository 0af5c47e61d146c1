"""Run a policy on the same windows several times, with one input removed or changed at a time (probes)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.augmentation.mirror import mirror_words
from mobile_vla.data.batches import WindowReader
from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch
from mobile_vla.spec import Spec
from mobile_vla.streams import Stream

PROBES = (
    "instruction_swapped",
    "instruction_other",
    "images_time_shuffled",
    "images_mean",
    "images_mirrored",
    "history_cut",
    "position_shifted",
)
"""The probes of every policy; ``run_probes`` has more for one that gets a state or sees several cameras."""

STATE_PROBE = "state_removed"

UNCHANGED = "unchanged"

_WORDS = re.compile(r"[^\W_]+")

_OTHER_COLOUR = {"red": "blue", "blue": "red"}
_COLOURS = re.compile(r"(?<![^\W_])(red|blue)(?![^\W_])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The actions that a policy predicts under a probe, in physical units, and the windows that the probe changed."""

    actions_NKA: NDArray[np.float32]
    is_changed_N: NDArray[np.bool_]


Probed = tuple[Batch, NDArray[np.bool_]]
"""The batch that a probe returns, and which of its windows it changed."""


def swap_colours(text: str) -> str:
    """Return ``text`` with red and blue exchanged, in the same case; "bluebell" does not change."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = _OTHER_COLOUR[word.lower()]
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    return _COLOURS.sub(swap, text)


def run_probes(model: Model, reader: WindowReader, *, batch_size: int, stream: Stream) -> dict[str, ProbeResult]:
    """Return the results of UNCHANGED and of each probe on all windows of ``reader``, at their current frames.

    - ``instruction_swapped``: left and right, and red and blue, are exchanged in the instruction.
    - ``instruction_other``: the instruction of a random episode with another task. That episode's instruction names the
      other colour. If this instruction names no colour, that episode's scenario (or else its instruction) names another
      side. If there is no such episode, it is any episode with a different instruction. One draw per episode.
    - ``images_time_shuffled``: every frame is replaced by a random frame of another window of the same episode, or of
      the same window if the episode has only one.
    - ``images_mean``: every frame is replaced by the mean frame of the split.
    - ``images_mirrored``: left and right are exchanged in the images and nowhere else.
    - ``history_cut``: only the current frame remains of the history.
    - ``position_shifted``: the window starts T // 2 frames later, so the same current frame is T // 2 positions earlier
      in the window and no frame follows it. Only for windows with a complete history.
    - ``state_removed``, for a policy with state: every state is replaced by the mean state of the train frames,
      and a binary signal by the middle between its two values.
    - ``camera_<name>_black``, for each of several cameras: its frames are black.

    The mode and the weights of the model do not change.
    """
    split = _survey(reader, batch_size, stream)
    actions: dict[str, list[NDArray[np.float32]]] = {}
    is_changed: dict[str, list[NDArray[np.bool_]]] = {}
    device, was_training = model.normalizer.std_A.device, model.training
    removed_S = None if model.state_encoder is None else model.state_encoder.removed.cpu()
    model.eval()
    for ids in _batches(reader, batch_size):
        for name, (batch, is_changed_B) in _probe(reader, ids, split, removed_S).items():
            actions.setdefault(name, []).append(model.predict(batch.to(device)).float().cpu().numpy())
            is_changed.setdefault(name, []).append(is_changed_B)
    model.train(was_training)
    return {
        name: ProbeResult(actions_NKA=np.concatenate(parts), is_changed_N=np.concatenate(is_changed[name]))
        for name, parts in actions.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Data on all windows of a split that the probes need.

    ``mean_VCYX``: the mean frame of each camera. ``other_E``: for each episode, the instruction of another task.
    ``partner_N``: for each window, another window of its episode. ``draws_NT``: random numbers in [0, 1) that choose
    the partner's frames.
    """

    mean_VCYX: torch.Tensor
    other_E: Mapping[int, str]
    partner_N: NDArray[np.int64]
    draws_NT: NDArray[np.float64]


def _probe(
    reader: WindowReader, ids: NDArray[np.int64], split: _Split, removed_S: torch.Tensor | None
) -> dict[str, Probed]:
    batch = reader.gather(ids)
    episodes = reader.windows.episode[ids].tolist()
    every_B = np.ones(len(ids), np.bool_)
    images = batch.images_BTVCYX
    return {
        UNCHANGED: (batch, ~every_B),
        "instruction_swapped": _say(batch, [swap_colours(mirror_words(text)) for text in batch.instruction]),
        "instruction_other": _say(batch, [split.other_E[episode] for episode in episodes]),
        "images_time_shuffled": _shuffle_times(batch, reader, split),
        "images_mean": (_with_images(batch, split.mean_VCYX.expand_as(images)), every_B),
        "images_mirrored": (_with_images(batch, images.flip(-1)), every_B),
        "history_cut": _cut_history(batch),
        "position_shifted": _shift_position(batch),
        **({} if removed_S is None else {STATE_PROBE: _remove_state(batch, removed_S)}),
        **_black_cameras(batch, reader.camera_names),
    }


def num_probes(spec: Spec) -> int:
    """Return how many times ``run_probes`` predicts each window of data of ``spec``, with UNCHANGED."""
    num_cameras = len(spec.cameras)
    return 1 + len(PROBES) + bool(spec.state) + (num_cameras if num_cameras > 1 else 0)


def camera_probe(camera: str) -> str:
    """Return the name of the probe in which ``camera`` is black."""
    return f"camera_{camera}_black"


def _remove_state(batch: Batch, removed_S: torch.Tensor) -> Probed:
    without = replace(batch, state_BTS=removed_S * batch.history_BT[..., None])
    return without, (without.state_BTS != batch.state_BTS).any(2).any(1).numpy()


def _black_cameras(batch: Batch, cameras: Sequence[str]) -> dict[str, Probed]:
    found = {}
    for index, camera in enumerate(cameras if len(cameras) > 1 else ()):
        images_BTVCYX = batch.images_BTVCYX.clone()
        images_BTVCYX[:, :, index] = 0
        is_changed_B = batch.images_BTVCYX[:, :, index].flatten(1).any(1).numpy()
        found[camera_probe(camera)] = replace(batch, images_BTVCYX=images_BTVCYX), is_changed_B
    return found


def _say(batch: Batch, texts: Sequence[str]) -> Probed:
    is_changed_B = np.array([new != old for new, old in zip(texts, batch.instruction, strict=True)])
    return replace(batch, instruction=tuple(texts)), is_changed_B


def _with_images(batch: Batch, images_BTVCYX: torch.Tensor) -> Batch:
    """Return ``batch`` with other images; frames that do not exist stay zero."""
    return replace(batch, images_BTVCYX=images_BTVCYX * batch.history_BT[:, :, None, None, None, None])


def _shuffle_times(batch: Batch, reader: WindowReader, split: _Split) -> Probed:
    ids = batch.window_ids
    partner = reader.gather(split.partner_N[ids])
    num_seen_B = partner.history_BT.sum(1).numpy()  # existing frames are at the end
    back_BT = 1 + (split.draws_NT[ids] * num_seen_B[:, None]).astype(np.int64)
    rows = torch.arange(len(ids))[:, None]
    shown = _with_images(batch, partner.images_BTVCYX[rows, torch.from_numpy(-back_BT)])
    is_same_BT = (shown.images_BTVCYX == batch.images_BTVCYX).flatten(2).all(2)
    return shown, ~is_same_BT.all(1).numpy()


def _cut_history(batch: Batch) -> Probed:
    history_BT = torch.zeros_like(batch.history_BT)
    history_BT[:, -1] = True
    cut = replace(batch, history_BT=history_BT, state_BTS=batch.state_BTS * history_BT[..., None])
    return _with_images(cut, batch.images_BTVCYX), (batch.history_BT.sum(1) > 1).numpy()


def _shift_position(batch: Batch) -> Probed:
    num_history = batch.history_BT.shape[1]
    shift = num_history // 2
    is_whole_B = batch.history_BT.all(1) & (shift > 0)
    is_shown_T = torch.arange(num_history) < num_history - shift
    history_BT = torch.where(is_whole_B[:, None], is_shown_T, batch.history_BT)

    def shifted(values: torch.Tensor) -> torch.Tensor:
        is_whole = is_whole_B.view(-1, *[1] * (values.dim() - 1))
        return torch.where(is_whole, values.roll(-shift, 1), values)

    state_BTS = shifted(batch.state_BTS) * history_BT[..., None]
    moved = replace(batch, history_BT=history_BT, state_BTS=state_BTS)
    return _with_images(moved, shifted(batch.images_BTVCYX)), is_whole_B.numpy()


def _survey(reader: WindowReader, batch_size: int, stream: Stream) -> _Split:
    instruction_E: dict[int, str] = {}
    target_E: dict[int, str] = {}
    total, num_frames, num_history = np.zeros(1, np.int64), 0, 0
    for ids in _batches(reader, batch_size):
        batch = reader.gather(ids)
        num_history = batch.history_BT.shape[1]
        total = total + batch.images_BTVCYX.numpy().sum((0, 1), dtype=np.int64)  # absent frames are zero
        num_frames += int(batch.history_BT.sum())
        episodes = reader.windows.episode[ids].tolist()
        instruction_E |= zip(episodes, batch.instruction, strict=True)
        target_E |= (
            (episode, _target_word(scenario, text))
            for episode, scenario, text in zip(episodes, batch.scenario, batch.instruction, strict=True)
        )
    rng = stream.child("images_time_shuffled").at(0)
    return _Split(
        mean_VCYX=torch.from_numpy(np.round(total / num_frames).astype(np.uint8)),
        other_E=_other_instructions(instruction_E, target_E, stream.child("instruction_other").at(0)),
        partner_N=_partners(reader.windows.episode, rng),
        draws_NT=rng.random((len(reader.windows), num_history)),
    )


def _partners(episode_N: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return for each window another window of its episode, uniformly; the window itself if there is no other.

    ``episode_N`` must be sorted.
    """
    first_N = np.searchsorted(episode_N, episode_N, side="left")
    count_N = np.searchsorted(episode_N, episode_N, side="right") - first_N
    ahead_N = 1 + (rng.random(len(episode_N)) * (count_N - 1)).astype(np.int64)
    return first_N + (np.arange(len(episode_N)) - first_N + ahead_N) % count_N


def _target_word(scenario: str, instruction: str) -> str:
    """Return the colour in the instruction, or else the side in the scenario or the instruction, or else ""."""
    return (
        _first_changed(instruction, swap_colours)
        or _first_changed(scenario, mirror_words)
        or _first_changed(instruction, mirror_words)
    )


def _first_changed(text: str, change: Callable[[str], str]) -> str:
    """Return the first word of ``text``, in lower case, that ``change`` changes, or "" if it changes none."""
    words, changed = _WORDS.findall(text.lower()), _WORDS.findall(change(text).lower())
    return next((word for word, other in zip(words, changed, strict=True) if word != other), "")


def _other_instructions(
    instruction_E: Mapping[int, str], target_E: Mapping[int, str], rng: np.random.Generator
) -> dict[int, str]:
    """Return for each episode the instruction of another task, or its own instruction if there is no other.

    A task with another target of the same kind (both are colours, or both are not) is preferred: with the same target,
    the right actions could be the same.
    """
    result = {}
    for (episode, text), draw in zip(instruction_E.items(), rng.random(len(instruction_E)), strict=True):
        different = [other for other in instruction_E if instruction_E[other] != text]
        own = target_E[episode]
        opposed = [
            other
            for other in different
            if target_E[other] != own and (target_E[other] in _OTHER_COLOUR) == (own in _OTHER_COLOUR)
        ]
        candidates = opposed or different or [episode]
        result[episode] = instruction_E[candidates[int(draw * len(candidates))]]
    return result


def _batches(reader: WindowReader, batch_size: int) -> Iterator[NDArray[np.int64]]:
    ids = np.arange(len(reader.windows))
    return (ids[first : first + batch_size] for first in range(0, len(ids), batch_size))
