"""The instruction in an HDF5 file: its key, its attribute, and other names that may hold one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mobile_vla.data.sources.contract import RecordedTexts
from mobile_vla.data.sources.hdf5.errors import describe, report_damage
from mobile_vla.errors import DataError

INSTRUCTION_KEY = "language_instruction"

_MAX_TEXT_BYTES = 2**16
"""Maximum size of one text, and of the texts that are read at once."""

_MAX_TEXTS = 1_000_000
_MAX_NAMES = 100
"""Maximum number of keys, and of attributes, that are searched for a name that suggests an instruction."""

_Attribute: Any = h5py.h5a.AttrID  # h5py has no types for it

_OTHER_NAMES = ("instruction", "instructions", "task", "lang", "language", "text", "prompt", "command", "goal")


def read_instruction(file: h5py.File, path: Path, *, order: Collection[str]) -> RecordedTexts:
    """Return the texts in the file itself, from those sources that are in ``order``.

    Raises ``DataError`` where one is not a text, is too long, or differs between frames.
    """
    key = attribute = None
    if "file" in order and INSTRUCTION_KEY in file:
        place = f"{path}: key '{INSTRUCTION_KEY}'"
        with report_damage(f"{place} cannot be read"):
            node = file[INSTRUCTION_KEY]
        key = _text_of(node, describe(node), place, source="file")
    if "attribute" in order and INSTRUCTION_KEY in file.attrs:
        place = f"{path}: attribute '{INSTRUCTION_KEY}'"
        with report_damage(f"{place} cannot be read"):
            node = file.attrs.get_id(INSTRUCTION_KEY)
        found = f"{'empty' if node.shape is None else list(node.shape)} {node.dtype}"
        attribute = _text_of(node, found, place, source="attribute")
    if key or attribute or not {"file", "attribute"} & set(order):
        return RecordedTexts(key=key, attribute=attribute)
    with report_damage(f"{path}: its keys and attributes cannot be listed"):
        return RecordedTexts(similar_names=tuple(_similar_names(file, order)))


def _text_of(node: Any, found: str, place: str, *, source: str) -> str:
    """Return the one text of ``node``, a data set or an attribute, which holds it once or once per frame."""
    remedy = f"Write it so, or leave '{source}' out of dataset.instruction.order."
    if not isinstance(node, h5py.Dataset | _Attribute) or node.shape is None or node.dtype.kind not in "SOU":
        raise DataError(f"{place} is {found}; expected one text, such as [1] S256. {remedy}")
    num_texts = int(np.prod(node.shape, dtype=np.float64))
    is_long = node.dtype.itemsize > _MAX_TEXT_BYTES or num_texts > _MAX_TEXTS
    if is_long or (isinstance(node, _Attribute) and node.get_storage_size() > _MAX_TEXT_BYTES):
        raise DataError(f"{place} is {found}; expected one text of at most {_MAX_TEXT_BYTES} bytes. {remedy}")
    texts: dict[str, None] = {}  # a set that keeps the order
    with report_damage(f"{place} cannot be read"):
        for value in _values_of(node, num_texts):
            texts[_decoded(value, found, place, remedy)] = None
    if len(texts) == 1:
        return next(iter(texts))
    if not texts:
        raise DataError(f"{place} is {found}; expected one text, such as [1] S256. {remedy}")
    shown = " and ".join(repr(text[:40]) for text in islice(texts, 2))
    raise DataError(
        f"{place} is {found}; expected one text, and it holds {len(texts)} different ones, such as {shown}. {remedy}"
    )


def _values_of(node: Any, num_texts: int) -> Iterator[object]:
    """Yield the values, read in blocks of limited size, because a text for every frame can be large in total."""
    if isinstance(node, _Attribute):
        values = np.empty(node.shape, node.dtype)
        node.read(values)
        yield from values.reshape(-1).tolist()
    elif len(node.shape) == 1:
        step = max(_MAX_TEXT_BYTES // max(node.dtype.itemsize, 1), 1)
        for first in range(0, num_texts, step):
            yield from node[first : first + step].tolist()
    elif num_texts * node.dtype.itemsize <= _MAX_TEXT_BYTES:
        yield from np.asarray(node[()]).reshape(-1).tolist()


def _decoded(value: object, found: str, place: str, remedy: str) -> str:
    if not isinstance(value, bytes | str):
        raise DataError(f"{place} is {found}; expected one text, such as [1] S256. {remedy}")
    if len(value) > _MAX_TEXT_BYTES:
        raise DataError(f"{place} holds {len(value)} bytes; expected one text of at most {_MAX_TEXT_BYTES}. {remedy}")
    try:
        # h5py decodes attributes itself and represents bytes that are not UTF-8 as surrogates; this restores them.
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        return content.decode("utf-8").strip()
    except UnicodeError as error:
        raise DataError(f"{place} is not UTF-8 ({error}). Write the text as UTF-8.") from error


def _similar_names(file: h5py.File, order: Collection[str]) -> Iterator[str]:
    """Yield the keys and attributes at the file's top level whose names suggest an instruction."""
    for kind, source, names in (("key", "file", file), ("attribute", "attribute", file.attrs)):
        for name in islice(names, _MAX_NAMES):
            text = str(name)
            is_read = text == INSTRUCTION_KEY and source in order
            is_close = difflib.get_close_matches(text.lower(), (INSTRUCTION_KEY, *_OTHER_NAMES), n=1, cutoff=0.85)
            if is_close and not is_read:
                yield f"{kind} '{text[:40]}'"
