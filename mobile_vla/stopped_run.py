"""Say by what a run was stopped, and by which command it goes on."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mobile_vla.build import Run
from mobile_vla.errors import UserError
from mobile_vla.interruption import typed
from mobile_vla.policy.checkpoint_folder import find_in_run
from mobile_vla.tracking.run_folder import RunFolder


def signal_name(number: int | None) -> str:
    """Return what a summary calls the signal ``number``."""
    return "a signal" if number is None else signal.Signals(number).name


def limit_of(run: Run, manifest: Mapping[str, Any]) -> str:
    """Return what a run was told to stop at before its planned end."""
    call = manifest["calls"][-1] if manifest["calls"] else None
    if call is not None and call["num_steps"] == run.trainer.stop_at_step:
        return f"{' '.join(call['overrides'])} of this call; {run.num_steps} steps are planned"
    return f"trainer.stop_at_step={run.trainer.stop_at_step}"


def command_to_go_on(folder: RunFolder, overrides: Sequence[str], *, is_resumed: bool) -> str:
    """Return the command that goes on with the run in ``folder`` where it is stopped now.

    That is ``resume=`` where this call has a checkpoint to go on from, with what the call was given where it was one of
    ``resume=`` itself; else the call again.
    """
    if folder.status == "done":  # and W&B was to get the rest
        return shlex.join([sys.orig_argv[0], "-m", "mobile_vla", "sync", str(folder.path)])
    again = typed(*sys.argv[1:])
    if not is_resumed and not folder.has_rows:  # a checkpoint that lies there is an earlier run's
        return again
    try:
        find_in_run(folder.path)
    except UserError:
        return again
    given = overrides if is_resumed else ()
    return typed(f"resume={folder.path}", *(text for text in given if not text.startswith("resume=")))
