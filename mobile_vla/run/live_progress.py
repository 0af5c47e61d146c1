"""The progress display of a run: a bar with the latest metrics on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mobile_vla.metrics import shown
from mobile_vla.process.console import printable

_log = logging.getLogger(__name__)

_STEPS_MEASURED = 10
_MANY_HOURS = 1.0


class LiveProgress:
    """A context manager that displays the progress; the training loop calls ``show`` before every step.

    ``error`` is the error on val that decides (see ``metrics.error_of``). ``slow_remedy`` is what to say, after ten
    steps, of a run that will take hours.
    """

    def __init__(
        self, *, label: str, num_steps: int, error: str, is_bar: bool, console: Console, slow_remedy: str | None = None
    ) -> None:
        self._label = label = printable(label)
        self._num_steps = num_steps
        self._error = error
        self._latest: dict[str, float] = {}
        self._slow_remedy = slow_remedy
        self._first: tuple[int, float] | None = None
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            disable=not (is_bar and console.is_terminal),
        )
        self._task = self._bar.add_task(label, total=num_steps, figures="")

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: int, row: Mapping[str, float]) -> None:
        """Display the progress before ``step``; ``row`` is the row that was logged at this step, or empty."""
        self._latest |= {name.replace("/", " "): row[name] for name in shown("bar", error=self._error) if name in row}
        figures = "  ".join(f"{name} {value:.4f}" for name, value in self._latest.items())
        self._warn_if_slow(step)
        self._bar.update(self._task, completed=step, figures=figures)
        if self._error in row and self._bar.disable:  # a line per evaluation only: a log file should stay short
            _log.info("%s: step %d of %d  %s", self._label, step, self._num_steps, figures)

    def _warn_if_slow(self, step: int) -> None:
        """Warn once, after the first steps, if the run will take hours and there is a remedy."""
        now = time.perf_counter()
        if self._first is None:
            self._first = step, now  # the first evaluation is done before, and is not counted
        first, started = self._first
        if self._slow_remedy is None or step < first + _STEPS_MEASURED:
            return
        hours = (now - started) / (step - first) * (self._num_steps - step) / 3600
        if hours > _MANY_HOURS:
            _log.warning("%s: at this speed, %.1f hours are left. %s", self._label, hours, self._slow_remedy)
        self._slow_remedy = None
