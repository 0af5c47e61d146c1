"""The digest by which two runs know that they were measured on the same data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from mobile_vla.data.labels.grammars import task_of
from mobile_vla.schema import Episode
from mobile_vla.spec import Spec


def data_hash(
    episodes: Sequence[Episode],
    *,
    spec: Spec,
    digests: Mapping[str, str],
    window_size: int,
    fwd_pred_next_n: int,
    padding: str,
) -> str:
    """Return the digest of what the windows of ``episodes`` are predicted and measured by; a pure function.

    It covers the content of the files (``digests`` by episode name), the names and labels of the episodes, the window
    settings, and of ``spec`` what decides how a predicted value is measured; not its sign in a mirror image, which is a
    matter of the augmentation.
    """
    # Names and texts are hashed with the files' content because the file name gives scenario and instruction: the same
    # file under another name can be another target. All usable episodes count, also those in no part.
    content = [
        [window_size, fwd_pred_next_n, padding],
        [[signal.name, signal.unit, signal.kind, signal.rest] for signal in spec.actions],
        sorted((e.name, digests[e.name], e.instruction, e.scenario, task_of(e.fields)) for e in episodes),
    ]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()
