"""Iteration over plain containers, as JSON and YAML return them, with the path of each value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def values_in(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path (``model.head.0``) and the value of ``node`` and of everything in it, parents before children."""
    yield path, node
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in children:
        yield from values_in(value, f"{path}.{key}" if path else str(key))
