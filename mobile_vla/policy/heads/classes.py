"""Action head for keyboard data: classify the signs of the A dimensions, one of 3^A classes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from mobile_vla.errors import ConfigError
from mobile_vla.policy.history.contract import HistoryFactory
from mobile_vla.text import first_few

_DEAD_SHARE = 0.05
"""Share of a dimension's largest magnitude; smaller values count as 0, as in ``evaluation.report``."""

_EMPTY_COUNT = 0.1
"""Pseudo-count that is added to the train actions of every class: the logarithm of an empty class is then finite."""


MAX_ACTIONS = 6
"""With 6 signals there are 729 classes. Beyond that most classes have no train action, and the layer of a chunk of ten
gets larger than the rest of a compact policy.
"""

_INSTEAD = (
    "Use model/head=tokens, which classifies each signal on its own, or a regression (model/head=mlp, flow, diffusion)"
)


class ClassesHead(nn.Module):
    """Cross-entropy over the classes; the prediction is the mean train action of the most probable class.

    ``class_weights=balanced`` weights each class by the inverse of its share of the train actions, scaled so that the
    mean weight over the train actions is 1. A class without train actions is never predicted. The logits start at the
    logarithm of the (weighted) class frequencies. The L classes are numbered by their signs as digits in base 3.

    Raises ``ConfigError`` with more than MAX_ACTIONS signals.
    """

    rest_A: torch.Tensor
    limit_A: torch.Tensor
    place_A: torch.Tensor
    action_LA: torch.Tensor
    weight_L: torch.Tensor
    prior_L: torch.Tensor
    is_seen_L: torch.Tensor

    def __init__(
        self,
        *,
        feature_dim: int,
        fwd_pred_next_n: int,
        num_actions: int,
        history: HistoryFactory,
        class_weights: Literal["none", "balanced"],
    ) -> None:
        super().__init__()
        num_classes = 3**num_actions
        if num_actions > MAX_ACTIONS:
            raise ConfigError(
                f"model/head=classes: {num_actions} actions would need 3^{num_actions} = {num_classes:,} classes; "
                f"expected at most {MAX_ACTIONS} actions, {3**MAX_ACTIONS} classes. {_INSTEAD}, or fewer actions "
                "(dataset.actions=[...])."
            )
        self.history = history(feature_dim=feature_dim)
        self._shape = (fwd_pred_next_n, num_classes)
        self._is_balanced = class_weights == "balanced"
        self.out = nn.Linear(self.history.context_dim, fwd_pred_next_n * num_classes)
        self.register_buffer("rest_A", torch.zeros(num_actions))
        self.register_buffer("limit_A", torch.zeros(num_actions))
        self.register_buffer("place_A", 3 ** torch.arange(num_actions))
        self.register_buffer("action_LA", torch.zeros(num_classes, num_actions))
        self.register_buffer("weight_L", torch.ones(num_classes))
        self.register_buffer("prior_L", torch.zeros(num_classes))
        self.register_buffer("is_seen_L", torch.ones(num_classes, dtype=torch.bool))

    @property
    def last_layer(self) -> nn.Module:
        """See ``Head``."""
        return self.out

    def fit(self, actions_FA: torch.Tensor, *, rest_A: torch.Tensor) -> None:
        """Compute the rest position, the dead zone around it, and the mean action and share of each class.

        Raises ``ConfigError`` if a signal has no value at rest (NaN).
        """
        if missing := [str(index + 1) for index in torch.isnan(rest_A).nonzero().flatten().tolist()]:
            raise ConfigError(
                f"model/head=classes: the classes are the signs of the actions around their values at rest, and "
                f"{len(missing)} of {len(rest_A)} actions have none (number {first_few(missing)}), as an absolute "
                f"position has none. {_INSTEAD}; or give the values, if standing still has one: "
                "dataset.signals={NAME: {rest: 0}}."
            )
        self.rest_A.copy_(rest_A)
        self.limit_A.copy_(_DEAD_SHARE * (actions_FA - rest_A).abs().amax(0))
        # In float64: the sums run over all frames of the data set.
        member_FL = functional.one_hot(self.classify(actions_FA), len(self.weight_L)).double()
        count_L = member_FL.sum(0)
        self.is_seen_L.copy_(count_L > 0)
        self.action_LA.copy_(member_FL.T @ actions_FA.double() / count_L.clamp(min=1)[:, None])
        if self._is_balanced:
            balanced_L = len(actions_FA) / (self.is_seen_L.sum() * count_L.clamp(min=1))
            self.weight_L.copy_(torch.where(self.is_seen_L, balanced_L, 1.0))
        self.prior_L.copy_((count_L * self.weight_L + _EMPTY_COUNT).log())

    def classify(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the class, 0 .. 3^A-1, of normalised ``actions`` [..., A]."""
        offset = actions - self.rest_A
        sign = torch.where(offset.abs() > self.limit_A, offset.sign(), 0.0)
        return ((sign.long() + 1) * self.place_A).sum(-1)

    def loss(self, context_BTH: torch.Tensor, target_BTKA: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        class_BTK = self.classify(target_BTKA)
        logits = self._logits(context_BTH).flatten(0, -2)
        error = functional.cross_entropy(logits, class_BTK.flatten(), weight=self.weight_L, reduction="none")
        return error.view_as(class_BTK)

    def predict(self, context: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        return self.action_LA[self._logits(context).masked_fill(~self.is_seen_L, -torch.inf).argmax(-1)]

    def _logits(self, context: torch.Tensor) -> torch.Tensor:
        # A fixed offset: the layer learns only the deviation from the class frequencies.
        return self.out(context).unflatten(-1, self._shape) + self.prior_L
