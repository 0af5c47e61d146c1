"""The network that the flow and diffusion heads train: from a noisy chunk, a time and a context to a chunk."""

from __future__ import annotations

import math

import torch
from torch import nn

_TIME_DIM = 32
_SHORTEST_PERIOD, _LONGEST_PERIOD = 0.02, 4.0
"""Of the time embedding, for times in 0..1: the longest sine rises over the whole range, the shortest resolves 1 %."""


class ChunkNetwork(nn.Module):
    """A residual MLP over the whole chunk at once: [..., K, A], time [...] in 0..1, context [..., H] -> [..., K, A].

    Time and context enter every block. The last layer is initialised to zero, so that the first prediction is 0.
    """

    def __init__(
        self, *, fwd_pred_next_n: int, num_actions: int, context_dim: int, hidden_dim: int, num_layers: int
    ) -> None:
        super().__init__()
        self._shape = (fwd_pred_next_n, num_actions)
        self.enter = nn.Linear(fwd_pred_next_n * num_actions, hidden_dim)
        self.condition = nn.Linear(context_dim + _TIME_DIM, hidden_dim)
        self.blocks = nn.ModuleList(_Block(hidden_dim) for _ in range(num_layers))
        self.leave = nn.Linear(hidden_dim, fwd_pred_next_n * num_actions)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, chunk: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Return the network's prediction for ``chunk``: a velocity, noise or v, as the head defines it."""
        condition = self.condition(torch.cat([context, _embedded(time)], -1))
        hidden = self.enter(chunk.flatten(-2))
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.leave(hidden).unflatten(-1, self._shape)


class _Block(nn.Module):
    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim)
        self.up = nn.Linear(hidden_dim, hidden_dim)
        self.down = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, hidden: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return hidden + self.down(nn.functional.silu(self.up(self.norm(hidden)) + condition))


def _embedded(time: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines [..., _TIME_DIM] of ``time`` [...]; the periods are spaced evenly in logarithm."""
    log_periods = torch.linspace(
        math.log(_SHORTEST_PERIOD), math.log(_LONGEST_PERIOD), _TIME_DIM // 2, device=time.device
    )
    angle = 2 * math.pi * time[..., None] / log_periods.exp()
    return torch.cat([angle.sin(), angle.cos()], -1)
