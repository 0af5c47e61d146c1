"""Check whether a finished job can be reused by a sweep or was run with other code or another config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mobile_vla.config_keys import OF_THE_CALL, is_within
from mobile_vla.errors import ConfigError
from mobile_vla.study.summary import objective_of, read_summary
from mobile_vla.tracking.calls import longer_calls, measured_otherwise
from mobile_vla.tracking.manifest import read_manifest
from mobile_vla.tracking.provenance import ABSENT, changed_files, changes, code_commit
from mobile_vla.untrusted.stored_config import read_stored_config

WHAT_TO_DO = (
    "Runs of different code or config are not mixed: give this sweep another name (study.name=...) or folder "
    "(hydra.sweep.dir=...), go back to what ran then, or delete the folder to train the job anew."
)


def finished_value(folder: Path, cfg: DictConfig) -> float | None:
    """Return the value that ``run.py`` returned for the job in ``folder``; None if the job has not finished.

    Raises ``ConfigError`` if it finished with other code or another config than the current ones.
    """
    summary = read_summary(folder)
    if summary.get("status") != "done":
        return None
    if changes := finished_changes(folder, cfg):
        raise ConfigError(
            f"{folder} is done already, with another state of the project: {'; '.join(changes)}. {WHAT_TO_DO}"
        )
    return objective_of(summary)


def finished_changes(folder: Path, cfg: DictConfig) -> list[str]:
    """Return the differences between how the finished job in ``folder`` was trained and measured and the current call.

    Each difference is one text, such as ``optimizer.lr was 0.1, now 0.2``.
    """
    given = measured_otherwise(read_manifest(folder))
    return [*changes_since(folder, cfg), *(f"its last call was given {text}" for text in given)]


def changes_since(folder: Path, cfg: DictConfig) -> list[str]:
    """Return the differences between the code and config of the job in ``folder`` and the current ones, as texts."""
    manifest = read_manifest(folder)
    before, after = (_plain(config) for config in (read_stored_config(folder), cfg))
    then, now = _flat(before), _flat(after)
    return [
        *changes({"the code": manifest["commit"]}, {"the code": code_commit()}),
        *(f"its steps were {text}, now {manifest['num_steps']}" for text in longer_calls(manifest)),
        *changed_files(manifest, after),
        # A key that only the old config has counts as a change too: its value now is ABSENT.
        *changes(then, dict(sorted((dict.fromkeys(then, ABSENT) | now).items()))),
    ]


def _plain(config: Any) -> dict[str, Any]:
    """Return ``config`` after a round trip through YAML, so that it can be compared with one that was saved."""
    saved = OmegaConf.create(OmegaConf.to_yaml(config, resolve=True))
    plain = OmegaConf.to_container(saved)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        if is_within(path, OF_THE_CALL):
            continue
        found |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found
