"""The signals and cameras that most episodes of a data set have; others cannot be used together with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mobile_vla.errors import DataError
from mobile_vla.spec import Signal, Spec
from mobile_vla.text import shortened


def most_frequent(specs: Sequence[Spec]) -> tuple[Spec, int]:
    """Return the first spec with the most frequent signals and cameras, and how many have these; ties go by order."""
    counts: list[tuple[Spec, int]] = []
    by_object = Counter(map(id, specs))
    for spec in {id(spec): spec for spec in specs}.values():
        number = by_object[id(spec)]
        for index, (other, count) in enumerate(counts):
            if _differences(spec, other) is None:
                counts[index] = (other, count + number)
                break
        else:
            counts.append((spec, number))
    return max(counts, key=lambda entry: entry[1])  # the first of equals


def other_signals(path: Path, spec: Spec, usual: Spec, *, whose: str) -> DataError | None:
    """Return the error of an episode whose signals or cameras are not the ``usual`` ones; None where they are."""
    what = _differences(spec, usual)
    if what is None:
        return None
    if what == "cameras":
        return DataError(
            f"{path}: has the cameras {', '.join(spec.camera_names) or '(none)'}, and {whose} "
            f"{', '.join(usual.camera_names) or '(none)'}. Name those that all have in dataset.cameras."
        )
    ours, theirs = (spec.actions, usual.actions) if what == "actions" else (spec.state, usual.state)
    return DataError(
        f"{path}: records the {what} {_listed(ours)}, and {whose} {_listed(theirs)}. "
        f"Name those that all have (dataset.actions, model.state), or give the folders apart."
    )


def _differences(spec: Spec, other: Spec) -> str | None:
    """Return the part in which two specs differ so that their episodes cannot be used together; None without any."""
    for what, ours, theirs in (("actions", spec.actions, other.actions), ("state", spec.state, other.state)):
        if ours is not theirs and ours != theirs:
            return what
    return "cameras" if spec.camera_names != other.camera_names else None


def _listed(signals: Sequence[Signal]) -> str:
    return shortened([f"{s.name} [{s.unit}]" if s.unit else s.name for s in signals], limit=8) if signals else "(none)"
