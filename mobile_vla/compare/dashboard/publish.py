"""Save the W&B dashboard of a folder of runs, or write it to files in that folder if there is no W&B login."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.compare.dashboard.contents import Contents, contents_of
from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.planned import load_study
from mobile_vla.errors import UserError
from mobile_vla.installation import PROGRAM
from mobile_vla.storage.disk import write_atomically
from mobile_vla.tracking.wandb.call_thread import CallThread, end_service
from mobile_vla.tracking.wandb.confirmation import unconfirmed_runs
from mobile_vla.tracking.wandb.login import first_line, has_key
from mobile_vla.tracking.wandb.recordings import find_recordings
from mobile_vla.tracking.wandb.time_limit import TimeLimit
from mobile_vla.untrusted.files import inside, read_json

if TYPE_CHECKING:
    from rich.console import Console

FOLDER = "wandb_dashboard"
"""The dashboard's folder inside the folder of the runs."""

_TIMEOUT_S = 60.0
"""The time limit for saving; without it, wandb retries for minutes if the server does not answer."""


def publish_dashboard(folder: Path, *, baseline: str | None, console: Console) -> None:
    """Save a workspace and a report of the runs in ``folder`` or below to W&B, and print their addresses.

    Without a W&B key, or with WANDB_MODE=offline, they are written as JSON to ``folder/wandb_dashboard`` instead. A
    second call updates the saved ones. Raises UserError if W&B reports an error or does not have the runs' project.
    """
    contents = contents_of(compare_runs(load_study(folder), baseline=baseline))
    target = inside(folder, FOLDER)
    target.mkdir(exist_ok=True)
    if not has_key(insist=False):
        _write(contents, target)
        console.print(
            f"not logged in to W&B: wrote {target / 'workspace.json'} and {target / 'report.json'}\n"
            f"to save them, after `wandb login`: {PROGRAM} sync {folder}, then this command again",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    try:
        urls = _save_in_time(contents, target / "saved.json")
    except UserError:
        raise
    except ValueError as error:  # wandb_workspaces raises this if the project does not exist
        raise UserError(
            f"W&B has no project for the dashboard: {first_line(error)} Upload the runs first: {PROGRAM} sync {folder}"
        ) from error
    except Exception as error:  # wandb and wandb_workspaces raise many types, some of them private
        raise UserError(
            f"W&B did not take the dashboard: {first_line(error)}. If what was saved before is no longer there, delete "
            f"{target / 'saved.json'}; WANDB_MODE=offline writes it into {target} instead."
        ) from error
    for name, url in urls.items():
        console.print(f"saved {name:9}  {url}", markup=False, highlight=False, soft_wrap=True)
    published = [recording for recording in find_recordings(folder) if recording.run_id in contents.run_ids]
    missing = unconfirmed_runs(published, TimeLimit(_TIMEOUT_S))
    if missing:
        message = f"{len(missing)} of its {len(contents.run_ids)} runs are not on W&B yet: {PROGRAM} sync {folder}"
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _save_in_time(contents: Contents, memory: Path) -> dict[str, str]:
    # In a thread, because these calls of wandb can retry for minutes.
    calls = CallThread("wandb dashboard")
    saving = calls.submit(lambda: _save(contents, memory))
    calls.end()
    try:
        return saving.result(timeout=_TIMEOUT_S)
    except TimeoutError as error:
        if saving.done():  # wandb itself raised this TimeoutError; the time limit was not reached
            raise
        end_service(timeout_s=0)  # otherwise the service would also delay the end of this process
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
        # wandb_workspaces has no public function to serialise a view without a key; save() sends this same model.
        text = view._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1)
        write_atomically(target / f"{name}.json", text + "\n")


def _save(contents: Contents, memory: Path) -> dict[str, str]:
    """Save the workspace and the report, and return their addresses.

    The file ``memory`` contains the ids from the previous call, so that those views are updated; it is written anew.
    """
    import wandb

    from mobile_vla.compare.dashboard.views import report_of, workspace_of

    entity = contents.entity or wandb.Api().default_entity
    if entity is None:
        raise UserError(
            "W&B has no default entity for this key; expected one. Train with logger.wandb.entity=TEAM_OR_USER."
        )
    workspace = workspace_of(contents, entity=entity)
    report = report_of(contents, entity=entity, is_project_known=True)
    saved = read_json(inside(memory.parents[1], memory)) if memory.exists() else {}
    # Without fetching the old workspace first, save() updates it only if these private fields are set.
    workspace._internal_name = saved.get("workspace_name", "")
    workspace._internal_id = saved.get("workspace_id", "")
    report.id = saved.get("report_id", "")
    report.save()  # first, because only this call checks that the project exists
    # Written after each save: if the second one fails, the next call still updates this report.
    saved["report_id"] = report.id
    write_atomically(memory, json.dumps(saved, indent=1) + "\n")
    workspace.save()
    saved |= {"workspace_name": workspace._internal_name, "workspace_id": workspace._internal_id}
    write_atomically(memory, json.dumps(saved, indent=1) + "\n")
    return {"workspace": workspace.url, "report": report.url}
