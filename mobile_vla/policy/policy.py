"""Run a trained policy: keep the last frames of each robot and predict its next actions in physical units."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.data.frames import prepare_image
from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.description import PolicyDescription
from mobile_vla.policy.model import Model
from mobile_vla.policy.observation import Images, State, batch_of_images, batch_of_states, of_one_robot
from mobile_vla.policy.stored_model import load_stored_model


@dataclass(kw_only=True)
class _Frame:
    """The prepared images [V, Y, X, C] uint8 of one frame, its state [S], and its cached feature for ``instruction``.

    The feature is cached where a frame has one of its own.
    """

    images_VYXC: torch.Tensor
    state_S: torch.Tensor
    instruction: str | None = None
    feature_D: torch.Tensor | None = None


class Policy:
    """A trained model, its description, and the frames of each robot since its last ``reset``.

    ``description`` is the checkpoint's ``policy.json``: all that inference needs in addition to the weights. Its
    ``spec`` names the cameras and the signals of the state that the policy gets, and the actions that it predicts.
    ``folder`` is the folder that was given to ``load``, such as a run's; ``checkpoint`` is the folder that the weights
    were read from, None for a model that was not loaded. Not thread-safe: one thread at a time may use it.
    """

    def __init__(
        self, model: Model, description: PolicyDescription, *, folder: Path, checkpoint: Path | None = None
    ) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.description = description
        self.action_names = description.spec.action_names
        self.fwd_pred_next_n = description.fwd_pred_next_n
        self._model = model.eval()
        self._device = model.normalizer.std_A.device
        self._seen: dict[Hashable, deque[_Frame]] = defaultdict(lambda: deque(maxlen=description.window_size))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        checkpoint: str = "last",
        device: str = "cpu",
        base: str | Path | None = None,
        trust: Sequence[str] = (),
    ) -> Policy:
        """Load a run folder's ``checkpoint`` (``last`` or ``best``), or the checkpoint ``folder`` itself.

        Every file is compared with its digest before anything is built. ``last`` is the newest whole checkpoint of a
        run; a warning names each damaged one that is newer. If a ``best`` checkpoint is damaged, the ``step`` one with
        the same weights is loaded instead, else an earlier ``best``, but never weights that were not a best.

        ``base`` is the folder or hub name of the pretrained weights that the policy builds on, if they are not where
        training found them; any pretrained model other than the one it was trained on is refused. No code of a
        checkpoint is executed: weights are safetensors, and a class that its config names is built only if it is a
        backbone or head of this package or is listed in ``trust`` by full name. Raises ``UserError`` if no checkpoint
        is whole, with what is wrong with each, or if one names another class.
        """
        found = find_checkpoint(Path(folder), checkpoint)
        # Before the model is read: an unknown device should be an error at once.
        try:
            where = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device={device}: not usable here; expected cpu, or cuda where there is one") from error
        model, description = load_stored_model(found, base=base, trust=trust)
        return cls(model.to(where), description, folder=Path(folder), checkpoint=found)

    def reset(self, robots: Sequence[Hashable] | None = None) -> None:
        """Begin an episode: drop the frames of ``robots``, by default of all."""
        for robot in list(self._seen) if robots is None else robots:
            self._seen.pop(robot, None)

    @torch.no_grad()
    def act(
        self,
        image: Images,
        instruction: str | Sequence[str],
        *,
        state: State | None = None,
        robots: Sequence[Hashable] | None = None,
    ) -> NDArray[np.float32]:
        """Add each robot's newest frame to its history and return its next actions in physical units: [B, K, A].

        ``image`` is [B, Y, X, 3] uint8 in the channel order of the training files and of any size; a policy that sees
        several cameras gets one such array for each, by its name. ``instruction`` holds B texts. ``state`` is needed
        by a policy with state and by no other: [B, S] in the order and the units of ``description.spec.state``, or B
        numbers for each signal, by its name. ``robots`` are the B robots' keys (default 0 .. B-1): each has its own
        history of the last ``window_size`` frames, which begins at its first image or after ``reset``. For one text,
        images are [Y, X, 3], the state is [S] or a number for each signal, and the result is [K, A]. Actions are
        float32. Raises ``UserError`` for any other input, before a history is changed.
        """
        if isinstance(instruction, str):
            image, state = of_one_robot(image, state)
            return self.act(image, [instruction], state=state, robots=robots)[0]
        if not isinstance(instruction, Sequence):
            raise UserError(f"instruction: {instruction!r}; expected a text, or one for each image")
        robots = range(len(instruction)) if robots is None else robots
        cameras = batch_of_images(image, self.description.spec.camera_names)
        _check_robots(len(cameras[0]), instruction, robots)
        state_BS = batch_of_states(state, self.description.spec.state_names, num_robots=len(robots))
        for robot, state_S, *views in zip(robots, state_BS, *cameras, strict=True):
            # Copied, because camera drivers often write the next image into the same buffer.
            prepared = np.stack([prepare_image(view, self.description.image) for view in views])
            self._seen[robot].append(
                _Frame(images_VYXC=torch.from_numpy(prepared), state_S=torch.from_numpy(state_S.copy()))
            )
        seen = [self._seen[robot] for robot in robots]
        encode = self._encode_apart if self._model.backbone.frames_apart else self._encode_windows
        features_BTD, history_BT = encode(seen, instruction)
        state_BTS, _ = self._lay_out([[frame.state_S for frame in frames] for frames in seen])
        return self._model.decode(features_BTD, history_BT, state_BTS.to(self._device)).float().cpu().numpy()

    def _encode_apart(
        self, seen: Sequence[Sequence[_Frame]], instruction: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features [B, T, D] and which exist [B, T].

        Each frame is encoded once, and again only if the instruction changes: a drive costs one frame a step, not T.
        """
        stale = [(f, text) for frames, text in zip(seen, instruction, strict=True) for f in frames]
        stale = [(frame, text) for frame, text in stale if frame.instruction != text]
        images_BTVYXC = torch.stack([frame.images_VYXC for frame, _ in stale])[:, None]
        history_BT = torch.ones(len(stale), 1, dtype=torch.bool)
        features_BTD = self._encode(images_BTVYXC, history_BT, [text for _, text in stale])
        for (frame, text), feature_TD in zip(stale, features_BTD, strict=True):
            frame.instruction, frame.feature_D = text, feature_TD[0]
        features = [[f.feature_D for f in frames if f.feature_D is not None] for frames in seen]
        features_BTD, history_BT = self._lay_out(features)
        return features_BTD, history_BT.to(self._device)

    def _encode_windows(
        self, seen: Sequence[Sequence[_Frame]], instruction: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features [B, T, D] and which exist [B, T], encoding all frames of a window together."""
        images_BTVYXC, history_BT = self._lay_out([[frame.images_VYXC for frame in frames] for frames in seen])
        return self._encode(images_BTVYXC, history_BT, instruction), history_BT.to(self._device)

    def _encode(
        self, images_BTVYXC: torch.Tensor, history_BT: torch.Tensor, instruction: Sequence[str]
    ) -> torch.Tensor:
        images_BTVCYX = images_BTVYXC.to(self._device).permute(0, 1, 2, 5, 3, 4)
        return self._model.encode(images_BTVCYX, history_BT.to(self._device), tuple(instruction))

    def _lay_out(self, rows: Sequence[Sequence[torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the histories of B robots as [B, T, ...] and which frames exist [B, T], laid out as in training.

        Missing frames are zero. They come before the first frame if training windows were padded there
        (``padding=both``), else after the last.
        """
        window_size = self.description.window_size
        starts_before_episode = self.description.padding == "both"
        history_BT = torch.zeros(len(rows), window_size, dtype=torch.bool)
        filled = []
        for number, row in enumerate(rows):
            missing = [torch.zeros_like(row[0])] * (window_size - len(row))
            first = len(missing) if starts_before_episode else 0
            history_BT[number, first : first + len(row)] = True
            filled.append(torch.stack([*missing, *row] if starts_before_episode else [*row, *missing]))
        return torch.stack(filled), history_BT


def _check_robots(num_images: int, instruction: Sequence[str], robots: Sequence[Hashable]) -> None:
    if odd := [text for text in instruction if not isinstance(text, str)]:
        raise UserError(f"instruction: {odd[0]!r}; expected a text for each image")
    if not num_images == len(instruction) == len(set(robots)) == len(robots):
        raise UserError(
            f"{num_images} images, {len(instruction)} instructions and robots {list(robots)}; expected one image and "
            "one instruction for each robot, no robot twice"
        )
