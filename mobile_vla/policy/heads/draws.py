"""Noise and times for generative heads: random in training, fixed in evaluation."""

from __future__ import annotations

import torch
from torch import nn


class Draws(nn.Module):
    """Q noises and times for every target; several, because the head is cheap compared with the backbone.

    Times are stratified: the q-th is drawn from the q-th of Q equal parts of 0..1, which lowers the variance of the
    loss. Training draws from torch's global generator. Evaluation uses the same Q values for all targets and ignores
    the random state, so that its result is repeatable.
    """

    noise_QKA: torch.Tensor

    def __init__(self, num_draws: int, *, fwd_pred_next_n: int, num_actions: int) -> None:
        super().__init__()
        # From its own generator: equal in all processes, and building a head does not change the global random state.
        fixed = torch.randn(num_draws, fwd_pred_next_n, num_actions, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise_QKA", fixed)

    def forward(self, target_BTKA: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return standard normal noises [Q, B, T, K, A] and times [Q, B, T]."""
        shape, like = target_BTKA.shape, self.noise_QKA
        num_draws = len(like)
        part_Q11 = torch.arange(num_draws, device=like.device)[:, None, None]
        if self.training:
            noise_QBTKA = torch.randn(num_draws, *shape, device=like.device, dtype=like.dtype)
            return noise_QBTKA, (part_Q11 + torch.rand(num_draws, *shape[:2], device=like.device)) / num_draws
        noise_QBTKA = like[:, None, None].expand(-1, *shape[:2], -1, -1)
        return noise_QBTKA, ((part_Q11 + 0.5) / num_draws).expand(-1, *shape[:2])

    def start(self, context: torch.Tensor) -> torch.Tensor:
        """Return one fixed noise [..., K, A] for contexts [..., H]."""
        noise_KA = self.noise_QKA[0]
        return noise_KA.expand(*context.shape[:-1], *noise_KA.shape)
