"""Import torchrl with its C++ trees, which its prioritised sampler needs, whatever torch they were compiled for."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from torch.utils.cpp_extension import load

os.environ.setdefault("RL_WARNINGS", "0")  # of the trees, which are seen to here
os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")

import torchrl

_NAME = "_torchrl"
_SOURCES = ("pybind.cpp", "utils.cpp")


def import_trees() -> str:
    """Import ``torchrl.data`` with its trees, and say where they are from; call it before that is imported otherwise.

    A wheel of torchrl fits one version of torch. Where that is not the one here, the C++ that the wheel carries is
    compiled for it once: half a minute, with a C++ compiler and ninja, kept where torch keeps its extensions.
    """
    found = "torchrl's trees as in its wheel"
    try:
        importlib.import_module(f"torchrl.{_NAME}")
    except ImportError:
        folder = Path(torchrl.__path__[0], "csrc")
        trees = load(_NAME, [str(folder / name) for name in _SOURCES], extra_cflags=["-O3"])
        assert isinstance(trees, ModuleType)
        sys.modules[f"torchrl.{_NAME}"] = trees
        found = "torchrl's trees compiled here with -O3, as its wheel's do not fit this torch"
    importlib.import_module("torchrl.data")
    return found
