"""Compare the runs of a sweep after its last job, and set the exit code to 1 if a run did not finish."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class CompareAtEnd(Callback):
    """A Hydra callback that compares the runs in ``hydra.sweep.dir`` with the study's baseline after a multirun.

    The process exits with 1 if a run did not finish or the runs cannot be ranked. ``first_vs_last`` also prints the
    table of the training report: each metric at the first and at the last evaluation. Hydra calls this hook only if
    every job returned, so a failed job records its failure in its run folder and returns NaN.
    """

    def __init__(self, first_vs_last: bool = False) -> None:
        self.first_vs_last = first_vs_last

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the comparison.

        Raises SystemExit(1) on failure, because Hydra only warns of an Exception in a callback.
        """
        # Imported here because Hydra creates its callbacks even if it only has to print --help, which should be fast.
        from mobile_vla.errors import UserError
        from mobile_vla.process.console import new_console, printable

        try:
            num_unfinished = self._compare(Path(config.hydra.sweep.dir), config.study.baseline, new_console())
        except UserError as error:
            print(f"\nThe sweep was not compared. {printable(str(error))}", file=sys.stderr)
            raise SystemExit(1) from error
        except Exception as error:
            new_console(is_stderr=True).print_exception()
            raise SystemExit(1) from error
        if num_unfinished:
            print(f"\n{num_unfinished} of the runs did not finish: see above.", file=sys.stderr)
            raise SystemExit(1)

    def _compare(self, folder: Path, baseline: str, console: Any) -> int:
        from mobile_vla.compare.report import compare_folder
        from mobile_vla.compare.terminal.first_vs_last import report_first_vs_last

        comparison = compare_folder(folder, baseline=baseline, console=console)
        if self.first_vs_last:
            report_first_vs_last(folder, console)
        return len(comparison.unfinished)
