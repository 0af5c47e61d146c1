"""Build the W&B dashboard of a real tiny sweep, and save it on a loopback server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_runs import run_py
from wandb_records import records, rows, state
from wandb_server import wandb_server

from mobile_vla.compare.dashboard.contents import contents_of
from mobile_vla.compare.dashboard.publish import FOLDER, publish_dashboard
from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.errors import UserError
from mobile_vla.tracking.wandb.recordings import find_recordings
from mobile_vla.tracking.wandb.sync import sync_folder

KEY = "0" * 40
SUCCESS = "closed_loop/seen/success_rate"


@pytest.fixture(scope="module")
def recorded(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of two samplers and two seeds, recorded offline; read only."""
    folder = tmp_path_factory.mktemp("study") / "sweep"
    swept = ("sampler=sequential,shuffled", "seed=0,1", "logger=wandb", "logger.wandb.mode=offline")
    assert run_py("-m", *tiny, *swept, f"hydra.sweep.dir={folder}") == (0, "")
    return folder


@pytest.fixture
def sweep(recorded: Path, tmp_path: Path) -> Path:
    """The recorded sweep, to write to; its runs drove in one suite as well."""
    folder = shutil.copytree(recorded, tmp_path / "sweep", symlinks=True)
    for number, file in enumerate(sorted(folder.glob("*/summary.json"))):
        drives = [{"suite": "seen", "index": index, "success": index < number} for index in range(4)]
        (file.parent / "episode_results.jsonl").write_text("".join(f"{json.dumps(drive)}\n" for drive in drives))
        file.write_text(json.dumps(json.loads(file.read_text()) | {SUCCESS: number / 4}))
    return folder


@pytest.fixture
def server_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


def publish(folder: Path) -> str:
    console = Console(record=True, width=200, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    publish_dashboard(folder, baseline="shuffled", console=console)
    return console.export_text()


def panels_of(spec: Any) -> list[dict[str, Any]]:
    """Return every panel of a workspace or report, at whatever depth."""
    if isinstance(spec, list):
        return [panel for part in spec for panel in panels_of(part)]
    if not isinstance(spec, dict):
        return []
    return [spec] if "viewType" in spec else [panel for part in spec.values() for panel in panels_of(part)]


def of_type(spec: Any, view_type: str) -> list[dict[str, Any]]:
    return [panel["config"] for panel in panels_of(spec) if panel["viewType"] == view_type]


@pytest.mark.slow
def test_every_metric_it_names_is_in_w_and_b_s_own_log_of_each_run(recorded: Path) -> None:
    contents = contents_of(compare_runs(load_runs(recorded)))
    assert contents.curves == ("val/rmse", "val/loss", "train/loss")
    assert {"samples_seen", "wall_s"} <= set(contents.budgets)
    assert contents.drawn
    runs = find_recordings(recorded)
    assert {run.folder.parent for run in runs} == {recorded / "wandb"}, "one folder, for wandb leet to overlay"
    assert sorted(run.run_id for run in runs) == sorted(contents.run_ids)
    for run in (runs[0], runs[-1]):  # one of each sampler
        written = records(run.path)
        logged = rows(written)
        for axis in ("step", *contents.budgets):
            shared = [row for row in logged if axis in row and contents.primary in row]
            assert len(shared) > 1, f"no curve of {contents.primary} by {axis}"
        assert all(any(key in row for row in logged) for key in contents.curves)
        summary = state(run.path)["summary"]
        assert all(isinstance(summary[key], float | int) for key in (contents.primary, *contents.drawn))
        assert written["run"][0]["job_type"] in ("sequential", "shuffled")


def test_without_a_key_both_are_written_as_save_would_send_them(sweep: Path) -> None:
    shown = publish(sweep)
    assert "not logged in" in shown
    assert f"python -m mobile_vla sync {sweep}" in shown
    workspace, report = (json.loads((sweep / FOLDER / f"{name}.json").read_text()) for name in ("workspace", "report"))
    for view in (workspace, report):
        curves = {(line["xAxis"], *line["metrics"]): line for line in of_type(view, "Run History Line Plot")}
        assert {("step", "train/loss"), ("step", "val/loss"), ("step", "val/rmse")} < curves.keys()
        bars = of_type(view, "Bar Chart")
        assert [bar["metrics"] for bar in bars] == [["val/rmse"], [SUCCESS]]
        for panel in (*curves.values(), *bars):
            assert (panel["groupBy"], panel["groupAgg"], panel["groupArea"]) == ("jobType", "mean", "stddev")
        (scatter,) = of_type(view, "Scatter Plot")
        assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:val/rmse", f"summary:{SUCCESS}")
        (parallel,) = of_type(view, "Parallel Coordinates Plot")
        axes = [column["accessor"] for column in parallel["columns"]]
        assert axes[0] == "run:jobType"
        assert axes[-2:] == ["summary:val/rmse", f"summary:{SUCCESS}"]
    ids = {run.run_id for run in find_recordings(sweep)}
    (runset,) = workspace["spec"]["section"]["runSets"]
    assert set(runset["filters"]["filters"][0]["value"]) == ids
    assert runset["grouping"] == [{"section": "run", "name": "jobType"}]
    assert workspace["spec"]["section"]["settings"]["maxRuns"] == 4


def test_the_statistics_are_those_of_the_comparison(sweep: Path) -> None:
    comparison = compare_runs(load_runs(sweep))
    lines = contents_of(comparison).statistics.splitlines()
    assert len(lines) == 2 + len(comparison.rows)
    assert len({len(line.split("|")) for line in lines}) == 1, "every line has the same cells"
    for line, row in zip(lines[2:], comparison.rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:2] == [row.label, "2 of 2"]
        difference = row.metrics["val/rmse"].difference
        if difference is None:
            assert cells[3:6] == ["", "", ""]
        else:
            assert difference.interval is not None
            numbers = [float(text) for text in re.findall(r"[-+\d.e]+", f"{cells[3]} {cells[4]}")]
            assert numbers == pytest.approx([difference.mean, *difference.interval], abs=1e-4)
        assert cells[6] == f"{100 * sum(row.metrics[SUCCESS].values.values()) / 2:.1f} %"


def test_success_that_decides_is_drawn_against_the_error_and_told_in_points(sweep: Path) -> None:
    for file in sweep.glob("*/manifest.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"primary": SUCCESS}))
    publish(sweep)
    workspace = json.loads((sweep / FOLDER / "workspace.json").read_text())
    assert [bar["metrics"] for bar in of_type(workspace, "Bar Chart")] == [[SUCCESS], ["val/rmse"]]
    (scatter,) = of_type(workspace, "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:val/rmse", f"summary:{SUCCESS}")
    curves = {(line["xAxis"], *line["metrics"]) for line in of_type(workspace, "Run History Line Plot")}
    assert {("samples_seen", "val/rmse"), ("wall_s", "val/rmse")} < curves
    header, _, first, _ = contents_of(compare_runs(load_runs(sweep))).statistics.splitlines()
    assert header == "| sampler | seeds | success in seen | minus shuffled, points | 95 % interval | p (Holm) |"
    assert first.startswith("| shuffled | 2 of 2 | 62.5 % ± 17.7 % |")


def test_it_is_saved_where_the_runs_are_and_a_second_call_updates_it(sweep: Path, server_url: Any) -> None:
    with pytest.raises(UserError, match=f"(?s)not found.*python -m mobile_vla sync {sweep}"):
        publish(sweep)
    assert server_url.uploads.views == {}
    runs = find_recordings(sweep)
    assert sync_folder(runs[0].folder, Console(quiet=True)) == 0
    assert "3 of its 4 runs are not on W&B yet" in publish(sweep)
    assert sync_folder(sweep, Console(quiet=True)) == 0

    shown = publish(sweep)
    assert "not on W&B" not in shown
    views = server_url.uploads.views
    assert sorted(view["type"] for view in views.values()) == ["project-view", "runs"]
    report_id, report = next((key, view) for key, view in views.items() if view["type"] == "runs")
    assert f"--{report_id}" in shown
    assert {view["projectName"] for view in views.values()} == {"mobile_vla"}
    runsets = [block["metadata"]["runSets"] for block in json.loads(report["spec"])["blocks"] if "metadata" in block]
    assert {runset["project"]["id"] for (runset,) in runsets} == {"42"}
    workspace = next(view for view in views.values() if view["type"] == "project-view")
    assert of_type(json.loads(workspace["spec"]), "Bar Chart")
    assert re.search(r"\| sequential \| 2 of 2 \|", json.dumps(report["spec"]))


def test_runs_grouped_by_another_choice_are_told_apart_by_its_config_key(sweep: Path) -> None:
    for number, file in enumerate(sorted(sweep.glob("*/manifest.json"))):
        manifest = json.loads(file.read_text())
        manifest["choices"]["sampler"] = "shuffled"
        manifest["overrides"] += [f"trainer.learning_rate={10.0 ** -(number // 2)}"]
        manifest["choices"]["augmentation"] = ["none", "mirror"][number // 2]
        file.write_text(json.dumps(manifest))
    publish_dashboard(sweep, baseline=None, console=Console(quiet=True))
    workspace = json.loads((sweep / FOLDER / "workspace.json").read_text())
    (runset,) = workspace["spec"]["section"]["runSets"]
    names = [key["name"] for key in runset["grouping"]]
    assert names == ["choices.value.augmentation", "trainer.value.learning_rate"]


def test_runs_that_kept_to_local_files_or_did_not_finish_are_refused(sweep: Path) -> None:
    for file in sweep.glob("*/config.yaml"):
        file.write_text(re.sub(r"(?s)logger:\n.*?(?=\n\w|\Z)", "logger: {}", file.read_text()))
    with pytest.raises(UserError, match="has no logger=wandb"):
        publish(sweep)
    for file in sweep.glob("*/summary.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "stopped"}))
    with pytest.raises(UserError, match="no run finished"):
        publish(sweep)
