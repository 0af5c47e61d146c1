"""Check that this process is not one of several that a launcher started for one run."""

from __future__ import annotations

import os

from mobile_vla.installation import TRAIN


def check_alone() -> None:
    """Raise ``SystemExit`` if a launcher such as ``torchrun`` started several processes for one run.

    The tasks of ``srun`` are not checked here, because each may be a run of its own. If they share one run folder, the
    lock of the folder stops all but one.
    """
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size.isdecimal() and int(world_size) > 1:
        raise SystemExit(
            f"error: WORLD_SIZE={world_size}: {world_size} processes were started for one run, as torchrun and "
            "accelerate do, and each would train all of it. Training in several processes is not supported so far: "
            f"start one ({TRAIN} ...), and use several GPUs or cores by a sweep of several jobs."
        )
