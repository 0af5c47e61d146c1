"""The text that an import adds to the recorded frames."""

from __future__ import annotations

from dataclasses import dataclass

from mobile_vla.data.sources.tubs.split import option
from mobile_vla.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WrittenText:
    """What an import adds to the recorded frames. Raises ``ConfigError`` for a text that cannot be written."""

    instruction: str = option("Follow the track", "the language instruction of every episode")

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ConfigError("instruction is empty, expected a sentence.")
        # Surrogates come from a command line that is not UTF-8, and cannot be encoded; NUL is HDF5's padding of texts.
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in self.instruction):
            raise ConfigError(f"instruction is {self.instruction!r}, expected a sentence in UTF-8.")
