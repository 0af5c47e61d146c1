"""Read the manifest of a run: what ran, as the run itself wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, read_json

MANIFEST_FILE = "manifest.json"

_TYPES = {"run_id": str, "study": str, "sampler": str, "seed": int, "commit": str, "choices": dict}
"""What every manifest has from the beginning."""

_LATER_TYPES = {"num_steps": int, "files": dict}
"""What it has before the first step, or where there is any."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return ``manifest.json`` of the run ``folder``; ``UserError`` names what of it is missing or damaged."""
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
            "Put a copy of it back that is whole, or train the run again."
        )
    return values
