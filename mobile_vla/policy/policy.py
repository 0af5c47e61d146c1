"""Run a trained policy: remember the last frames of each robot and answer with a chunk of actions in physical units."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from mobile_vla.data.frames import prepare_image
from mobile_vla.errors import UserError
from mobile_vla.policy.description import DESCRIPTION_FILE, WEIGHTS_FILE, PolicyDescription
from mobile_vla.policy.model import Model
from mobile_vla.policy.stored_model import build_stored_model


class _Frame(NamedTuple):
    """What a robot saw at one step, encoded once with the instruction it had."""

    image: NDArray[np.uint8]
    instruction: str
    feature_D: torch.Tensor


class Policy:
    """A model, how it looks at the world, and what each robot has seen since its last ``reset``.

    ``description`` is the checkpoint's ``policy.json``: all that inference needs beside the weights; ``folder`` is what
    it was loaded from. One thread at a time may use it.
    """

    def __init__(self, model: Model, description: PolicyDescription, *, folder: Path) -> None:
        self.folder = folder
        self.description = description
        self.action_names: tuple[str, ...] = description.action_names
        self.fwd_pred_next_n = description.fwd_pred_next_n
        self._model = model.eval()
        self._device = model.normalizer.mean_A.device
        self._seen: dict[Hashable, deque[_Frame]] = defaultdict(lambda: deque(maxlen=description.window_size))

    @classmethod
    def load(
        cls, folder: str | Path, *, checkpoint: str = "last", device: str = "cpu", trust: Sequence[str] = ()
    ) -> Policy:
        """Load a run folder's ``checkpoint`` (``last`` or ``best``), or the checkpoint ``folder`` itself.

        Nothing of a checkpoint is ever executed: weights are safetensors, and the classes that its config names are
        built only if they are backbones and heads of this package or stand in ``trust`` by full name. Raises
        ``UserError`` if a file is missing, damaged, or names another class.
        """
        found = _find_checkpoint(Path(folder), checkpoint)
        try:
            where = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device={device}: not usable here; expected cpu, or cuda where there is one") from error
        try:
            description = PolicyDescription.parse((found / DESCRIPTION_FILE).read_text(encoding="utf-8"))
            model = build_stored_model(description, trust=trust)
            model.load_state_dict(load_file(found / WEIGHTS_FILE))
            return cls(model.to(where), description, folder=Path(folder))
        except UserError as error:
            raise UserError(f"{found}: {error}") from error
        except Exception as error:  # whatever torch, safetensors and JSON make of a damaged file
            raise UserError(
                f"{found}: cannot be loaded ({type(error).__name__}: {error}). Expected {DESCRIPTION_FILE} and "
                f"{WEIGHTS_FILE} as a run of this version of mobile_vla saved them."
            ) from error

    def reset(self, robots: Sequence[Hashable] | None = None) -> None:
        """Begin an episode: forget what ``robots`` have seen, by default all of them."""
        for robot in list(self._seen) if robots is None else robots:
            self._seen.pop(robot, None)

    @torch.no_grad()
    def act(
        self,
        image: NDArray[np.uint8],
        instruction: str | Sequence[str],
        *,
        robots: Sequence[Hashable] | None = None,
    ) -> NDArray[np.float32]:
        """Take up each robot's newest image and return its next actions in physical units: float32 [B, K, A].

        ``image`` is [B, Y, X, 3] uint8 in the channel order of the training files and of any size; ``instruction``
        holds B texts. ``robots`` says whose they are (default 0 .. B-1): each has its own history of ``window_size``
        frames, begun at its first image or after ``reset``. A single image [Y, X, 3] with one text is answered with
        [K, A]. Raises ``UserError``, before anything is taken up, where the input is something else.
        """
        if isinstance(instruction, str):
            return self.act(np.asarray(image)[None], [instruction], robots=robots)[0]
        robots = range(len(instruction)) if robots is None else robots
        _check_input(image, instruction, robots)
        # A copy: a camera's buffer is often used again for its next image.
        views = [np.array(prepare_image(view, self.description.image)) for view in image]
        features_BD = self._encode(views, instruction)
        for robot, view, text, feature_D in zip(robots, views, instruction, features_BD, strict=True):
            seen = self._seen[robot]
            if seen and seen[-1].instruction != text:
                # A window has one instruction: what was seen so far is looked at again with the new one.
                images = [frame.image for frame in seen]
                again_TD = self._encode(images, [text] * len(images))
                seen.clear()
                seen.extend(_Frame(i, text, f) for i, f in zip(images, again_TD, strict=True))
            seen.append(_Frame(view, text, feature_D))
        return self._model.decode(*self._history(robots)).float().cpu().numpy()

    def _encode(self, images: Sequence[NDArray[np.uint8]], instruction: Sequence[str]) -> torch.Tensor:
        """Return the features [B, D] of B images, each with its text."""
        images_BTYXC = torch.from_numpy(np.stack(images)[:, None]).to(self._device)
        return self._model.encode(images_BTYXC.permute(0, 1, 4, 2, 3), tuple(instruction))[:, 0]

    def _history(self, robots: Sequence[Hashable]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features [B, T, D] and which exist [B, T], laid out as in training.

        Missing frames stand before the first where windows were padded there, else after the last.
        """
        window_size = self.description.window_size
        starts_before_episode = self.description.padding == "both"
        history_BT = torch.zeros(len(robots), window_size, dtype=torch.bool)
        rows = []
        for row, robot in enumerate(robots):
            features = [frame.feature_D for frame in self._seen[robot]]
            missing = [torch.zeros_like(features[0])] * (window_size - len(features))
            first = len(missing) if starts_before_episode else 0
            history_BT[row, first : first + len(features)] = True
            rows.append(torch.stack([*missing, *features] if starts_before_episode else [*features, *missing]))
        return torch.stack(rows), history_BT.to(self._device)


def _find_checkpoint(folder: Path, checkpoint: str) -> Path:
    candidates = (folder, folder / "checkpoints" / checkpoint)
    for candidate in candidates:
        if (candidate / DESCRIPTION_FILE).is_file():
            return candidate
    raise UserError(
        f"{folder}: holds no policy (expected {DESCRIPTION_FILE} there or in {candidates[1]}). Give the folder of a "
        "run, or one of its checkpoints."
    )


def _check_input(image: object, instruction: Sequence[str], robots: Sequence[Hashable]) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 4 or image.shape[-1] != 3:
        given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"image: {given}; expected a uint8 array [Y, X, 3], or [B, Y, X, 3] with B instructions")
    if not image.size:
        raise UserError(f"image: {list(image.shape)} has no pixels")
    if odd := [text for text in instruction if not isinstance(text, str)]:
        raise UserError(f"instruction: {odd[0]!r}; expected a text for each image")
    if not len(image) == len(instruction) == len(set(robots)) == len(robots):
        raise UserError(
            f"{len(image)} images, {len(instruction)} instructions and robots {list(robots)}; expected one image and "
            "one instruction for each robot, no robot twice"
        )
