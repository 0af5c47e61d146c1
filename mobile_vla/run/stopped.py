"""Texts about a stopped run: what stopped it, and the command that continues it."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import find_in_run
from mobile_vla.process.interruption import this_program_with
from mobile_vla.run.build import Run
from mobile_vla.tracking.run_folder import RunFolder


def signal_name(number: int | None) -> str:
    """Return the name of the signal ``number`` for a summary."""
    return "a signal" if number is None else signal.Signals(number).name


def limit_of(run: Run, manifest: Mapping[str, Any]) -> str:
    """Return the limit that stopped a run before its planned end, as the user gave it."""
    call = manifest["calls"][-1] if manifest["calls"] else None
    if call is not None and call["num_steps"] == run.trainer.stop_at_step:
        return f"{' '.join(call['overrides'])} of this call; {run.num_steps} steps are planned"
    return f"trainer.stop_at_step={run.trainer.stop_at_step}"


def command_to_go_on(folder: RunFolder, overrides: Sequence[str], *, is_resumed: bool) -> str:
    """Return the command that continues the run in ``folder`` if it is stopped now.

    If there is a checkpoint of this run, it is ``resume=``, with the overrides of this call if this call itself was one
    with ``resume=``. Otherwise it is the same command again.
    """
    if folder.status == "done":  # only the upload to W&B was stopped
        return shlex.join([sys.orig_argv[0], "-m", "mobile_vla", "sync", str(folder.path)])
    again = this_program_with(*sys.argv[1:])
    if not is_resumed and not folder.has_rows:  # a checkpoint in the folder is then from an earlier run
        return again
    try:
        find_in_run(folder.path)
    except UserError:
        return again
    given = overrides if is_resumed else ()
    return this_program_with(f"resume={folder.path}", *(text for text in given if not text.startswith("resume=")))
