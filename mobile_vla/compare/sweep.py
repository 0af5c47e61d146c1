"""Compare the runs of a sweep when its last job has ended, and let the exit code say whether all went well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class CompareAtEnd(Callback):
    """Compare the runs in ``hydra.sweep.dir`` with the study's baseline at the end of a multirun.

    The process exits with 1 if a run did not finish or the runs may not be ranked. ``change_table`` prints the founding
    report's first-last-change table as well. Hydra calls the hook only if every job returned, so jobs record their
    failure in their run folder and return NaN.
    """

    def __init__(self, change_table: bool = False) -> None:
        self.change_table = change_table

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the comparison; raises SystemExit(1), as Hydra turns every Exception here into a warning."""
        # Hydra builds its callbacks before it knows that it only has to print --help.
        from mobile_vla.errors import UserError
        from mobile_vla.terminal import new_console, printable

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
        from mobile_vla.compare.change_table import report_change_table
        from mobile_vla.compare.report import compare_folder

        comparison = compare_folder(folder, baseline=baseline, console=console)
        if self.change_table:
            report_change_table(folder, console)
        return len(comparison.unfinished)
