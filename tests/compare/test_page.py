"""The page is one file that says what its runs hold, and in place what they lack."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from written_page import NUM_SEEDS, SAMPLERS, STEPS, WINDOWS, write_full_run, write_page_study
from written_runs import write_failed, write_json, write_run, write_study

from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.page.blocks import styles_of
from mobile_vla.compare.page.hardest import hardest_windows
from mobile_vla.compare.page.page import write_page
from mobile_vla.compare.page.run_files import load_run_files
from mobile_vla.compare.report import compare_folder


def page_of(root: Path) -> str:
    """Write the page of the runs below ``root`` and read it."""
    write_page(compare_runs(load_runs(root)), root / "report.html")
    return (root / "report.html").read_text()


def words(page: str) -> str:
    """Return the page without plotly, which mentions everything."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def data_of(page: str) -> dict[str, Any]:
    """Return the data the plots are drawn from."""
    match = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, flags=re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def test_compare_writes_the_page_and_says_where(tmp_path: Path) -> None:
    write_page_study(tmp_path)
    console = Console(file=(out := io.StringIO()), width=80)
    compare_folder(tmp_path, console=console)
    assert str(tmp_path / "report.html") in out.getvalue()
    assert (tmp_path / "report.html").exists()


def test_page_holds_plotly_once_and_names_no_other_file(tmp_path: Path) -> None:
    write_page_study(tmp_path)
    page = page_of(tmp_path)
    assert page.count("* plotly.js v") == 1
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', words(page))
    assert not re.search(r"<link[^>]+stylesheet|@import", words(page))


def test_every_figure_has_the_numbers_of_every_finished_run(tmp_path: Path) -> None:
    write_page_study(tmp_path)
    tables = data_of(page_of(tmp_path))["tables"]
    num_runs = len(SAMPLERS) * NUM_SEEDS
    assert len(tables["learning"]["step"]) == num_runs * len(STEPS)
    assert len(tables["horizon"]["rmse"]) == num_runs * 3
    assert tables["horizon"]["horizon"][:7:3] == [1, 2, 10]
    assert tables["scenario"]["scenario"]["levels"] == ["left", "right"]
    assert set(tables["shares"]["natural"]) == {0.75, 0.25}
    assert len(tables["hardest"]["rmse"]) == num_runs
    differences = [seed for seed in tables["differences"]["seed"] if seed is None]
    assert len(differences) % (len(SAMPLERS) - 1) == 0


def test_forest_has_the_figures_of_the_comparison(tmp_path: Path) -> None:
    episodes = {f"episode_{index}": [0.2 + 0.01 * index] * 3 for index in range(12)}
    for sampler, factor in {"shuffled": 1.0, "stratified": 0.8}.items():
        for seed in range(5):
            scale = factor * (1 + 0.02 * seed * factor)
            windows = {name: [scale * error for error in errors] for name, errors in episodes.items()}
            total = sum(sum(errors) for errors in windows.values())
            write_run(tmp_path, sampler, seed, metrics={"val/rmse": (total / (36 * 4)) ** 0.5}, windows=windows)
    difference = next(
        row.metrics["val/rmse"].difference
        for row in compare_runs(load_runs(tmp_path)).rows
        if row.label == "stratified"
    )
    assert difference is not None
    assert difference.interval is not None
    assert difference.episode_interval is not None
    page = page_of(tmp_path)
    table = data_of(page)["tables"]["differences"]
    line = {name: values[-1] for name, values in table.items() if isinstance(values, list)}
    assert (line["low"], line["high"]) == pytest.approx(difference.interval, rel=1e-5)
    assert (line["episode_low"], line["episode_high"]) == pytest.approx(difference.episode_interval, rel=1e-5)
    assert line["sure"] == difference.is_sure == 1
    assert "interval over val episodes" in words(page)


def test_planned_job_that_never_began_is_listed_as_missing(tmp_path: Path) -> None:
    write_full_run(tmp_path, "shuffled", 0, 0.3)
    jobs = [{"folder": "stratified-s0", "overrides": ["sampler=stratified", "seed=0"]}]
    plan = {"name": "x", "primary": "val/rmse", "baseline": "shuffled", "jobs": jobs}
    write_json(tmp_path / "study.json", plan)
    compare_folder(tmp_path, console=Console(quiet=True))
    page = (tmp_path / "report.html").read_text()
    assert "missing" in data_of(page)["tables"]["runs"]["status"]["levels"]
    assert "<em>1 missing</em>" in words(page)
    assert 'href="stratified-s0/"' not in page


def test_offline_runs_of_a_sweep_are_shown_how_to_be_viewed_together(tmp_path: Path) -> None:
    write_page_study(tmp_path)
    for index in range(2):
        (tmp_path / "wandb" / f"offline-run-20260101_00000{index}-id{index}").mkdir(parents=True)
    compare_folder(tmp_path, console=Console(file=(out := io.StringIO()), width=80))
    assert f"offline runs side by side: wandb leet {tmp_path / 'wandb'}" in out.getvalue()


def test_hardest_is_by_the_mean_over_all_runs_and_not_over_those_that_list_it(tmp_path: Path) -> None:
    write_page_study(tmp_path)
    (hard,) = hardest_windows(load_run_files(compare_runs(load_runs(tmp_path))))
    assert hard.window.key == WINDOWS[1]
    assert hard.mean == pytest.approx(sum(SAMPLERS.values()) / 3 + 0.01)
    assert hard.image is not None
    (next(tmp_path.glob("*")) / "hardest.json").unlink()
    (again,) = hardest_windows(load_run_files(compare_runs(load_runs(tmp_path))))
    assert again.mean == pytest.approx(hard.mean)
    assert len(again.predictions) == len(hard.predictions) - 1


def test_page_of_runs_without_the_newer_files_says_what_is_absent_in_place(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.3, 0.4], "stratified": [0.2, 0.3]})
    page = words(page_of(tmp_path))
    for missing in ("has a hardest.json", "drove in the closed loop", "logged coverage", "by horizon", "by phase"):
        assert re.search(rf'class="absent">[^<]*{missing}', page), missing


def test_page_of_failed_runs_alone_names_their_errors(tmp_path: Path) -> None:
    write_failed(tmp_path, "shuffled", 0, error="the <b>disk</b> is full")
    page = words(page_of(tmp_path))
    assert "the &lt;b&gt;disk&lt;/b&gt; is full" in page
    assert "No finished run has val/rmse" in page


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics.jsonl", '{"step": 1'), ("hardest.json", '[{"episode": "e"}]')],
)
def test_damaged_file_costs_its_run_that_drawing_and_is_named(tmp_path: Path, name: str, content: str) -> None:
    write_page_study(tmp_path)
    folder = min(tmp_path.glob("*"))
    (folder / name).write_text(content)
    page = words(page_of(tmp_path))
    assert re.search(rf'class="note">{folder.name}: {re.escape(name)} is damaged', page)


def test_run_list_links_only_to_folders_that_exist_and_to_web_addresses(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1}, url="https://wandb.example/run")
    write_run(tmp_path, "shuffled", 1, metrics={"val/rmse": 0.1}, url="javascript:alert(1)")
    links = re.findall(r'<a href="([^"]+)"', words(page_of(tmp_path)))
    assert links == ["0-anything/", "https://wandb.example/run", "1-anything/"]


def test_text_of_a_run_cannot_end_the_script_it_stands_in(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1}, overrides=["note=</script><script>alert(1)</script>"])
    page = page_of(tmp_path)
    assert "<script>alert" not in page
    assert "note=</script>" in "".join(data_of(page)["tables"]["runs"]["overrides"]["levels"])


def test_a_number_that_is_not_finite_is_left_out_of_the_curves(tmp_path: Path) -> None:
    folder = write_full_run(tmp_path, "shuffled", 0, 0.3)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[1]["train/loss"] = None
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table = data_of(page_of(tmp_path))["tables"]["learning"]
    assert table["train/loss"] == [0.3, None, 0.3, 0.3]


def test_long_log_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    folder = write_full_run(tmp_path, "shuffled", 0, 0.3)
    rows = [{"step": step, "samples_seen": step, "wall_s": 1.0, "val/rmse": 1.0} for step in range(5000)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    steps = data_of(page_of(tmp_path))["tables"]["learning"]["step"]
    assert len(steps) <= 120
    assert steps[-1] == 4999


def test_looks_are_by_name_so_that_a_new_ranking_changes_none() -> None:
    one = styles_of(["b", "a", "base"], baseline="base")
    other = styles_of(["base", "a", "b"], baseline="base")
    assert {label: look.css for label, look in one.items()} == {label: look.css for label, look in other.items()}
    assert one["base"].css == "base"
    many = styles_of([f"s{index:02d}" for index in range(24)], baseline="none of them")
    assert len({look.css for look in many.values()}) == 24


def test_manifest_without_overrides_still_lists_what_is_known(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["overrides"]
    write_json(folder / "manifest.json", manifest)
    assert "model=compact" in words(page_of(tmp_path))
