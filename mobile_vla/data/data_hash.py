"""The digest by which two runs know that they were measured on the same data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mobile_vla.data.labels.grammars import task_in_name, task_of
from mobile_vla.schema import Episode
from mobile_vla.spec import NORMALISED, Signal, Spec, known_signal


def data_hash(
    episodes: Sequence[Episode],
    *,
    spec: Spec,
    recorded: Spec,
    digests: Mapping[str, str],
    window_size: int,
    fwd_pred_next_n: int,
    padding: str,
) -> str:
    """Return the digest of what the windows of ``episodes`` are predicted and measured by; a pure function.

    It covers the content of the files (``digests`` by episode name), the names and labels of the episodes, the window
    settings, and of ``spec`` the action signals. ``recorded`` is the spec before the user's statements.
    """
    # Names and texts are hashed with the files' content because the file name gives scenario and instruction: the same
    # file under another name can be another target. All usable episodes count, also those in no part.
    content: list[Any] = [
        [window_size, fwd_pred_next_n, padding, list(spec.action_names)],
        sorted((e.name, digests[e.name], e.instruction, e.scenario) for e in episodes),
    ]
    # Tasks and units came later. Only those that the names do not tell are added, so that the data sets of earlier runs
    # keep their hash.
    tasks = {e.name: task_of(e.fields) for e in episodes if task_of(e.fields) != task_in_name(e.name)}
    by_name = {signal.name: _targets_of(signal) for signal in recorded.actions}
    details = {
        signal.name: _targets_of(signal)
        for signal in spec.actions
        if not _is_told_by_name(signal) or _targets_of(signal) != by_name.get(signal.name)
    }
    if tasks or details:
        content.append([tasks, details])
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _targets_of(signal: Signal) -> tuple[str | None, str, float | None]:
    """Return what decides how a predicted value is measured; a mirror image is a matter of the augmentation."""
    return signal.unit, signal.kind, signal.rest


def _is_told_by_name(signal: Signal) -> bool:
    """Return whether ``signal`` is what its name says, or a velocity of the base that is normalised.

    Of the latter, all recordings say so themselves; where the user does, it differs from the recorded one.
    """
    known = known_signal(signal.name)
    as_share = known if known.unit is None else replace(known, unit=NORMALISED)
    return _targets_of(signal) in (_targets_of(known), _targets_of(as_share))
