"""The content of ``policy.json``: all that inference needs of a policy in addition to its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mobile_vla.data.frames import ImageOptions
from mobile_vla.data.windows import NumFrames, Padding
from mobile_vla.errors import UserError
from mobile_vla.spec import Spec

DESCRIPTION_FILE = "policy.json"

MAX_INSTRUCTIONS = 50


@dataclass(frozen=True, kw_only=True)
class PolicyDescription:
    """The description of a policy that is stored in its checkpoint.

    ``model`` is the config of the model. ``spec`` is what it gets and predicts, in this order. ``padding`` is the
    padding of the training windows, ``image`` describes how recorded frames were prepared. ``instructions`` are texts
    from the training data, at most MAX_INSTRUCTIONS. ``world`` describes the scenarios of the training episodes in
    the embedded simulator (see ``TrainedScenarios``); None if the episodes come from elsewhere.
    """

    model: Mapping[str, Any]
    spec: Spec
    window_size: NumFrames
    fwd_pred_next_n: NumFrames
    padding: Padding
    image: ImageOptions
    instructions: tuple[str, ...]
    world: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return the description as plain containers."""
        return asdict(self)

    @classmethod
    def parse(cls, text: str | bytes) -> PolicyDescription:
        """Read the text of ``policy.json``; ``UserError`` names every key that is missing or has a wrong value."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()]
            raise UserError(f"{DESCRIPTION_FILE} cannot be read: {'; '.join(wrong)}") from error
