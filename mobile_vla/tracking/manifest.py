"""Read the manifest of a run, the record of what ran that the run itself wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, read_json

MANIFEST_FILE = "manifest.json"

_TYPES = {"run_id": str, "study": str, "sampler": str, "seed": int, "commit": str, "choices": dict}
"""The keys that every manifest has from the beginning, and the types of their values."""

_LATER_TYPES = {"num_steps": int, "files": dict}
"""The keys that are added before the first step, or only if the run uses files; they may be missing."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return ``manifest.json`` of the run ``folder``; raise ``UserError`` that names the missing or damaged entries."""
    path = folder / MANIFEST_FILE
    try:
        found = read_json(inside(folder, MANIFEST_FILE))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), so what ran is unknown") from error
    values = found if isinstance(found, dict) else {}
    wrong = [name for name, kind in _TYPES.items() if type(values.get(name)) is not kind]
    wrong += [name for name, kind in _LATER_TYPES.items() if type(values.get(name, kind())) is not kind]
    if wrong:
        raise UserError(
            f"{path}: is damaged: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not what a run writes there. "
            "Replace it with an undamaged copy, or train the run again."
        )
    return values
