"""Build the table of all runs: status, result, folder, links and overrides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.data.runs import RunRecord
from mobile_vla.compare.page.blocks import Cell, Column, Listing
from mobile_vla.text import MISSING, duration
from mobile_vla.untrusted.files import inside, read_json


def run_list(comparison: Comparison, *, root: Path) -> Listing:
    """Return one row per run, finished or not, with links relative to ``root``, the folder of the page."""
    runs = [(row.label, run) for row in comparison.rows for run in row.runs]
    overrides = [_overrides(run) for _, run in runs]
    shared = [text for text in overrides[0] if all(text in others for others in overrides)]
    own = [[text for text in texts if text not in shared] for texts in overrides]
    values = [run.numbers.get(comparison.primary) if run.is_done else None for _, run in runs]
    walls = [run.numbers.get("wall_s") for _, run in runs]
    numbers = comparison.format(comparison.primary)
    columns = [
        Column(title=comparison.compared, is_number=False, cells=[Cell(text=label, sort=label) for label, _ in runs]),
        Column(title="seed", is_number=True, cells=[_seed(run) for _, run in runs]),
        Column(title="status", is_number=False, cells=[_status(run) for _, run in runs]),
        Column(
            title=comparison.primary_title,
            is_number=True,
            cells=[Cell(text=numbers.text(value), sort=value) for value in values],
        ),
        Column(title="wall", is_number=True, cells=[Cell(text=duration(wall), sort=wall) for wall in walls]),
        Column(title="run", is_number=False, cells=[_links(run, root) for _, run in runs]),
        Column(title="overrides", is_number=False, cells=[Cell(text=" ".join(texts)) for texts in own]),
    ]
    return Listing(
        id="runs",
        title="Runs",
        caption=f"All runs share {' '.join(shared)}." if shared and len(runs) > 1 else "Every run and its folder.",
        labels=[label for label, _ in runs],
        columns=columns,
        table={
            comparison.compared: [label for label, _ in runs],
            "seed": [run.seed for _, run in runs],
            "status": [run.status for _, run in runs],
            "error": [run.error for _, run in runs],
            comparison.primary: values,
            "wall_s": walls,
            "folder": [_relative(run.folder, root) for _, run in runs],
            "url": [_url(run) for _, run in runs],
            "overrides": [" ".join(texts) for texts in overrides],
        },
        notes=(),
    )


def _overrides(run: RunRecord) -> Sequence[str]:
    """Return the overrides in the manifest; for a run that died before it wrote one, its known settings."""
    try:
        return [str(text) for text in read_json(inside(run.folder, "manifest.json"))["overrides"]]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{key}={value}" for key, value in run.settings.items()]


def _seed(run: RunRecord) -> Cell:
    return Cell(text=MISSING if run.seed is None else str(run.seed), sort=run.seed)


def _status(run: RunRecord) -> Cell:
    text = run.status if run.is_done or not run.error else f"{run.status}: {run.error}"
    return Cell(text=text, sort=run.status, tone="" if run.is_done else "failed")


def _links(run: RunRecord, root: Path) -> Cell:
    folder = _relative(run.folder, root)
    if not run.folder.is_dir():
        return Cell(text=run.folder.name, sort=folder)
    links = [(run.folder.name, f"{quote(folder)}/")]
    if (run.folder / "videos").is_dir():
        links.append(("videos", f"{quote(folder)}/videos/"))
    url = _url(run)
    if url is not None:
        links.append(("W&B", url))
    return Cell(text="", sort=folder, links=links)


def _relative(folder: Path, root: Path) -> str:
    return Path(os.path.relpath(folder, root)).as_posix()


def _url(run: RunRecord) -> str | None:
    """Return the address of the run's page on W&B.

    Other addresses than http and https are left out: a summary may come from somebody else, and a browser would execute
    a ``javascript:`` link.
    """
    url = run.summary.get("url")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None
