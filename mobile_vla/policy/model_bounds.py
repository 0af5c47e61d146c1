"""Limits for the size of a model that a checkpoint describes, checked before memory is allocated for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mobile_vla.errors import UserError
from mobile_vla.untrusted.containers import values_in

MAX_NUMBER = 1_000_000
"""No option of a model is larger. The largest are rows of a word table and levels of a noise schedule."""


def check_numbers(model: Mapping[str, object]) -> None:
    """Raise ``UserError`` that names the first number in ``model`` (plain containers) beyond MAX_NUMBER."""
    for path, value in values_in(model, "model"):
        # "not <=" instead of ">": NaN is refused as well.
        if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise UserError(f"{path}: {value:g} is no size or number of a model; expected at most {MAX_NUMBER}")


@contextmanager
def no_larger_than(weights: Path) -> Iterator[None]:
    """Raise ``UserError`` if a model built inside the block gets more parameters than the file ``weights`` has numbers.

    A layer registers its parameters before it fills them, and memory that was reserved but not yet written costs
    nothing. The limit is twice the number in the file, because a module may register a parameter again.
    """
    with safe_open(weights, "pt") as file:
        names = file.keys()
        left = 2 * sum(math.prod(file.get_slice(name).get_shape()) for name in names)

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise UserError(f"describes a larger model than {weights.name} holds the weights of")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
