"""The place of the configs in this installation, and how its commands are typed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_THE_WHEEL = _PACKAGE / "conf"

IS_CHECKOUT = not _IN_THE_WHEEL.is_dir()
"""Whether the package is in a checkout, with run.py and conf/ beside it; in a wheel, conf/ is inside the package."""

CONF = _PACKAGE.parent / "conf" if IS_CHECKOUT else _IN_THE_WHEEL
"""The folder of config groups."""

TRAIN = "python run.py" if IS_CHECKOUT else "mobile-vla train"
"""The command that trains."""

PROGRAM = "python -m mobile_vla" if IS_CHECKOUT else "mobile-vla"
"""The beginning of every other command, followed by the command's name."""
