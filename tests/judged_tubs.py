"""Import mutated tubs, each in a process of its own, and judge what came of it.

``python tests/judged_tubs.py FOLDER FIRST COUNT`` prints one JSON line a tub: seed, mutations, verdict, message, CPU
seconds, MiB. Verdicts are ``imported`` and ``refused``, which are right, and the faults in FAULTS.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from mutated_tubs import NUM_FRAMES, mutate, write_small_tub

from mobile_vla.data.importers.donkeycar import import_tub
from mobile_vla.data.sources.tubs.split import TubOptions
from mobile_vla.errors import UserError

FAULTS = ("crash", "hang", "memory", "read outside", "unnamed", "silent")

_MAX_CPU_S = 5
_MAX_WALL_S = 30  # a busy machine is no fault
_MAX_MIB = 1024


def run_mutated(folder: Path, seeds: range) -> Iterator[dict[str, Any]]:
    """Make, import and judge one tub a seed in ``folder``; yield a JSON-able result each."""
    for seed in seeds:
        place = folder / f"tub_{seed}"
        tub = write_small_tub(place / "tub")
        mutations = mutate(tub, seed)
        os.chdir(folder)
        result = _judge(tub, place / "out", place / "result.json")
        shutil.rmtree(place)
        yield {"seed": seed, "mutations": mutations, **result}


def _judge(tub: Path, out: Path, answer: Path) -> dict[str, Any]:
    child = os.fork()
    if child == 0:
        signal.alarm(_MAX_WALL_S)
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
        try:
            answer.write_text(json.dumps(_import(tub, out)))
        finally:
            os._exit(0)
    _, status, usage = os.wait4(child, 0)
    cost = {"cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "mib": usage.ru_maxrss // 1024}
    if os.WIFSIGNALED(status):
        fault = "hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
        return {"verdict": fault, "message": f"signal {os.WTERMSIG(status)}", **cost}
    result = json.loads(answer.read_text())
    if cost["cpu_s"] > _MAX_CPU_S:
        result["verdict"] = "hang"
    elif cost["mib"] > _MAX_MIB:
        result["verdict"] = "memory"
    elif out.exists() and result["verdict"] == "refused":
        result = {"verdict": "silent", "message": f"refused, but left {out}"}
    return {**result, **cost}


def _import(tub: Path, out: Path) -> dict[str, str]:
    opened: set[str] = set()
    sys.addaudithook(lambda event, args: opened.add(os.fsdecode(args[0])) if _is_open(event, args) else None)
    try:
        report = import_tub(tub, out, TubOptions(min_frames=1))
        result = {"verdict": "imported", "message": str(report)}
        lost = NUM_FRAMES - report.num_frames - report.num_deleted - report.num_autopilot
        if not _all_bright(out) or (lost != 0 and not any("records" in text for text in report.warnings)):
            result["verdict"] = "silent"
    except UserError as error:
        result = {"verdict": "refused" if str(tub) in str(error) else "unnamed", "message": str(error)}
        if len(str(error)) > 2000 or not str(error).isprintable():
            result["verdict"] = "unnamed"
    except BaseException as error:
        result = {"verdict": "crash", "message": f"{type(error).__name__}: {error}"}
    places = (str(tub.parent / "outside"), "/etc/passwd", "/dev/", "/proc/")
    if outside := [name for name in map(os.path.realpath, opened) if name.startswith(places)]:
        result = {"verdict": "read outside", "message": f"{outside}: {result['message']}"}
    return result


def _is_open(event: str, args: tuple[Any, ...]) -> bool:
    return event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], str | bytes)


def _all_bright(out: Path) -> bool:
    """Return whether every frame has light in it, as every frame of ``write_small_tub`` has."""
    for path in out.iterdir():
        with h5py.File(path) as file:
            if not all(np.any(frame) for frame in file["images"]):  # pyright: ignore
                return False
    return True


if __name__ == "__main__":
    for line in run_mutated(Path(sys.argv[1]).resolve(), range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3]))):
        print(json.dumps(line), flush=True)
