"""Find the instruction of an episode: in its file, in its name, or the same for all."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from mobile_vla.data.hdf5_errors import describe, report_damage
from mobile_vla.errors import ConfigError, DataError

INSTRUCTION_KEY = "language_instruction"

InstructionSource = Literal["file", "template", "constant"]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Where an episode's instruction comes from: the first of ``order`` that yields a text.

    ``file`` is the file's own ``language_instruction``; ``template`` is filled with the fields of the file name and is
    passed over where one of its fields is missing; ``constant`` is the same text for all.
    """

    order: Sequence[InstructionSource]
    template: str
    constant: str

    def __post_init__(self) -> None:
        try:
            names = _fields_of(self.template)
        except ValueError as error:
            raise ConfigError(f"dataset.instruction.template: {self.template!r}: {error}.") from error
        if not all(name.isidentifier() for name in names):
            raise ConfigError(
                f"dataset.instruction.template: {self.template!r}: expected named groups of dataset.grammars in "
                "braces, such as {side}."
            )

    def choose(self, *, in_file: str | None, fields: Mapping[str, str]) -> str | None:
        """Return the instruction, or None when no source has one."""
        for source in self.order:
            text = {"file": in_file or "", "template": _fill(self.template, fields), "constant": self.constant}[source]
            if text:
                return text
        return None


def _fill(template: str, fields: Mapping[str, str]) -> str:
    return template.format_map(fields) if _fields_of(template) <= fields.keys() else ""


def _fields_of(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def read_instruction(file: h5py.File, path: Path) -> str | None:
    """Return the text that the file itself holds, None where it has none; ``DataError`` where it is no text."""
    if INSTRUCTION_KEY not in file:
        return None
    with report_damage(f"{path}: key '{INSTRUCTION_KEY}' cannot be read"):
        node = file[INSTRUCTION_KEY]
        values = np.asarray(node[()]).reshape(-1) if isinstance(node, h5py.Dataset) else np.array([])
    if len(values) != 1 or not isinstance(values[0], bytes | str):
        raise DataError(
            f"{path}: key '{INSTRUCTION_KEY}' is {describe(node)}; expected one text, such as [1] S256. "
            "Write it so, or leave 'file' out of dataset.instruction.order."
        )
    try:
        return values[0].decode("utf-8").strip() if isinstance(values[0], bytes) else values[0].strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: key '{INSTRUCTION_KEY}' is not UTF-8 ({error}). Write the text as UTF-8.") from error
