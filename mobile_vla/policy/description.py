"""Describe a policy so that inference needs nothing else but its weights: the content of ``policy.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from mobile_vla.data.frames import ImageOptions
from mobile_vla.data.windows import NumFrames, Padding
from mobile_vla.errors import UserError
from mobile_vla.schema import ACTION_NAMES

DESCRIPTION_FILE = "policy.json"

MAX_INSTRUCTIONS = 50

_ActionName = Annotated[str, Field(pattern=f"^({'|'.join(ACTION_NAMES)})$")]


@dataclass(frozen=True, kw_only=True)
class PolicyDescription:
    """What a checkpoint says of itself.

    ``model`` is the config of the model. ``padding`` says where windows began in training, ``image`` how recorded
    frames were prepared; ``instructions`` are texts the policy was taught, at most MAX_INSTRUCTIONS. ``world`` is what
    the training episodes show of the embedded world, None where they come from elsewhere.
    """

    model: Mapping[str, Any]
    action_names: tuple[_ActionName, ...]
    window_size: NumFrames
    fwd_pred_next_n: NumFrames
    padding: Padding
    image: ImageOptions
    instructions: tuple[str, ...]
    world: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return asdict(self)

    @classmethod
    def parse(cls, text: str | bytes) -> PolicyDescription:
        """Read ``policy.json``; ``UserError`` names every key that is missing or has another value than expected."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()]
            raise UserError(f"{DESCRIPTION_FILE} cannot be read: {'; '.join(wrong)}") from error
