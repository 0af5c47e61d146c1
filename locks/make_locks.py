"""Write the locks in this folder: ``make lock``, or ``UPGRADE=1 make lock`` for the newest compatible versions.

Each lock has one version of each package and the digests of all files that the registry has for this version, so that
every platform finds its file and no other file is installed. Versions do not change until pyproject.toml requires it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parent / "pyproject.toml"

UV = "uv==0.13.9"

CPU_BUILDS = {"torch==2.13.0": ["6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"]}
"""sha256 of builds without CUDA, which torch publishes outside the registry: +cpu for Python 3.11, Linux x86-64."""

BUILDERS = ["setuptools"]
"""The build tools for packages without a wheel, such as Hydra's parser."""

_CUDA = re.compile(r"(nvidia-|cuda-|triton$)")

LOCKS = {
    "build": "What building a package needs; installed first, so that no build fetches another.",
    "main": "What the package and its development need (the extra dev), but torch.",
    "torch": "The registry's torch and, on Linux, the CUDA libraries that it loads: several GB.",
    "torch-cpu": "torch without CUDA, taken in place of torch.lock where pip is told of a place that has it.",
    "extras": "What the extras benchmark and gpu need besides.",
}


def main() -> None:
    """Resolve all requirements together, so that the versions are compatible, and write the locks."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        venv.create(folder / "environment", with_pip=True)
        python = folder / "environment" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", UV], check=True)
        builders = folder / "build.in"
        builders.write_text("\n".join([*tomllib.loads(PROJECT.read_text())["build-system"]["requires"], *BUILDERS]))
        extras = ["dev", "benchmark", "gpu"]
        everything = resolve(python, [PROJECT, builders], extras, folder / "all.txt", keep=read_locks())
        pins = "".join(f"{block.splitlines()[0].rstrip(chr(92))}\n" for block in everything.values())
        developing = resolve(python, [PROJECT, builders], ["dev"], folder / "dev.txt", keep=pins)
        build = resolve(python, [builders], [], folder / "build.txt", keep=pins).keys()
    torch = cuda_libraries(everything) | {"torch"}
    names = {
        "build": build,
        "main": developing.keys() - build - torch,
        "torch": torch,
        "extras": everything.keys() - developing.keys() - torch,
    }
    for lock, chosen in names.items():
        write(lock, [everything[name] for name in sorted(chosen)])
    write("torch-cpu", [cpu_build(everything["torch"])])


def read_locks() -> str:
    """Return the text of the current locks, whose versions uv then keeps; an empty text if UPGRADE is set."""
    if os.environ.get("UPGRADE"):
        return ""
    return "".join(file.read_text() for file in sorted(FOLDER.glob("*.lock")) if file.stem != "torch-cpu")


def resolve(python: Path, sources: list[Path], extras: list[str], out: Path, *, keep: str) -> dict[str, str]:
    """Return the lines of each package, by name, that ``sources`` with ``extras`` need on any platform.

    ``keep`` has the versions that uv must keep if they fit.
    """
    out.write_text(keep)
    how = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-config", "--quiet"]
    wanted = [argument for extra in extras for argument in ("--extra", extra)]
    command = [python, "-m", "uv", "pip", "compile", *sources, *wanted, *how, "-o", out]
    subprocess.run(command, cwd=PROJECT.parent, check=True)
    blocks = re.findall(r"^\S.*\n(?:[ \t].*\n)*", out.read_text(), re.MULTILINE)
    return {re.split(r"[=\[ ]", block, maxsplit=1)[0]: block for block in blocks}


def cuda_libraries(blocks: dict[str, str]) -> set[str]:
    """Return the CUDA libraries and the packages that only they need."""
    needed_by = {name: set(re.findall(r"^ +#(?: via)? {1,3}([\w-]+)", text, re.M)) for name, text in blocks.items()}
    found = {name for name in blocks if _CUDA.match(name)}
    while more := {name for name, parents in needed_by.items() if parents and parents <= found} - found:
        found |= more
    return found


def cpu_build(block: str) -> str:
    """Return the lines for torch's build without CUDA, in the version that ``block`` pins."""
    pin = re.split(r"[ ;\\]", block, maxsplit=1)[0]
    if pin not in CPU_BUILDS:
        sys.exit(f"{pin}: add the digests of its builds without CUDA to CPU_BUILDS, with `pip hash FILE`")
    return " \\\n".join([f"{pin}+cpu", *(f"    --hash=sha256:{digest}" for digest in CPU_BUILDS[pin])])


def write(lock: str, blocks: list[str]) -> None:
    """Write one lock: a comment that says what it is and how it was made, then its packages."""
    head = f"# {LOCKS[lock]}\n# Written by locks/make_locks.py (`make lock`) with {UV}; not to be edited.\n"
    text = head + "".join(re.sub(r"^ +#.*\n", "", block, flags=re.MULTILINE).rstrip(" \\\n") + "\n" for block in blocks)
    if "://" in text:
        sys.exit(f"{lock}.lock: would hold an address; make it where none is configured")
    (FOLDER / f"{lock}.lock").write_text(text)


if __name__ == "__main__":
    main()
