"""The instruction of an episode: from its recording, from a template over its fields, or the same for all."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mobile_vla.data.sources.contract import RecordedTexts
from mobile_vla.errors import ConfigError

InstructionSource = Literal["file", "attribute", "template", "constant"]

UNSTATED = "Do the task"
"""The constant of conf/dataset/auto.yaml: it is true of every robot, and says nothing of the task."""

_PLACES: Mapping[InstructionSource, str] = {
    "attribute": "attribute language_instruction",
    "template": "template dataset.instruction.template",
    "constant": "constant dataset.instruction.constant",
}
"""Where each other source has its text: the kind of the place, then its name."""


@dataclass(frozen=True, kw_only=True)
class ChosenInstruction:
    """An episode's instruction and where it comes from; ``place`` is that in the recording, for people."""

    text: str
    source: InstructionSource
    place: str


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """The options for the source of an episode's instruction: the first source of ``order`` that has a text.

    ``file`` is the recording's own place for it (the key ``language_instruction`` of an HDF5 file, the task of a
    LeRobot episode, the topic of a bag), ``attribute`` the attribute ``language_instruction``. ``template`` is filled
    with the fields of the episode, and skipped where one of its fields is missing. ``constant`` is the same text for
    all.
    """

    order: Sequence[InstructionSource]
    template: str
    constant: str

    def __post_init__(self) -> None:
        try:
            fields = [field for field in string.Formatter().parse(self.template) if field[1] is not None]
        except ValueError as error:
            raise ConfigError(f"dataset.instruction.template: {self.template!r}: {error}.") from error
        # Formats are not allowed: {side:>999999999} would exhaust the memory, and no instruction needs a format.
        if not all(name and name.isidentifier() and not form and not mode for _, name, form, mode in fields):
            raise ConfigError(
                f"dataset.instruction.template: {self.template!r}: expected named groups of dataset.grammars in "
                "braces, such as {side}, without a format or conversion."
            )

    def choose(self, recorded: RecordedTexts, *, fields: Mapping[str, str]) -> ChosenInstruction | None:
        """Return the instruction and its source, or None when no source has a text."""
        for source in self.order:
            text = self._text(source, recorded, fields)
            if text:
                place = recorded.place if source == "file" else _PLACES[source]
                return ChosenInstruction(text=text, source=source, place=place)
        return None

    def _text(self, source: InstructionSource, recorded: RecordedTexts, fields: Mapping[str, str]) -> str | None:
        if source == "file":
            return recorded.key
        if source == "attribute":
            return recorded.attribute
        if source == "constant":
            return self.constant
        names = {name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None}
        return self.template.format_map(fields) if names <= fields.keys() else None
