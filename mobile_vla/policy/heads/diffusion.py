"""Action head by diffusion: a chunk of actions is denoised step by step."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import nn

from mobile_vla.errors import ConfigError
from mobile_vla.policy.heads.chunk_network import ChunkNetwork
from mobile_vla.policy.heads.draws import Draws
from mobile_vla.policy.history.contract import HistoryFactory


class DiffusionHead(nn.Module):
    """DDPM (Ho et al. 2020) with the cosine schedule (Nichol & Dhariwal 2021); for robots Chi et al. 2023.

    At level s of ``num_levels`` the chunk is sqrt(a) action + sqrt(1-a) noise, where a falls from 1 to 0. The network
    predicts the noise (``epsilon``) or sqrt(a) noise - sqrt(1-a) action (``v``, Salimans & Ho 2022). Inference takes
    ``num_steps`` steps of DDIM (Song et al. 2021), each clipped to the range of the train actions. They start at one
    fixed noise times ``start_noise``: 1 draws a sample, 0 starts at the centre of the noise. ``num_draws``: see
    ``Draws``.
    """

    kept_S: torch.Tensor
    low_A: torch.Tensor
    high_A: torch.Tensor

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
        num_levels: PositiveInt,
        num_steps: PositiveInt,
        prediction: Literal["epsilon", "v"],
        start_noise: NonNegativeFloat,
    ) -> None:
        super().__init__()
        if num_steps > num_levels:
            raise ConfigError(f"model.head.num_steps={num_steps}: expected at most model.head.num_levels={num_levels}")
        self.history = history(feature_dim=feature_dim)
        self._says_noise = prediction == "epsilon"
        self._start_noise = start_noise
        self._steps = torch.linspace(num_levels - 1, 0, num_steps).round().long().tolist()
        self.draws = Draws(num_draws, fwd_pred_next_n=fwd_pred_next_n, num_actions=num_actions)
        self.denoise = ChunkNetwork(
            fwd_pred_next_n=fwd_pred_next_n,
            num_actions=num_actions,
            context_dim=self.history.context_dim,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
        )
        self.register_buffer("kept_S", _cosine_schedule(num_levels))
        self.register_buffer("low_A", torch.full((num_actions,), -torch.inf))
        self.register_buffer("high_A", torch.full((num_actions,), torch.inf))

    @property
    def last_layer(self) -> nn.Module:
        """See ``Head``."""
        return self.denoise.leave

    def fit(self, actions_FA: torch.Tensor, *, rest_A: torch.Tensor) -> None:
        """Store the range of each dimension."""
        self.low_A.copy_(actions_FA.amin(0))
        self.high_A.copy_(actions_FA.amax(0))

    def loss(self, context_BTH: torch.Tensor, target_BTKA: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        noise_QBTKA, time_QBT = self.draws(target_BTKA)
        level_QBT = (time_QBT * len(self.kept_S)).long()
        kept = self.kept_S[level_QBT][..., None, None]
        chunk_QBTKA = kept.sqrt() * target_BTKA + (1 - kept).sqrt() * noise_QBTKA
        truth = noise_QBTKA if self._says_noise else kept.sqrt() * noise_QBTKA - (1 - kept).sqrt() * target_BTKA
        said = self._run(chunk_QBTKA, level_QBT, context_BTH.expand(*level_QBT.shape, -1))
        return (said - truth).square().mean((0, -1))

    def predict(self, context: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        chunk = self._start_noise * self.draws.start(context)
        # A last value of 1: the last step removes all noise.
        kept_after = torch.cat([self.kept_S[self._steps[1:]], self.kept_S.new_ones(1)])
        # DDIM without added noise (eta = 0): the same context always gives the same actions.
        for step, kept_next in zip(self._steps, kept_after, strict=True):
            level = torch.full(context.shape[:-1], step, device=context.device)
            kept = self.kept_S[step]
            actions = self._actions(chunk, self._run(chunk, level, context), kept).clamp(self.low_A, self.high_A)
            noise = (chunk - kept.sqrt() * actions) / (1 - kept).sqrt()
            chunk = kept_next.sqrt() * actions + (1 - kept_next).sqrt() * noise
        return chunk

    def _run(self, chunk: torch.Tensor, level: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.denoise(chunk, level / len(self.kept_S), context)

    def _actions(self, chunk: torch.Tensor, said: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the noise-free actions in ``chunk`` if the network's prediction ``said`` is right."""
        if self._says_noise:
            return (chunk - (1 - kept).sqrt() * said) / kept.sqrt()
        return kept.sqrt() * chunk - (1 - kept).sqrt() * said


def _cosine_schedule(num_levels: int, *, offset: float = 0.008, largest_step: float = 0.999) -> torch.Tensor:
    """Return the share of the actions' variance that remains at each level [S], from almost 1 to almost 0.

    ``offset`` and ``largest_step`` are those of Nichol & Dhariwal: the first step is not too small, and the last does
    not become singular.
    """
    progress = torch.arange(num_levels + 1, dtype=torch.float64) / num_levels
    kept = torch.cos((progress + offset) / (1 + offset) * math.pi / 2).square()
    lost = (1 - kept[1:] / kept[:-1]).clamp(max=largest_step)
    return (1 - lost).cumprod(0).float()
