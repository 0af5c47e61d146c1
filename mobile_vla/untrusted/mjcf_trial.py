"""The trial compilation of an MJCF file, in a separate process with limits on time and memory.

That process runs this file as a script. It loads only MuJoCo's C library, which takes 30 ms; importing the Python
package takes 300 ms.
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
"""Limit of the processor time."""

MAX_BYTES = 3 * 2**28
"""Limit of the memory in addition to what MuJoCo's library needs itself."""

_REFUSED = 3


def try_to_compile(files: Sequence[Path], *, library: Path) -> str | None:
    """Return what is wrong with the MJCF file ``files[0]``; None where it compiles.

    ``files`` are that file and all files that it includes or refers to. ``library`` is the path of MuJoCo's library.
    The result is cached as long as the files do not change.
    """
    states = [path.stat() for path in files]
    return _tried(
        files[0].absolute(), library, tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)
    )


@lru_cache(maxsize=256)
def _tried(path: Path, library: Path, state: tuple[tuple[int, int, int], ...]) -> str | None:
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo writes its log file into the working folder
        # -I and -S: neither the working folder nor site-packages are needed, and without them Python starts faster.
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
    """Compile ``path`` under limits and return the exit code; MuJoCo's error message is printed on stdout."""
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
