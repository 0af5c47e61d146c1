"""Build a W&B workspace and a W&B report from a dashboard's contents."""

from __future__ import annotations

import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr
from wandb_workspaces.reports.v2 import interface as wr

from mobile_vla.compare.dashboard.contents import STEP, Contents

_WHOLE_WIDTH = ws.SectionLayoutSettings(columns=1, rows=1)
_THREE_WIDE = ws.SectionLayoutSettings(columns=3, rows=2)

_MAX_TITLE = 128
"""The largest number of characters that W&B allows in a report's title."""


def workspace_of(contents: Contents, *, entity: str) -> ws.Workspace:
    """Return the workspace: the verdict, then curves, bars and relations between metrics, grouped by treatment."""
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
    """Return the report of ``contents``.

    With ``is_project_known`` the run sets name entity and project; without it they are empty, for a report that is only
    written to a file.
    """

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
    """Return line plots of the mean over seeds with a band of one standard deviation.

    Each curve is plotted over the steps, and the error also over each kind of cost.
    """
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
    """Return a parallel-coordinates plot with one line per run: its settings, its drawn windows and its results."""
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
    """Return the key of a setting in a run's W&B config: config groups are under ``choices``."""
    return group if "." in group else f"choices.{group}"


def _group(group: str) -> str:
    """Return the name of a setting for the grouping of run tables and panels; the sampler is the run's job type."""
    return "JobType" if group == "sampler" else f"config.{_config_key(group)}"


def _axis(group: str) -> str | wr.Config:
    return "run.JobType" if group == "sampler" else wr.Config(_config_key(group))


def _panel_group(contents: Contents) -> str | None:
    """Return the setting that a panel groups by; None (the grouping of the run table) if there are several."""
    return _group(contents.groups[0]) if len(contents.groups) == 1 else None
