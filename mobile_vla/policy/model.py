"""The model that predicts the next actions at every frame of a window: backbone, state, head and normaliser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import nn

from mobile_vla.data.chosen import Names
from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.contract import Backbone, BackboneFactory
from mobile_vla.policy.history.contract import History
from mobile_vla.policy.normalizer import Normalization, Normalizer, binary_of, binary_state_of
from mobile_vla.policy.state_encoder import StateEncoder
from mobile_vla.schema import Batch
from mobile_vla.spec import Signal


class Head(Protocol):
    """A head: ``history`` encodes the window up to each frame, and the head predicts normalised actions from that.

    ``context`` is the output of ``history``: [..., H].
    """

    history: History

    @property
    def last_layer(self) -> nn.Module:
        """The last module with weights; its output while the loss is computed is [..., B, T, D]."""
        ...

    def fit(self, actions_FA: torch.Tensor, *, rest_A: torch.Tensor) -> None:
        """Compute the statistics that it needs from the normalised train actions; ``rest_A`` is standing still.

        ``rest_A`` is in the same normalised units, and NaN for a signal without a value at rest. No weights are
        trained. Raises ``ConfigError`` if the head cannot be used for such actions.
        """
        ...

    def loss(self, context_BTH: torch.Tensor, target_BTKA: torch.Tensor) -> torch.Tensor:
        """Return the loss [B, T, K] of each predicted action against finite normalised targets."""
        ...

    def predict(self, context: torch.Tensor) -> torch.Tensor:
        """Return normalised actions [..., K, A]."""
        ...


class HeadFactory(Protocol):
    """A head whose options are set and whose sizes are not."""

    def __call__(self, *, feature_dim: int, fwd_pred_next_n: int, num_actions: int) -> Head:
        """Return the head for these sizes, a ``torch.nn.Module``."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """The output of a forward pass: ``loss_B`` per window, and ``actions_BKA`` at the current frame in physical units.

    The current frame is the last existing frame of a window's history.
    """

    loss_B: torch.Tensor
    actions_BKA: torch.Tensor


class Model(nn.Module):
    """A policy with any backbone and head. Its state dict has all that inference needs, including the normaliser.

    ``state`` names the recorded signals that it gets beside the images, ``num_state`` is their number. The features of
    the state (see ``StateEncoder``) are joined to those of the backbone, so that neither backbones nor heads know of
    it and the cached features of a frozen backbone stay valid. Without state there is no such network, and
    ``state_encoder`` is None. Raises ``ConfigError`` if ``state`` and ``num_state`` contradict each other.
    """

    def __init__(
        self,
        *,
        backbone: BackboneFactory,
        head: HeadFactory,
        state: Names,
        state_dim: PositiveInt,
        normalization: Normalization,
        fwd_pred_next_n: int,
        num_actions: int,
        num_state: int,
        num_cameras: int,
    ) -> None:
        super().__init__()
        if num_cameras < 1:
            raise ConfigError(f"dataset.cameras: {num_cameras} cameras; a policy needs at least one")
        _check_state(state, num_state)
        self.backbone = backbone(num_cameras=num_cameras)
        if not isinstance(self.backbone, Backbone):
            raise ConfigError(
                f"model.backbone: {type(self.backbone).__name__} is no backbone; expected a subclass of Backbone in "
                "mobile_vla/policy/backbones/contract.py"
            )
        self.state_encoder = StateEncoder(num_state=num_state, state_dim=state_dim) if num_state else None
        feature_dim = self.backbone.feature_dim + (state_dim if num_state else 0)
        self.head = head(feature_dim=feature_dim, fwd_pred_next_n=fwd_pred_next_n, num_actions=num_actions)
        self.normalizer = Normalizer(normalization, num_actions=num_actions)

    @torch.no_grad()
    def fit(
        self,
        actions_FA: NDArray[np.float32],
        state_FS: NDArray[np.float32] | None = None,
        *,
        signals: Sequence[Signal] | None = None,
        state_signals: Sequence[Signal] = (),
    ) -> None:
        """Compute statistics of the actions and the state of all train frames; train no weights.

        ``actions_FA`` are in physical units, ``state_FS`` in those of its signals; a policy without state needs none.
        ``signals`` describe the actions: which of them are binary, and their values at rest. Without them none is
        binary, and all rest at 0. ``state_signals`` say which signals of the state are binary. Raises ``ConfigError``
        if a binary action has more than two values, or if the head needs a value at rest that a signal does not have.
        """
        if signals is None:
            signals = [Signal(name=f"action {index}", rest=0.0) for index in range(actions_FA.shape[1])]
        self.normalizer.fit(actions_FA, binary=binary_of(signals, actions_FA))
        if self.state_encoder is not None:
            assert state_FS is not None, "the statistics of the state need the states of the train frames"
            self.state_encoder.normalizer.fit(state_FS, binary=binary_state_of(state_signals, state_FS))
        actions = torch.from_numpy(actions_FA).to(self.normalizer.std_A)
        rest_A = [torch.nan if signal.rest is None else signal.rest for signal in signals]
        self.head.fit(
            self.normalizer.normalize(actions), rest_A=self.normalizer.normalize(torch.tensor(rest_A).to(actions))
        )

    def forward(self, batch: Batch) -> ModelOutput:
        """Return loss and prediction of a batch; ``batch.features_BTD`` replace its images if they are given.

        The loss of a window is the mean of the head's loss over its existing targets (all T frames and K actions), and
        0 for a window without any. No gradient flows through the prediction. In mixed precision the head stays in
        float32: that costs little, and its losses are sums of small numbers.
        """
        features_BTD = self._features(batch).float()
        with torch.autocast(features_BTD.device.type, enabled=False):
            return self._output(features_BTD, batch)

    def _output(self, features_BTD: torch.Tensor, batch: Batch) -> ModelOutput:
        context_BTH = self._context(features_BTD, batch.history_BT, batch.state_BTS)
        loss_B = self._loss(context_BTH, batch)
        with torch.no_grad():
            actions_BKA = self._actions(context_BTH, batch.history_BT)
        return ModelOutput(loss_B=loss_B, actions_BKA=actions_BKA)

    def _loss(self, context_BTH: torch.Tensor, batch: Batch) -> torch.Tensor:
        # Masked also before the loss: with the mask after it only, a NaN in a missing target would reach the gradient
        # as 0 * NaN.
        target_BTKA = torch.where(batch.mask_BTK[..., None], self.normalizer.normalize(batch.actions_BTKA), 0.0)
        error_BTK = self.head.loss(context_BTH, target_BTKA) * batch.mask_BTK
        return error_BTK.sum((1, 2)) / batch.mask_BTK.sum((1, 2)).clamp(min=1)

    @torch.no_grad()
    def gradient_norms(self, batch: Batch) -> torch.Tensor:
        """Return for each window [B] the norm of the gradient of its loss with respect to the output of the last layer.

        The gradient stops at that output of the head, so this costs only a little more than the loss.
        """
        outputs: list[torch.Tensor] = []

        def cut(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            outputs.append(output.detach().requires_grad_())
            return outputs[-1]

        features_BTD = self._features(batch).float()
        with torch.autocast(features_BTD.device.type, enabled=False):
            context_BTH = self._context(features_BTD, batch.history_BT, batch.state_BTS)
            hook = self.head.last_layer.register_forward_hook(cut)
            try:
                with torch.enable_grad():
                    # One backward pass for the sum is enough: a window's outputs influence only its own loss.
                    total = self._loss(context_BTH, batch).sum()
                gradients = torch.autograd.grad(total, outputs)
            finally:
                hook.remove()
        by_window = [gradient.square().sum((-1, -2)).reshape(-1, len(batch)).sum(0) for gradient in gradients]
        return torch.stack(by_window).sum(0).sqrt()

    def encode(
        self, images_BTVCYX: torch.Tensor, history_BT: torch.Tensor, instruction: tuple[str, ...]
    ) -> torch.Tensor:
        """Return the features [B, T, D] of images (uint8, or float in [0, 1]) and their B instructions."""
        return self.backbone(images_BTVCYX, history_BT, instruction)

    def decode(self, features_BTD: torch.Tensor, history_BT: torch.Tensor, state_BTS: torch.Tensor) -> torch.Tensor:
        """Return the actions [B, K, A] from the current frames on, in physical units.

        ``features_BTD`` are those of ``encode``; ``state_BTS`` is in the units of its signals, with S = 0 for a policy
        without state.
        """
        return self._actions(self._context(features_BTD, history_BT, state_BTS), history_BT)

    @torch.no_grad()
    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the actions [B, K, A] from the current frames on, in physical units."""
        return self.decode(self._features(batch), batch.history_BT, batch.state_BTS)

    def num_parameters(self) -> tuple[int, int]:
        """Return (trainable, total) numbers of parameters."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(n for n, is_trainable in sizes if is_trainable), sum(n for n, _ in sizes)

    def _features(self, batch: Batch) -> torch.Tensor:
        if batch.features_BTD is not None:
            return batch.features_BTD
        return self.encode(batch.images_BTVCYX, batch.history_BT, batch.instruction)

    def _context(self, features_BTD: torch.Tensor, history_BT: torch.Tensor, state_BTS: torch.Tensor) -> torch.Tensor:
        if self.state_encoder is not None:
            features_BTD = torch.cat([features_BTD, self.state_encoder(state_BTS)], dim=-1)
        return self.head.history(features_BTD, history_BT)

    def _actions(self, context_BTH: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        return self.normalizer.actions_of(self.head.predict(_at_last_frame(context_BTH, history_BT)))


def _check_state(state: Names, num_state: int) -> None:
    if state == "all" and not num_state:
        raise ConfigError("model.state=all: has no effect, as the recordings hold no state; expected none")
    given = num_state if state == "all" else 0 if state == "none" else len(state)
    if given != num_state:
        raise ConfigError(f"model.state={state}: names {given} signals, and the data set gives {num_state}.")


def _at_last_frame(context_BTH: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
    """Return [B, H] at each window's last existing frame.

    That is the last frame of a recorded window, but a live history may be padded at its end.
    """
    positions_T = torch.arange(history_BT.shape[1], device=history_BT.device)
    last_B = torch.where(history_BT, positions_T, 0).amax(1)
    return context_BTH[torch.arange(len(last_B), device=last_B.device), last_B]
