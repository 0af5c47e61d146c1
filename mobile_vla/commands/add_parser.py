"""Say how a module adds its commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable

AddParser = Callable[..., argparse.ArgumentParser]
"""``add_parser`` of argparse's subparsers. Each command sets ``run``: from the parsed arguments to the exit code."""
