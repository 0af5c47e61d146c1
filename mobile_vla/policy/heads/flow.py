"""Action head by flow matching: a learned velocity field moves noise to a chunk of actions."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import nn

from mobile_vla.policy.heads.chunk_network import ChunkNetwork
from mobile_vla.policy.heads.draws import Draws
from mobile_vla.policy.history.contract import HistoryFactory


class FlowHead(nn.Module):
    """Conditional flow matching: at time t in 0..1 the chunk is (1-t) noise + t action, its velocity action - noise.

    Inference takes ``num_steps`` Euler steps from the noise to the actions. They start at one fixed noise times
    ``start_noise``: 1 draws a sample, 0 follows the flow from the centre of the noise. ``num_draws``: see ``Draws``.
    Source: Lipman et al. 2023; for robots Black et al. 2024 (pi0).
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        fwd_pred_next_n: int,
        num_actions: int,
        history: HistoryFactory,
        hidden_dim: PositiveInt,
        num_layers: PositiveInt,
        num_draws: PositiveInt,
        num_steps: PositiveInt,
        start_noise: NonNegativeFloat,
    ) -> None:
        super().__init__()
        self.history = history(feature_dim=feature_dim)
        self._num_steps = num_steps
        self._start_noise = start_noise
        self.draws = Draws(num_draws, fwd_pred_next_n=fwd_pred_next_n, num_actions=num_actions)
        self.velocity = ChunkNetwork(
            fwd_pred_next_n=fwd_pred_next_n,
            num_actions=num_actions,
            context_dim=self.history.context_dim,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
        )

    @property
    def last_layer(self) -> nn.Module:
        """See ``Head``."""
        return self.velocity.leave

    def fit(self, actions_FA: torch.Tensor, *, rest_A: torch.Tensor) -> None:
        """Do nothing: this head needs no statistics of the train actions."""

    def loss(self, context_BTH: torch.Tensor, target_BTKA: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        noise_QBTKA, time_QBT = self.draws(target_BTKA)
        time_QBT11 = time_QBT[..., None, None]
        chunk_QBTKA = (1 - time_QBT11) * noise_QBTKA + time_QBT11 * target_BTKA
        velocity_QBTKA = self.velocity(chunk_QBTKA, time_QBT, context_BTH.expand(*time_QBT.shape, -1))
        return (velocity_QBTKA - (target_BTKA - noise_QBTKA)).square().mean((0, -1))

    def predict(self, context: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        chunk = self._start_noise * self.draws.start(context)
        for step in range(self._num_steps):
            time = torch.full(context.shape[:-1], step / self._num_steps, device=context.device)
            chunk = chunk + self.velocity(chunk, time, context) / self._num_steps
        return chunk
