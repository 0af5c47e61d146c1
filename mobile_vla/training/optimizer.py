"""The optimiser of a model's trainable weights, and its learning rates."""

from __future__ import annotations

from importlib import import_module

import torch

from mobile_vla.errors import ConfigError
from mobile_vla.policy.model import Model
from mobile_vla.training.options import Trainer

_RATE_FACTOR = "rate_factor"
"""Key in a parameter group: its learning rate as a multiple of the head's."""

_PRETRAINED_FACTOR = 0.1
"""The default for a pretrained backbone: adapters and pretrained weights learn at 1e-4, a new head at 1e-3."""


def build_optimizer(model: Model, trainer: Trainer) -> torch.optim.Optimizer:
    """Return AdamW over the parameters that get gradients; ``adamw_8bit`` keeps its state in 8 bits (Dettmers 2022).

    A backbone with its own learning rate is the first of two parameter groups. Its rate is
    ``backbone_learning_rate``; the default for a pretrained backbone is a tenth of ``learning_rate``. Raises
    ``ConfigError`` if a different rate is given and no weight of the backbone is trained.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    backbone = [parameter for name, parameter in trainable.items() if name.startswith("backbone.")]
    rest = [parameter for name, parameter in trainable.items() if not name.startswith("backbone.")]
    if trainer.backbone_learning_rate not in (None, trainer.learning_rate) and not backbone:
        raise ConfigError(
            f"trainer.backbone_learning_rate={trainer.backbone_learning_rate}: has no effect, as no weight of the "
            "backbone is trained. Leave it null, or train the backbone."
        )
    factor = _PRETRAINED_FACTOR if model.backbone.weights is not None else 1.0
    if trainer.backbone_learning_rate is not None:
        factor = trainer.backbone_learning_rate / trainer.learning_rate
    if factor == 1.0 or not backbone:
        groups = [{"params": list(trainable.values()), _RATE_FACTOR: 1.0}]
    else:
        groups = [{"params": backbone, _RATE_FACTOR: factor}, {"params": rest, _RATE_FACTOR: 1.0}]
    # Imported by name, because most machines lack the package; ``Trainer`` has checked that it is installed.
    adamw = torch.optim.AdamW if trainer.optimizer == "adamw" else import_module("bitsandbytes.optim").AdamW8bit
    return adamw(groups, lr=trainer.learning_rate, weight_decay=trainer.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the head's weights; the rate of the backbone keeps its ratio to it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_RATE_FACTOR]


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """Return the parameters of all groups in the order of the optimiser, which numbers their states in this order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
