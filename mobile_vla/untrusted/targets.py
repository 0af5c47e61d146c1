"""Decide which classes and functions a file of somebody else may name: this package's own, and those that are trusted.

Hydra builds whatever a ``_target_`` names, and to look a name up is to import its module, which runs it. So every name
is held against the list before anything is imported.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

from mobile_vla.config import CONF
from mobile_vla.errors import UserError
from mobile_vla.untrusted.containers import values_in

_TARGET = re.compile(r"^\s*_target_:\s*([\w.]+)\s*(?:#.*)?$", re.MULTILINE)

UNREAD_KEYS = frozenset({"_args_", "_recursive_", "_convert_", "_mode_"})
"""What Hydra takes beside a target and ``_partial_``, and no option of the config groups uses."""


@cache
def own_targets() -> Mapping[str, frozenset[str]]:
    """Return, by config group such as ``sampler``, every ``_target_`` that stands in one of its options."""
    return {
        group.name: frozenset(
            name for path in group.rglob("*.yaml") for name in _TARGET.findall(path.read_text(encoding="utf-8"))
        )
        for group in CONF.iterdir()
        if group.is_dir()
    }


def targets_of(config: object) -> frozenset[str]:
    """Return every ``_target_`` in ``config``, plain containers: what whoever wrote it has named."""
    return frozenset(str(node["_target_"]) for _, node in _nodes(config) if "_target_" in node)


def check_targets(config: Mapping[str, Any], *, place: object, trust: Collection[str]) -> None:
    """Raise ``UserError`` with every name in ``config`` that stands in no option of its group nor in ``trust``.

    ``config`` is made of plain containers, its keys are config groups; ``place`` is said to hold it. Nothing is
    imported.
    """
    wrong, unknown = [], set()
    for path, node in _nodes(config):
        own = own_targets().get(path.split(".")[0], frozenset())
        wrong += [f"{path}.{key}" for key in node if key in UNREAD_KEYS]
        if not isinstance(node.get("_partial_", False), bool):
            wrong.append(f"{path}._partial_: {node['_partial_']!r}")
        name = node.get("_target_")
        if "_target_" in node and not (isinstance(name, str) and (name in own or name in trust)):
            unknown.add((f"{path}._target_", str(name)))
    if wrong:
        raise UserError(
            f"{place}: sets {', '.join(sorted(wrong))}; of what Hydra takes besides arguments, _target_ and _partial_ "
            "(true or false) are read from a stored config. Remove it."
        )
    if unknown:
        names = sorted({name for _, name in unknown})
        listed = "\n".join(f"  {path}: {name!r}" for path, name in sorted(unknown))
        raise UserError(
            f"{place}: names what is no option of mobile_vla's config groups, so nothing of it is imported:\n{listed}\n"
            f"If it is yours and you trust it, name it: {' '.join(f'--trust {name}' for name in names)} (run.py: "
            f"'trust=[{','.join(names)}]'; Policy.load: trust=[...])."
        )


def defined_object(name: str) -> Callable[..., Any]:
    """Import and return the class or function ``name``, which ``check_targets`` has let pass.

    Raises ``UserError`` where its module does not define it: what a module imports could be anything.
    """
    module_name, _, own_name = name.rpartition(".")
    found = vars(importlib.import_module(module_name)).get(own_name) if module_name else None
    if not callable(found) or getattr(found, "__module__", None) != module_name:
        raise UserError(f"names {name}, which is not a class or function defined there")
    return found


def _nodes(node: object) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield every mapping in ``node`` and where it stands."""
    yield from ((where, value) for where, value in values_in(node) if isinstance(value, Mapping))
