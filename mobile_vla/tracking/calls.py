"""The record of the calls with ``resume=``, kept separate from the plan that the run began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobile_vla.config_keys import is_within, key_of
from mobile_vla.errors import UserError
from mobile_vla.tracking.provenance import code_commit


def call_of(*, step: int, num_steps: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the entry of the manifest's list ``calls`` for a call that continues from ``step`` up to ``num_steps``.

    ``overrides`` are the overrides that differ from the config the run began with.
    """
    return {"step": step, "num_steps": num_steps, "overrides": list(overrides), "commit": code_commit()}


def calls_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the list ``calls`` of a manifest, empty if the run was never resumed; ``UserError`` if it is damaged."""
    calls = manifest.get("calls", [])
    if not isinstance(calls, list) or not all(map(_is_call, calls)):
        raise UserError("manifest.json: 'calls' is not what a run writes there; expected step, num_steps, overrides")
    return calls


def longer_calls(manifest: Mapping[str, Any]) -> list[str]:
    """Return a text for each call with more steps than planned: how many steps, and from which step on."""
    return [
        f"{call['num_steps']} from step {call['step']} on"
        for call in calls_of(manifest)
        if call["num_steps"] > manifest["num_steps"]
    ]


def measured_otherwise(manifest: Mapping[str, Any]) -> list[str]:
    """Return the overrides of the last call that changed the closed-loop evaluation from the plan of the run.

    Only the last call counts, because each call measures again and replaces the earlier results.
    """
    calls = calls_of(manifest)
    return [text for text in calls[-1]["overrides"] if is_within(key_of(text), ["closed_loop"])] if calls else []


def _is_call(call: object) -> bool:
    return (
        isinstance(call, dict)
        and all(type(call.get(key)) is int for key in ("step", "num_steps"))
        and isinstance(call.get("overrides"), list)
        and all(isinstance(text, str) for text in call["overrides"])
    )
