"""Refuse to be one of several processes that were started for one run."""

from __future__ import annotations

import os


def check_alone() -> None:
    """Raise ``SystemExit`` in every process of a launcher that starts several for one run, as ``torchrun`` does.

    Tasks of ``srun`` may be runs of their own; where they are not, the run folder's owner turns the others away.
    """
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size.isdecimal() and int(world_size) > 1:
        raise SystemExit(
            f"error: WORLD_SIZE={world_size}: {world_size} processes were started for one run, as torchrun and "
            "accelerate do, and each would train all of it. Training in several processes is not supported so far: "
            "start one (python run.py ...), and use several GPUs or cores by a sweep of several jobs."
        )
