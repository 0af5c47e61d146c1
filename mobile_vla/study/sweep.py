"""Plan a sweep before its first job, refuse to mix runs of different code or config, and show the sweep's progress."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

if TYPE_CHECKING:
    from mobile_vla.study.plan import PlannedJob
    from mobile_vla.study.sweep_progress import SweepProgress

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_LINES = 60.0
"""Without a terminal, a line is printed when a job ends and, if no job ends, after this time."""


class PlanAndWatch(Callback):
    """A Hydra callback that writes ``study.json`` at the start of a multirun and shows its progress until the end.

    The process exits with 1 before any job starts if the folder contains finished jobs of other code or config.
    ``at_start`` is called with the planned jobs that are not done; an error in it ends the process as well.
    """

    def __init__(self, at_start: Callable[[Sequence[PlannedJob]], None] | None = None) -> None:
        self._at_start = at_start
        self._watch: Watch | None = None
        self._sweep = os.getpid()
        self._until_the_end = ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a launcher's worker processes: without the watch, of which a sweep needs only one.

        Its threads could not be pickled.
        """
        return {"_at_start": None, "_watch": None, "_sweep": self._sweep}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plan the sweep, check it and start the progress display.

        Raises SystemExit on any error, because Hydra only warns of an Exception in a callback and goes on.
        """
        from mobile_vla.config import study_errors
        from mobile_vla.errors import UserError
        from mobile_vla.process.console import printable
        from mobile_vla.study.labels import label_warning
        from mobile_vla.study.plan import extended_plan, plan_jobs, write_plan

        if errors := study_errors(OmegaConf.select(config, "study")):
            raise SystemExit("\n  ".join(["error: the sweep cannot be planned:", *errors]))
        folder = Path(config.hydra.sweep.dir)
        try:
            jobs = plan_jobs(config)
            plan = extended_plan(folder, config.study, jobs)
            check_finished(folder, jobs)
            warning = label_warning(folder, config.study, jobs)
            write_plan(folder, plan)
            if self._at_start is not None:
                self._at_start(unfinished(folder, jobs))
        except UserError as error:
            raise SystemExit(f"error: {printable(str(error))}") from error
        except InterpolationResolutionError as error:
            # OmegaConf keeps only the text of what a resolver raised: "DataError raised while resolving ...: TEXT".
            message = str(error).partition("while resolving interpolation: ")[2].partition("\n    full_key:")[0]
            raise SystemExit(f"error: {printable(message or str(error))}") from error
        except HydraException:
            return  # the sweeper will raise the same error next, and Hydra then prints it in its usual form
        except Exception as error:  # of any kind: Hydra would only warn of it and run jobs that are in no plan
            traceback.print_exc()
            raise SystemExit(f"error: the sweep cannot be planned: {type(error).__name__}: {error}") from error
        if not jobs:
            return
        if warning is not None:
            print(f"warning: {printable(warning)}", flush=True)
        folders = [folder / job.folder for job in jobs]
        if config.hydra.runtime.choices["hydra/launcher"] == "joblib":
            self._until_the_end.enter_context(_stopped_with_its_workers(folders))
        _print_elsewhere(folders)
        has_bar = config.hydra.runtime.choices["hydra/launcher"] == "basic" and sys.stdout.isatty()
        self._watch = Watch(config.study.name, folders, is_told=has_bar)
        self._watch.start()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the sweep's progress between two jobs, if jobs have a progress bar that a line would interrupt.

        In a joblib worker process, start to stop and end together with the process of the sweep.
        """
        if config.hydra.runtime.choices["hydra/launcher"] == "joblib":
            from mobile_vla.study.workers import follow

            follow(self._sweep)
        if self._watch is not None and self._watch.is_told:
            self._watch.say()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """End the progress display before the comparison is printed."""
        self._until_the_end.close()
        if self._watch is not None:
            self._watch.stop()


def unfinished(folder: Path, jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
    """Return those of the ``jobs`` of the sweep in ``folder`` that are not done."""
    from mobile_vla.study.summary import read_summary

    return [job for job in jobs if read_summary(folder / job.folder).get("status") != "done"]


def check_finished(folder: Path, jobs: list[PlannedJob]) -> None:
    """Raise ``ConfigError`` with every finished job in ``folder`` whose code or config differs from the current one."""
    from mobile_vla.errors import ConfigError
    from mobile_vla.study.finished import WHAT_TO_DO, finished_changes
    from mobile_vla.study.summary import read_summary
    from mobile_vla.text import shortened

    found: dict[str, list[str]] = {}
    for job in jobs:
        if read_summary(folder / job.folder).get("status") == "done":
            for change in finished_changes(folder / job.folder, job.config):
                found.setdefault(change, []).append(job.folder)
    if found:
        lines = [f"  {shortened(names, limit=2)}: {change}" for change, names in found.items()]
        raise ConfigError("\n".join([f"{folder} holds finished jobs of another state:", *lines, WHAT_TO_DO]))


@contextmanager
def _stopped_with_its_workers(folders: list[Path]) -> Iterator[None]:
    """Stop the jobs that worker processes train in ``folders`` if a signal stops this process inside the block."""
    from mobile_vla.process.interruption import answered
    from mobile_vla.process.worker_processes import use_quiet_workers
    from mobile_vla.study.workers import stop_workers, tell_workers

    use_quiet_workers()
    with answered(lambda number, frame: stop_workers(folders, number), at_once=tell_workers):
        yield


def _print_elsewhere(folders: list[Path]) -> None:
    from mobile_vla.tracking.ownership import owner_of

    found = {folder: owner for folder in folders if (owner := owner_of(folder)) is not None}
    if found:
        lines = [f"  {folder.name}: {owner}" for folder, owner in found.items()]
        print("\n".join([f"{len(found)} running elsewhere; this call leaves them alone:", *lines]), flush=True)


class Watch:
    """The progress display of the jobs in ``folders``: one live line on a terminal, else a line for each ended job.

    With ``is_told`` there is no live line and no thread: a line is printed only by ``say`` and ``stop``.
    """

    def __init__(self, name: str, folders: list[Path], *, is_told: bool) -> None:
        self.is_told = is_told
        self._name = name
        self._folders = folders
        self._started = time.time()
        self._end: Callable[[], None] | None = None
        self._said: str | None = None

    def start(self) -> None:
        """Start the display. It ends with ``stop`` or with the process."""
        if self.is_told:
            return
        if sys.stdout.isatty():
            from rich.live import Live
            from rich.text import Text

            live = Live(get_renderable=lambda: Text(f"{self._line()}  "), refresh_per_second=1, transient=True)
            live.start()
            self._end = live.stop
        else:
            ended = threading.Event()
            arguments = (ended, self._read().num_ended)
            thread = threading.Thread(target=self._say_what_changes, args=arguments, daemon=True)
            thread.start()

            def end() -> None:
                ended.set()
                thread.join()

            self._end = end
        atexit.register(self.stop)

    def say(self) -> None:
        """Print the progress of the sweep, unless the last printed line was the same."""
        line = self._line()
        if line != self._said:
            self._said = line
            print(line, flush=True)

    def stop(self) -> None:
        """End the display with one last line."""
        if self._end is not None:
            self._end()
            self._end = None
            atexit.unregister(self.stop)
        self.say()

    def _say_what_changes(self, ended: threading.Event, num_ended: int) -> None:
        said_at = time.monotonic()
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            now, progress = time.monotonic(), self._read()
            if progress.num_ended != num_ended or now - said_at >= _SECONDS_BETWEEN_LINES:
                num_ended, said_at = progress.num_ended, now
                self.say()

    def _read(self) -> SweepProgress:
        from mobile_vla.study.sweep_progress import read_progress

        return read_progress(self._folders, started=self._started, now=time.time())

    def _line(self) -> str:
        return f"study {self._name}: {self._read()}"
