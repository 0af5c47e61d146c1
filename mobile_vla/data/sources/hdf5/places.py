"""The places of an episode's parts in an HDF5 file: a layout's keys, looked up, and which layout fits a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from mobile_vla.data.sources.hdf5.images import holds_images, image_data
from mobile_vla.data.sources.hdf5.layout import AUTO, Layout, keys_like, shipped_layouts
from mobile_vla.data.sources.hdf5.links import (
    AmbiguousKeyError,
    MissingKeyError,
    find_object,
    missing_keys,
    of_layouts,
)
from mobile_vla.data.sources.hdf5.signals import is_numeric, numeric_data
from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.spec import clean_names
from mobile_vla.text import listed

CAMERA = "camera"
"""The name of a camera whose key holds none."""

_MAX_TRIED = 10
"""Maximum number of episodes of a file that are compared with a layout: the first ones may be damaged."""

_CLASSIC = ("images", "observations/images")
"""The keys of images that were read before there were layouts."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """The full keys of one episode's parts: data sets by camera, of the actions and of the state.

    ``state`` has the name of each data set's columns with its key. ``episode`` is empty where the file is the episode.
    ``holds_both`` says that the file has images at both keys that were read before there were layouts.
    """

    episode: str
    actions: tuple[str, ...]
    cameras: Mapping[str, str]
    state: Mapping[str, str]
    lengths: str | None
    holds_both: bool = False

    @property
    def part(self) -> dict[str, Any]:
        """The places as JSON values.

        They are empty for what was read before there were layouts, so that such files keep their digests. Then a file
        with images at both keys was refused: it has its places, because the images of the two keys are other data.
        """
        is_classic = tuple(self.cameras.values()) in [(key,) for key in _CLASSIC] and not self.holds_both
        if not self.episode and self.actions == ("actions",) and is_classic and not self.state:
            return {}
        return {
            "episode": self.episode,
            "actions": list(self.actions),
            "cameras": dict(self.cameras),
            "state": dict(self.state),
            "lengths": self.lengths,
        }


def fitting_layout(file: h5py.File, layout: Layout, path: Path) -> tuple[Layout, Places]:
    """Return the layout to read ``file`` with, and the places of the first episode that fits it.

    It is ``layout`` itself, but for ``auto`` the one that fits. Raises ``DataError`` where none fits or several do: it
    lists what was found, and what would read it.
    """
    if layout.name != AUTO:
        return layout, _checked_places(file, layout, path)
    known = [each.recognised_in(file, path) for each in shipped_layouts()]
    shipped, errors = _fitting(file, known, path)
    if layout.is_own:
        conventions = [each for each, _ in shipped]
        return _own_places(file, layout, path, known=known, conventions=conventions)
    if not shipped:
        if certain := [error for error in errors if not isinstance(error, MissingKeyError)]:
            raise certain[0]
        lack = f"fits none of the layouts {listed([each.name for each in known])}"
        raise missing_keys(file, path, lack, expected=("images", "actions"))
    return _only(shipped, path)


def _only(fitting: Sequence[tuple[Layout, Places]], path: Path) -> tuple[Layout, Places]:
    """Return the first of the layouts that fit; raises ``DataError`` where they have different places."""
    first, places = fitting[0]
    if any(found != places for _, found in fitting):
        names = [each.name for each, _ in fitting]
        ways = " or ".join(f"dataset/layout={name}" for name in names)
        raise DataError(f"{path}: fits the layouts {listed(names)}. Say which of them it has: {ways}.")
    return first, places


def _own_places(
    file: h5py.File, layout: Layout, path: Path, *, known: Sequence[Layout], conventions: Sequence[Layout]
) -> tuple[Layout, Places]:
    """Return the layout with the user's own keys, and the first places that fit it.

    What the user does not state is that of the first of ``conventions``, the layouts of ``known`` that fit the file;
    where none does, that of any other with which the keys are found.
    """
    fitting, errors = _fitting(file, [each.with_own_keys(layout) for each in conventions], path)
    if fitting:
        return fitting[0] if layout.names_data else _only(fitting, path)
    others = [each.with_own_keys(layout) for each in known if each not in conventions]
    found, of_others = _fitting(file, [*([layout] if layout.has_own_keys else []), *others], path)
    if found:
        return found[0]
    errors += of_others
    error = next((each for each in errors if not isinstance(each, MissingKeyError)), errors[0])
    raise _with_remedy(file, path, error, fitting=[each.name for each in conventions], is_own=True)


def _checked_places(file: h5py.File, layout: Layout, path: Path) -> Places:
    """Return the first places that fit ``layout``; the error without any names a layout that the file fits."""
    try:
        return _first_places(file, layout, path)
    except (UnreadableNowError, AmbiguousKeyError):
        raise
    except DataError as error:
        fitting = [each.name for each, _ in _fitting(file, shipped_layouts(), path)[0]]
        raise _with_remedy(file, path, error, fitting=fitting, is_own=bool(layout.images)) from error


def _with_remedy(file: h5py.File, path: Path, error: DataError, *, fitting: Sequence[str], is_own: bool) -> DataError:
    """Return ``error`` with what would read the file: a layout that fits it, or other keys."""
    if isinstance(error, MissingKeyError):
        return missing_keys(file, path, str(error), expected=error.expected, fitting=fitting, is_own=is_own)
    return DataError(f"{error} {of_layouts(fitting, is_own=is_own)}") if fitting else error


def _fitting(
    file: h5py.File, layouts: Sequence[Layout], path: Path
) -> tuple[list[tuple[Layout, Places]], list[DataError]]:
    """Return the layouts that fit, each with the places of its first episode, and the errors of the others."""
    found, errors = [], []
    for layout in layouts:
        try:
            found.append((layout, _first_places(file, layout, path)))
        except AmbiguousKeyError:
            raise
        except DataError as error:
            errors.append(error)
    return found, errors


def _first_places(file: h5py.File, layout: Layout, path: Path) -> Places:
    """Return the places of the first episode that has all of them; raises the error of the first where none has."""
    first_error = None
    for episode in episode_groups(file, layout, path)[:_MAX_TRIED]:
        try:
            return places_of(file, layout, episode, path)
        except DataError as error:
            first_error = first_error or error
    raise first_error or MissingKeyError([layout.episodes])


def episode_groups(file: h5py.File, layout: Layout, path: Path) -> list[str]:
    """Return the keys of the groups that are episodes, numbers in numeric order; ``[""]`` where the file is one."""
    if not layout.episodes:
        return [""]
    keys = [key for key, _ in keys_like(file, "", layout.episodes, path)]
    return [key for key in keys if isinstance(find_object(file, key, path), h5py.Group)]


def places_of(file: h5py.File, layout: Layout, episode: str, path: Path) -> Places:
    """Return the places of the episode in the group ``episode`` of the file.

    Raises ``MissingKeyError`` where a key of the layout is not there, and ``DataError`` where what is there has another
    form, or is in another file. No data are read but the first bytes of some images.
    """
    cameras = _cameras(file, layout, episode, path)
    actions = []
    for key in layout.action_keys:
        for full, _ in _required(file, episode, key, path):
            numeric_data(find_object(file, full, path), full, path, what="actions")
            actions.append(full)
    if not actions:
        raise MissingKeyError(["actions"])
    lengths = next((key for key, _ in keys_like(file, episode, layout.lengths, path)), None) if layout.lengths else None
    state = _state(file, layout, episode, path, taken=set(cameras.values()))
    return Places(
        episode=episode,
        actions=tuple(actions),
        cameras=cameras,
        state=state,
        lengths=lengths,
        holds_both=all(key in cameras.values() or _is_dataset(file, key, path) for key in _CLASSIC),
    )


def _is_dataset(file: h5py.File, key: str, path: Path) -> bool:
    try:
        return isinstance(find_object(file, key, path), h5py.Dataset)
    except DataError:  # in another file, for example: it may be one, and is not read
        return True


def _cameras(file: h5py.File, layout: Layout, episode: str, path: Path) -> dict[str, str]:
    if layout.images:
        found = [(name, key) for name, own in layout.images.items() for key, _ in _required(file, episode, own, path)]
    else:
        found = list(_matching_cameras(file, layout, episode, path))
    if not found:
        raise MissingKeyError(list(layout.images.values()) or list(layout.cameras) or ["images"])
    by_name: dict[str, str] = {}
    for name, key in found:
        first = by_name.setdefault(name, key)
        if first != key:
            raise AmbiguousKeyError(
                f"{path}: holds both keys '{first}' and '{key}'. Keep one of them, or name the one to read: "
                f"dataset.layout.images.{name}={first.removeprefix(f'{episode}/')}."
            )
        node = find_object(file, key, path)
        if isinstance(node, h5py.Group):
            raise MissingKeyError([key], found=f"key '{key}' is a group, not a data set of images")
        image_data(node, key, path)
    return dict(zip(clean_names(by_name), by_name.values(), strict=True))


def _matching_cameras(file: h5py.File, layout: Layout, episode: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the key of each camera of the layout's patterns.

    A group at a key of no pattern is none where the layout has patterns below it: ``images`` may be either.
    """
    for pattern in layout.cameras:
        for key, name in keys_like(file, episode, pattern.removesuffix("?"), path):
            node = find_object(file, key, path)
            is_above = any(other.startswith(f"{pattern}/") for other in layout.cameras)
            if isinstance(node, h5py.Group) and is_above and len(node):
                continue
            if not pattern.endswith("?") or holds_images(node, key, path):
                yield name or CAMERA, key


def _state(file: h5py.File, layout: Layout, episode: str, path: Path, *, taken: set[str]) -> dict[str, str]:
    """Return the name and the key of each data set of the state; those of a pattern with ``*`` need not be numbers."""
    found: dict[str, str] = {}
    for pattern in layout.state_keys:
        has_wildcard = "*" in pattern
        for key, name in (
            keys_like(file, episode, pattern, path) if has_wildcard else _required(file, episode, pattern, path)
        ):
            node = find_object(file, key, path)
            if (
                key in taken
                or key in found.values()
                or ((has_wildcard or pattern.endswith("?")) and not is_numeric(node))
            ):
                continue
            numeric_data(node, key, path, what="state")
            found[name or key.rsplit("/", 1)[-1]] = key
    return dict(zip(clean_names(found), found.values(), strict=True))


def _required(file: h5py.File, episode: str, key: str, path: Path) -> list[tuple[str, str]]:
    found = keys_like(file, episode, key, path)
    if not found and not key.endswith("?"):
        raise MissingKeyError([key])
    return found
