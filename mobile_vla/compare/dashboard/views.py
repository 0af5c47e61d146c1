"""Lay a dashboard's contents out as a W&B workspace and a W&B report."""

from __future__ import annotations

import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr
from wandb_workspaces.reports.v2 import interface as wr

from mobile_vla.compare.dashboard.contents import STEP, Contents

_WHOLE_WIDTH = ws.SectionLayoutSettings(columns=1, rows=1)
_THREE_WIDE = ws.SectionLayoutSettings(columns=3, rows=2)

_MAX_TITLE = 128
"""Characters that W&B gives a report's title."""


def workspace_of(contents: Contents, *, entity: str) -> ws.Workspace:
    """Return the workspace: the verdict, then curves, bars and relations, grouped by treatment."""
    sections: tuple[tuple[str, list[wr.PanelTypes], ws.SectionLayoutSettings], ...] = (
        ("Verdict", [wr.MarkdownPanel(f"{contents.verdict}\n\n{contents.statistics}")], _WHOLE_WIDTH),
        ("Learning curves", _curves(contents), _THREE_WIDE),
        ("Final figures", _bars(contents), _THREE_WIDE),
        ("What was chosen, drawn and reached", [_parallel(contents)], _WHOLE_WIDTH),
        ("Error and success", _scatters(contents), _THREE_WIDE),
    )
    return ws.Workspace(
        entity=entity,
        project=contents.project,
        name=contents.title,
        sections=[
            ws.Section(name=name, panels=panels, is_open=True, layout_settings=layout)
            for name, panels, layout in sections
            if panels
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=len(contents.run_ids)),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("ID").isin(list(contents.run_ids))),
            groupby=[
                expr.Metric("JobType") if group == "sampler" else expr.Config(_config_key(group))
                for group in contents.groups
            ],
            pinned_columns=[f"summary:{key}" for key in contents.results],
        ),
    )


def report_of(contents: Contents, *, entity: str, is_project_known: bool) -> wr.Report:
    """Return the report; where the server can be asked for the project, its runs are named with it."""

    def runs(*, is_grouped: bool) -> wr.Runset:
        return wr.Runset(
            entity=entity if is_project_known else "",
            project=contents.project if is_project_known else "",
            name="finished runs",
            filters=expr.And(expr.Metric("ID").isin(list(contents.run_ids))),
            groupby=[_group(group) for group in contents.groups] if is_grouped else [],
        )

    blocks: list[wr.BlockTypes] = [
        wr.MarkdownBlock(contents.verdict),
        wr.MarkdownBlock(contents.statistics),
        wr.H2("Learning curves"),
        wr.PanelGrid(runsets=[runs(is_grouped=True)], panels=_curves(contents)),
        wr.H2("Final figures"),
        wr.PanelGrid(runsets=[runs(is_grouped=True)], panels=_bars(contents)),
        wr.H2("Relations, run by run"),
        wr.PanelGrid(runsets=[runs(is_grouped=False)], panels=[_parallel(contents), *_scatters(contents)]),
    ]
    title = contents.title[:_MAX_TITLE]
    return wr.Report(entity=entity, project=contents.project, title=title, blocks=blocks, width="fluid")


def _curves(contents: Contents) -> list[wr.PanelTypes]:
    """Return the mean over seeds with a band of one standard deviation: over steps, and the error by budget."""
    axes = [(STEP, key) for key in contents.curves]
    axes += [(budget, contents.error) for budget in contents.budgets if contents.error in contents.curves]
    return [
        wr.LinePlot(
            title=f"{metric} by {axis}",
            x=axis,
            y=[metric],
            groupby=_panel_group(contents),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            aggregate=True,
            max_runs_to_show=len(contents.run_ids),
        )
        for axis, metric in axes
    ]


def _bars(contents: Contents) -> list[wr.PanelTypes]:
    return [
        wr.BarPlot(
            title=f"{metric}: mean over seeds, one standard deviation",
            metrics=[metric],
            groupby=_panel_group(contents),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            aggregate=True,
            max_runs_to_show=len(contents.run_ids),
            max_bars_to_show=len(contents.run_ids),
        )
        for metric in contents.results
    ]


def _parallel(contents: Contents) -> wr.ParallelCoordinatesPlot:
    """Return a line a run over what was chosen, what the sampler then drew, and what it reached."""
    axes = [_axis(group) for group in contents.groups]
    axes += [wr.SummaryMetric(key) for key in (*contents.drawn, *contents.results)]
    return wr.ParallelCoordinatesPlot(
        title="what was chosen, drawn and reached",
        columns=[wr.ParallelCoordinatesPlotColumn(axis) for axis in axes],
        layout=wr.Layout(w=24, h=9),
    )


def _scatters(contents: Contents) -> list[wr.PanelTypes]:
    return [
        wr.ScatterPlot(
            title=f"{key} by {contents.error}",
            x=wr.SummaryMetric(contents.error),
            y=wr.SummaryMetric(key),
            regression=True,
        )
        for key in contents.success
    ]


def _config_key(group: str) -> str:
    """Return where a run's W&B config holds a setting: choices of a config group stand under ``choices``."""
    return group if "." in group else f"choices.{group}"


def _group(group: str) -> str:
    """Return a setting as run tables and panels name what they group by; a run's job type is its sampler."""
    return "JobType" if group == "sampler" else f"config.{_config_key(group)}"


def _axis(group: str) -> str | wr.Config:
    return "run.JobType" if group == "sampler" else wr.Config(_config_key(group))


def _panel_group(contents: Contents) -> str | None:
    """Return what one panel groups by; None, the run table's own grouping, where several settings name a treatment."""
    return _group(contents.groups[0]) if len(contents.groups) == 1 else None
