"""A progress display: a bar on a terminal, a few plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], *, description: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` and show how many of ``total`` are done."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.progress import track as rich_track

        from mobile_vla.process.console import new_console

        yield from rich_track(
            items, description=description, total=total, console=new_console(is_stderr=True), transient=True
        )
        return
    started = last = time.monotonic()
    for count, item in enumerate(items):
        yield item
        now = time.monotonic()
        if now - last > _SECONDS_BETWEEN_LINES or count + 1 == total:
            last = now
            _log.info("%s: %d of %s after %.0f s", description, count + 1, total or "?", now - started)
