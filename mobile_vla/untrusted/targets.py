"""The check of targets in files from other people: only this package's own targets and trusted ones are allowed.

Hydra instantiates any class or function that ``_target_`` names. Looking up a name imports its module, and importing a
module runs its code. Therefore every name is compared with the list of allowed names before anything is imported.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.installation import CONF
from mobile_vla.untrusted.containers import values_in

_TARGET = re.compile(r"^\s*_target_:\s*([\w.]+)\s*(?:#.*)?$", re.MULTILINE)

UNREAD_KEYS = frozenset({"_args_", "_recursive_", "_convert_", "_mode_"})
"""Hydra's other special keys besides ``_target_`` and ``_partial_``; no option of the config groups uses them."""


@cache
def own_targets() -> Mapping[str, frozenset[str]]:
    """Return, by config group such as ``sampler``, every ``_target_`` in the group's option files."""
    # A pattern on the text is enough, because the option files are this package's own.
    return {
        group.name: frozenset(
            name for path in group.rglob("*.yaml") for name in _TARGET.findall(path.read_text(encoding="utf-8"))
        )
        for group in CONF.iterdir()
        if group.is_dir()
    }


def targets_of(config: object) -> frozenset[str]:
    """Return every ``_target_`` in ``config``, which consists of plain containers."""
    return frozenset(str(node["_target_"]) for _, node in _nodes(config) if "_target_" in node)


def check_targets(config: Mapping[str, Any], *, place: object, trust: Collection[str]) -> None:
    """Raise ``UserError`` with all targets in ``config`` that are neither in an option of their group nor in ``trust``.

    ``config`` consists of plain containers; its keys are config groups. ``place`` is where it was read, for the
    message. Nothing is imported.
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
        if any(name.startswith("mobile_vla.") for name in names):
            listed += (
                "\nNames of mobile_vla that it does not have are those of another version: use that version for it."
            )
        raise UserError(
            f"{place}: names targets that no option of mobile_vla's config groups has, so none is imported:\n{listed}\n"
            f"If it is yours and you trust it, name it: {' '.join(f'--trust {name}' for name in names)} (training: "
            f"'trust=[{','.join(names)}]'; Policy.load: trust=[...])."
        )


def defined_object(name: str) -> Callable[..., Any]:
    """Import and return the class or function ``name``, which ``check_targets`` must have accepted before.

    Raises ``UserError`` where its module does not define it: a name that the module only imports could be anything, for
    example ``subprocess.run`` as an attribute of a trusted module.
    """
    module_name, _, own_name = name.rpartition(".")
    found = vars(importlib.import_module(module_name)).get(own_name) if module_name else None
    if not callable(found) or getattr(found, "__module__", None) != module_name:
        raise UserError(f"names {name}, which is not a class or function defined there")
    return found


def _nodes(node: object) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the path and the value of every mapping in ``node``."""
    yield from ((where, value) for where, value in values_in(node) if isinstance(value, Mapping))
