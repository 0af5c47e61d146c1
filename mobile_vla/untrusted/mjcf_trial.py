"""Compile an MJCF file in a process of its own, which may take so much time and memory and no more.

This file is also what that process runs: it loads MuJoCo's library alone, in 30 ms, where the package takes 300.
"""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

MAX_SECONDS = 4
"""Of the processor."""

MAX_BYTES = 3 * 2**28
"""Beside what MuJoCo's library takes itself."""

_REFUSED = 3


def try_to_compile(files: Sequence[Path], *, library: Path) -> str | None:
    """Return what is wrong with the MJCF file ``files[0]``, which is made of all of them; None where it compiles.

    ``library`` is MuJoCo's. What was tried is not tried again while the files are the same.
    """
    states = [path.stat() for path in files]
    return _tried(
        files[0].absolute(), library, tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)
    )


@lru_cache(maxsize=256)
def _tried(path: Path, library: Path, state: tuple[tuple[int, int, int], ...]) -> str | None:
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo writes its log where it runs
        command = [sys.executable, "-I", "-S", __file__, str(library), str(path), str(MAX_SECONDS), str(MAX_BYTES)]
        tried = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = " ".join(tried.stdout.decode("utf-8", "replace").split())
    if tried.returncode == 0:
        return None
    if tried.returncode == _REFUSED and "memory" not in said and "unknown exception" not in said:
        return said
    limits = f"{MAX_SECONDS} s or {MAX_BYTES / 2**30:.2f} GiB"
    return f"it takes more than {limits} to compile{f' ({said})' if said else ''}; make it smaller"


def _compile(library: str, path: str, max_seconds: int, max_bytes: int) -> int:
    """Compile ``path`` under limits and return the exit code; what MuJoCo refuses is said on stdout."""
    mujoco = ctypes.CDLL(library)
    mujoco.mj_loadAllPluginLibraries(str(Path(library).parent / "plugin").encode(), None)
    mujoco.mj_loadXML.restype = mujoco.mj_makeData.restype = ctypes.c_void_p
    mujoco.mj_makeData.argtypes = [ctypes.c_void_p]
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + max_bytes, taken + max_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (max_seconds, max_seconds))
    said = ctypes.create_string_buffer(2000)
    model = mujoco.mj_loadXML(path.encode("utf-8", "surrogateescape"), None, said, len(said))
    if model and mujoco.mj_makeData(model):
        return 0
    print(said.value.decode("utf-8", "replace") or "its data need too much memory")
    return _REFUSED


if __name__ == "__main__":
    sys.exit(_compile(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
