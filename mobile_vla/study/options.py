"""Say what a study is called and how it is judged, before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

Label = Annotated[str, Field(min_length=1)]
"""What the comparison calls a sampler with its options, as in ``shuffled, model.head.loss=huber``."""


def _none_of_itself(controls: Mapping[str, str]) -> Mapping[str, str]:
    if own := [label for label, control in controls.items() if label == control]:
        raise ValueError(f"expected another label as the control of {', '.join(own)}")
    return controls


@dataclass(frozen=True, kw_only=True)
class Study:
    """``primary`` (see ``check_primary``) is the one metric that decides, ``baseline`` what all are held against.

    ``controls`` maps a label to that of its control, which lacks the one thing that is to be shown to matter: the two
    are held against each other as well. ``name`` is safe in a path.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    primary: Annotated[str, Field(min_length=1)]
    baseline: Label
    controls: Annotated[Mapping[Label, Label], AfterValidator(_none_of_itself)]
