"""Options of a study: its name, and how its runs are compared. They are fixed before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

Label = Annotated[str, Field(min_length=1)]
"""The name of a treatment in the comparison: a sampler with its options, as in ``shuffled, model.head.loss=huber``."""


def _none_of_itself(controls: Mapping[str, str]) -> Mapping[str, str]:
    if own := [label for label, control in controls.items() if label == control]:
        raise ValueError(f"expected another label as the control of {', '.join(own)}")
    return controls


@dataclass(frozen=True, kw_only=True)
class Study:
    """The question of a study: its name, its metric, its baseline and its controls.

    ``primary`` is the metric that decides (see ``check_primary``). All treatments are compared with ``baseline``.
    ``controls`` maps a label to the label of its control, which lacks only the part whose effect is to be shown: the
    two are compared with each other as well. ``name`` is safe in a path.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    primary: Annotated[str, Field(min_length=1)]
    baseline: Label
    controls: Annotated[Mapping[Label, Label], AfterValidator(_none_of_itself)]
