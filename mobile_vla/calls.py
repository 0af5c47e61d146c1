"""Keep what a run was planned to be apart from what single calls of ``resume=`` were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobile_vla.config_keys import is_within, key_of
from mobile_vla.errors import UserError
from mobile_vla.tracking.provenance import code_commit


def call_of(*, step: int, num_steps: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Return what the manifest's list ``calls`` says of a call that goes on from ``step`` up to ``num_steps``.

    ``overrides`` are those that set something else than the run began with.
    """
    return {"step": step, "num_steps": num_steps, "overrides": list(overrides), "commit": code_commit()}


def calls_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the list ``calls`` of a manifest; ``UserError`` where it is none, empty where a run never went on."""
    calls = manifest.get("calls", [])
    if not isinstance(calls, list) or not all(map(_is_call, calls)):
        raise UserError("manifest.json: 'calls' is not what a run writes there; expected step, num_steps, overrides")
    return calls


def longer_calls(manifest: Mapping[str, Any]) -> list[str]:
    """Return, for each call that was given more steps than are planned, how many, and from which step on."""
    return [
        f"{call['num_steps']} from step {call['step']} on"
        for call in calls_of(manifest)
        if call["num_steps"] > manifest["num_steps"]
    ]


def measured_otherwise(manifest: Mapping[str, Any]) -> list[str]:
    """Return the overrides by which the last call drove otherwise than the run was planned to."""
    calls = calls_of(manifest)
    return [text for text in calls[-1]["overrides"] if is_within(key_of(text), ["closed_loop"])] if calls else []


def _is_call(call: object) -> bool:
    return (
        isinstance(call, dict)
        and all(type(call.get(key)) is int for key in ("step", "num_steps"))
        and isinstance(call.get("overrides"), list)
        and all(isinstance(text, str) for text in call["overrides"])
    )
