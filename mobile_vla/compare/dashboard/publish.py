"""Save the W&B dashboard of a folder of runs, or write it beside them where W&B cannot be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.compare.comparison import compare_runs
from mobile_vla.compare.dashboard.contents import Contents, contents_of
from mobile_vla.compare.plan import load_study
from mobile_vla.disk import write_atomically
from mobile_vla.errors import UserError
from mobile_vla.tracking.call_thread import CallThread, end_service
from mobile_vla.tracking.confirmation import unconfirmed_runs
from mobile_vla.tracking.recordings import find_recordings
from mobile_vla.tracking.time_limit import TimeLimit
from mobile_vla.tracking.wandb_login import first_line, has_key
from mobile_vla.untrusted.files import inside, read_json

if TYPE_CHECKING:
    from rich.console import Console

FOLDER = "wandb_dashboard"
"""Where it is written, in the folder of the runs."""

_TIMEOUT_S = 60.0
"""How long W&B may take to save it; wandb itself tries again for minutes."""


def publish_dashboard(folder: Path, *, baseline: str | None, console: Console) -> None:
    """Save a workspace and a report of the runs below ``folder``, and print where they are.

    Without a W&B key, or with WANDB_MODE=offline, their JSON is written into ``folder/wandb_dashboard`` instead. A
    second call updates what the first one saved. Raises UserError if W&B refuses, or has no project with these runs.
    """
    contents = contents_of(compare_runs(load_study(folder), baseline=baseline))
    target = inside(folder, FOLDER)
    target.mkdir(exist_ok=True)
    if not has_key(insist=False):
        _write(contents, target)
        console.print(
            f"not logged in to W&B: wrote {target / 'workspace.json'} and {target / 'report.json'}\n"
            f"to save them, after `wandb login`: python -m mobile_vla sync {folder}, then this once more",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    try:
        urls = _save_in_time(contents, target / "saved.json")
    except UserError:
        raise
    except ValueError as error:  # the package's word for a project that is not there
        raise UserError(
            f"W&B has no place for the dashboard: {first_line(error)} Upload the runs first: "
            f"python -m mobile_vla sync {folder}"
        ) from error
    except Exception as error:  # wandb and its workspaces raise many kinds, private ones among them
        raise UserError(
            f"W&B did not take the dashboard: {first_line(error)}. If what was saved before is no longer there, delete "
            f"{target / 'saved.json'}; WANDB_MODE=offline writes it into {target} instead."
        ) from error
    for name, url in urls.items():
        console.print(f"saved {name:9}  {url}", markup=False, highlight=False, soft_wrap=True)
    published = [recording for recording in find_recordings(folder) if recording.run_id in contents.run_ids]
    missing = unconfirmed_runs(published, TimeLimit(_TIMEOUT_S))
    if missing:
        message = (
            f"{len(missing)} of its {len(contents.run_ids)} runs are not on W&B yet: python -m mobile_vla sync {folder}"
        )
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _save_in_time(contents: Contents, memory: Path) -> dict[str, str]:
    calls = CallThread("wandb dashboard")
    saving = calls.submit(lambda: _save(contents, memory))
    calls.end()
    try:
        return saving.result(timeout=_TIMEOUT_S)
    except TimeoutError as error:
        if saving.done():  # one of wandb's own
            raise
        end_service(timeout_s=0)  # or it would hold up the end of the process as well
        raise UserError(
            f"W&B did not take the dashboard: no answer within {_TIMEOUT_S:g} s. Try again later."
        ) from error


def _write(contents: Contents, target: Path) -> None:
    from mobile_vla.compare.dashboard.views import report_of, workspace_of

    entity = contents.entity or ""
    views = {
        "workspace": workspace_of(contents, entity=entity),
        "report": report_of(contents, entity=entity, is_project_known=False),
    }
    for name, view in views.items():
        # The package serialises in save() alone, which needs a key; this is what save() sends.
        text = view._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1)
        write_atomically(target / f"{name}.json", text + "\n")


def _save(contents: Contents, memory: Path) -> dict[str, str]:
    """Save both, over what ``memory`` says was saved before, and note there under which ids."""
    import wandb

    from mobile_vla.compare.dashboard.views import report_of, workspace_of

    entity = contents.entity or wandb.Api().default_entity
    if entity is None:
        raise UserError("W&B names no entity for this key; expected one. Train with logger.entity=TEAM_OR_USER.")
    workspace = workspace_of(contents, entity=entity)
    report = report_of(contents, entity=entity, is_project_known=True)
    saved = read_json(inside(memory.parents[1], memory)) if memory.exists() else {}
    # Only these private fields make save() update a workspace without fetching it first.
    workspace._internal_name = saved.get("workspace_name", "")
    workspace._internal_id = saved.get("workspace_id", "")
    report.id = saved.get("report_id", "")
    report.save()  # first, as only this asks whether the project is there
    saved["report_id"] = report.id
    write_atomically(memory, json.dumps(saved, indent=1) + "\n")
    workspace.save()
    saved |= {"workspace_name": workspace._internal_name, "workspace_id": workspace._internal_id}
    write_atomically(memory, json.dumps(saved, indent=1) + "\n")
    return {"workspace": workspace.url, "report": report.url}
