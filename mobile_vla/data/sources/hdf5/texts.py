"""The texts in an HDF5 file: the instruction and names that may hold one, attributes, lists of episodes, JSON."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mobile_vla.data.sources.contract import RecordedTexts
from mobile_vla.data.sources.hdf5.errors import describe, report_damage
from mobile_vla.data.sources.hdf5.links import find_object, is_text
from mobile_vla.errors import DataError, UserError
from mobile_vla.untrusted.files import parse_json

INSTRUCTION_KEY = "language_instruction"

_MAX_TEXT_BYTES = 2**16
"""Maximum size of one text, and of the texts that are read at once."""

_MAX_TEXTS = 1_000_000
_MAX_NAMES = 100
"""Maximum number of keys, and of attributes, that are searched for a name that suggests an instruction."""

_MAX_NAME = 80
"""Maximum length of such a name: a longer one suggests nothing, and cut it could not be read."""

_MAX_JSON_BYTES = 2**20
"""Maximum size of a description of an environment; with its model in MJCF it has 100 kB."""

_MAX_FIELDS, _MAX_FIELD_LENGTH = 50, 200

_Attribute: Any = h5py.h5a.AttrID  # h5py has no types for it

_OTHER_NAMES = ("instruction", "instructions", "task", "lang", "language", "text", "prompt", "command", "goal")


def read_instruction(
    file: h5py.File, path: Path, *, order: Collection[str], places: Sequence[str], episode: str
) -> RecordedTexts:
    """Return the texts of the episode in the group ``episode``, from those sources that are in ``order``.

    The source ``file`` has the first text at one of ``places`` (keys, attributes, or fields of JSON in an attribute),
    the source ``attribute`` the attribute ``language_instruction`` of the episode, or of the file. Raises ``DataError``
    where one is not a text, is too long, or differs between frames.
    """
    key = attribute = None
    found_at = ""
    for place in places if "file" in order else ():
        if key is None and (key := _text_at(file, place, path, episode=episode) or None):
            name, _, at = place.partition("@")
            found_at = f"attribute {at} of {name or 'the episode'}" if at else f"key {name}"
    group = find_object(file, episode, path)
    holders = [group, file] if episode else [file]
    for node in holders if "attribute" in order else ():
        attribute = attribute or _attribute_text(node, INSTRUCTION_KEY, f"{path}: attribute '{INSTRUCTION_KEY}'")
    if key or attribute or not {"file", "attribute"} & set(order):
        return RecordedTexts(key=key, place=found_at, attribute=attribute)
    with report_damage(f"{path}: its keys and attributes cannot be listed"):
        return RecordedTexts(similar_names=tuple(_similar_names(holders[0], order)))


def _text_at(file: h5py.File, place: str, path: Path, *, episode: str) -> str | None:
    """Return the text at ``KEY``, ``KEY@ATTRIBUTE`` or ``KEY@ATTRIBUTE.NAME``; None where it is not there."""
    if "@" in place:
        found = value_at(file, place, path, episode=episode)
        text = "".join(found) if isinstance(found, list) and all(isinstance(part, str) for part in found) else found
        # LIBERO writes the text in quotes, and some of its files as a list of characters.
        return text.strip().strip('"')[:_MAX_TEXT_BYTES] or None if isinstance(text, str) else None
    key = full_key(place, episode)
    node = find_object(file, key, path)
    if node is None:
        return None
    place = f"{path}: key '{key}'"
    with report_damage(f"{place} cannot be read"):
        found = describe(node)
    return _text_of(node, found, place, source="file")


def value_at(file: h5py.File, place: str, path: Path, *, episode: str) -> Any:
    """Return the value at ``KEY@ATTRIBUTE``: a text or a number, and at ``KEY@ATTRIBUTE.NAME.NAME`` what JSON holds.

    None where it is not there. Raises ``DataError`` where the attribute is not the JSON that it should be.
    """
    key, _, attribute = place.partition("@")
    name, *fields = attribute.split(".")
    full = full_key(key, episode)
    node = find_object(file, full, path)
    value: Any = None if node is None else _short_attribute(node, name, f"{path}: attribute '{name}'")
    if fields and value is not None:
        value = _parsed(value, f"{path}: attribute '{name}'")
    for field in fields:
        value = value.get(field) if isinstance(value, dict) else None
    return value


def full_key(key: str, episode: str) -> str:
    """Return ``key``, which is of the file's root where it begins with ``/``, as a key from the root."""
    return key.strip("/") if key.startswith("/") else f"{episode}/{key}".strip("/")


def json_at(file: h5py.File, place: str, path: Path, *, episode: str) -> Any:
    """Return the content of the JSON text at ``KEY@ATTRIBUTE``; None where it is not there."""
    text = value_at(file, place, path, episode=episode)
    return None if text is None else _parsed(text, f"{path}: attribute '{place.partition('@')[2]}'")


def _parsed(text: object, place: str) -> Any:
    try:
        return parse_json(str(text), place=place)
    except UserError as error:
        raise DataError(f"{error}. Write the attribute again, or leave it out of dataset.layout.") from error


def attribute_texts(node: Any, name: str, place: str) -> list[str] | None:
    """Return the texts in the attribute ``name`` of ``node``, a list of them; None where it holds none."""
    with report_damage(f"{place} cannot be read"):
        if name not in node.attrs:
            return None
        attribute = node.attrs.get_id(name)
        if attribute.shape is None or len(attribute.shape) != 1 or attribute.dtype.kind not in "SOU":
            return None
        if attribute.get_storage_size() > _MAX_TEXT_BYTES:
            raise DataError(f"{place} has an attribute '{name}' of more than {_MAX_TEXT_BYTES} bytes. Remove it.")
        return [_decoded(value, "", f"{place}, attribute '{name}'", "") for value in _values_of(attribute, 0)]


def _short_attribute(node: Any, name: str, place: str) -> str | float | int | bool | None:
    """Return a scalar attribute, or the only value of one; None where there is none, or a table or another type."""
    with report_damage(f"{place} cannot be read"):
        if name not in node.attrs:
            return None
        attribute = node.attrs.get_id(name)
        if attribute.shape is None or attribute.shape not in ((), (1,)) or attribute.dtype.kind not in "SOUfiub":
            return None
        if attribute.get_storage_size() > _MAX_JSON_BYTES:
            return None
        [value] = _values_of(attribute, 1)
    return _decoded(value, "", place, "", limit=_MAX_JSON_BYTES) if isinstance(value, bytes | str) else _number(value)


def _number(value: object) -> float | int | bool | None:
    return value if isinstance(value, float | int | bool) else None


def fields_of(nodes: Sequence[Any], place: str) -> dict[str, str]:
    """Return the attributes of ``nodes`` that are numbers or short texts, as texts by name; a later node's win.

    At most 50 of each node and 200 characters each: they are names of scenarios and the like, not tables.
    """
    found: dict[str, str] = {}
    for node in nodes:
        with report_damage(f"{place}: its attributes cannot be listed"):
            names = [str(name) for name in islice(node.attrs, _MAX_FIELDS)]
        for name in names:
            try:
                value = _short_attribute(node, name, f"{place}: attribute '{name}'")
            except DataError:  # damaged or not UTF-8: no field; whoever needs the attribute itself reports it
                continue
            text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            if text and len(text) <= _MAX_FIELD_LENGTH:
                found[name[:_MAX_FIELD_LENGTH]] = text
    return found


def texts_in(node: Any, place: str) -> list[str]:
    """Return the texts in a data set that lists names, such as those of a mask's episodes."""
    with report_damage(f"{place} cannot be read"):
        if not isinstance(node, h5py.Dataset) or node.shape is None or node.ndim != 1 or node.dtype.kind not in "SOU":
            return []
        if len(node) > _MAX_TEXTS or node.dtype.itemsize > _MAX_TEXT_BYTES:
            raise DataError(f"{place} is {describe(node)}; expected a list of short names. Remove it.")
        return [_decoded(value, "", place, "") for value in _values_of(node, len(node))]


def _attribute_text(node: Any, name: str, place: str) -> str | None:
    with report_damage(f"{place} cannot be read"):
        if name not in node.attrs:
            return None
        attribute = node.attrs.get_id(name)
    found = f"{'empty' if attribute.shape is None else list(attribute.shape)} {attribute.dtype}"
    return _text_of(attribute, found, place, source="attribute")


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


def _decoded(value: object, found: str, place: str, remedy: str, *, limit: int = _MAX_TEXT_BYTES) -> str:
    if not isinstance(value, bytes | str):
        raise DataError(f"{place} is {found}; expected one text, such as [1] S256. {remedy}")
    if len(value) > limit:
        raise DataError(f"{place} holds {len(value)} bytes; expected one text of at most {limit}. {remedy}")
    try:
        # h5py decodes attributes itself and represents bytes that are not UTF-8 as surrogates; this restores them.
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        return content.decode("utf-8").strip()
    except UnicodeError as error:
        raise DataError(f"{place} is not UTF-8 ({error}). Write the text as UTF-8.") from error


def _similar_names(group: h5py.Group, order: Collection[str]) -> Iterator[str]:
    """Yield keys and attributes of ``group`` whose names suggest an instruction; below its groups, keys of texts."""
    texts: list[str] = []
    num_seen = 0

    def add(key: str, node: object) -> bool | None:
        nonlocal num_seen
        num_seen += 1
        if "/" in key and is_text(node):
            texts.append(key)
        return True if num_seen >= _MAX_NAMES else None

    group.visititems(add)
    for kind, source, names in (
        ("key", "file", [*islice(group, _MAX_NAMES), *texts]),
        ("attribute", "attribute", islice(group.attrs, _MAX_NAMES)),
    ):
        for text in map(str, names):
            is_read = text == INSTRUCTION_KEY and source in order
            name = text.rsplit("/", 1)[-1].lower()
            is_close = difflib.get_close_matches(name, (INSTRUCTION_KEY, *_OTHER_NAMES), n=1, cutoff=0.85)
            if is_close and not is_read and len(text) <= _MAX_NAME:
                yield f"{kind} '{text}'"
