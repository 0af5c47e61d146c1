"""Run folders of somebody who means harm are compared without harm: nothing outside is read, texts stay texts."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_cli import call
from tiny_runs import every
from written_page import write_full_run, write_page_study
from written_runs import write_failed, write_json, write_run

from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.planned import load_study
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.page.page import write_page
from mobile_vla.compare.report import write_csv
from mobile_vla.errors import UserError

SECRET = "the secret of this machine"


def secret_picture(folder: Path) -> Path:
    """Write a picture that may not be shown, and return its place."""
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "secret.jpg")
    return folder / "secret.jpg"


def edit_hardest(run: Path, **changes: object) -> None:
    path = run / "hardest.json"
    write_json(path, [entry | changes for entry in json.loads(path.read_text())])


NAMES: dict[str, Callable[[Path], str]] = {
    "absolute": str,
    "above": lambda secret: f"../../{secret.name}",
    "deep above": lambda secret: f"hardest/../../../{secret.name}",
    "a link": lambda secret: "hardest/link.jpg",
    "a linked folder": lambda secret: f"linked/{secret.name}",
    "no name": lambda secret: "a\0b",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_outside_is_not_shown(name: str, tmp_path: Path) -> None:
    secret, study = secret_picture(tmp_path), tmp_path / "study"
    runs = [write_full_run(study, sampler, 0, 0.3) for sampler in ("shuffled", "stratified")]
    (runs[0] / "hardest" / "link.jpg").symlink_to(secret)
    (runs[0] / "linked").symlink_to(tmp_path)
    edit_hardest(runs[0], image=NAMES[name](secret))

    write_page(compare_runs(load_runs(study)), study / "report.html")

    page = (study / "report.html").read_text()
    assert base64.b64encode(secret.read_bytes()).decode() not in page
    assert re.search(rf'class="note">{runs[0].name}: hardest.json is damaged', page)
    assert page.count("data:image/jpeg") == 1, "that of the other run"


def test_what_is_no_picture_or_a_bomb_is_not_shown(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (5_000, 5_000)).save(buffer, "PNG")
    kept = io.BytesIO()
    Image.new("RGB", (9, 9)).save(kept, "PNG")
    contents = {
        "text": SECRET.encode(),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "bomb": buffer.getvalue(),
        "heavy": b"\xff\xd8\xff" + bytes(3 * 2**20),
        "kept": kept.getvalue(),
    }
    for name, content in contents.items():
        study = tmp_path / name
        run = write_full_run(study, "shuffled", 0, 0.3)
        (run / "hardest" / "0.jpg").write_bytes(content)
        write_page(compare_runs(load_runs(study)), study / "report.html")
        page = (study / "report.html").read_text()
        encoded = base64.b64encode(content).decode()
        assert (f'src="data:image/png;base64,{encoded}"' in page) == (encoded in page) == (name == "kept")
        assert ("is missing, too large, or not a JPEG or PNG" in page) == (name != "kept")


READ = ("metrics.jsonl", "val_windows.csv", "hardest.json", "summary.json", "manifest.json", "episode_results.jsonl")


@pytest.mark.parametrize("name", every(2, READ))
def test_a_linked_file_is_not_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    runs = [write_full_run(study, sampler, 0, 0.3) for sampler in ("shuffled", "stratified")]
    text = (runs[0] / name).read_text()
    (tmp_path / "outside").write_text(text.replace("left", SECRET).replace("episode_0", SECRET))
    (runs[0] / name).unlink()
    (runs[0] / name).symlink_to(tmp_path / "outside")

    call("compare", study)

    written = [path.read_text() for path in study.iterdir() if path.is_file()]
    captured = capsys.readouterr()
    shown = " ".join([html.unescape(text) for text in written] + [captured.out, captured.err])
    assert SECRET not in shown
    assert "which lies outside of it" in " ".join(shown.split())


def test_the_record_of_hydra_and_a_plan_lead_nowhere_else(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_full_run(study, "shuffled", 0, 0.3)
    (tmp_path / "private" / "job").mkdir(parents=True)
    (tmp_path / "private" / "hydra.yaml").write_text("hydra: {overrides: {task: []}}")
    (study / "dead").mkdir()
    (study / "dead" / ".hydra").symlink_to(tmp_path / "private")
    (dead,) = (run for run in load_runs(study) if run.folder.name == "dead")
    assert "which lies outside of it" in str(dead.error)
    (study / "dead" / ".hydra").unlink()
    (study / "dead" / ".hydra").mkdir()
    (study / "dead" / ".hydra" / "hydra.yaml").symlink_to(tmp_path / "private" / "hydra.yaml")
    (dead,) = (run for run in load_runs(study) if run.folder.name == "dead")
    assert "which lies outside of it" in str(dead.error)

    write_json(study / "study.json", {"jobs": [{"folder": "../private/job", "overrides": []}]})
    with pytest.raises(UserError, match="which lies outside of it"):
        load_study(study)


def test_what_hydra_recorded_is_not_interpolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    (tmp_path / "dead" / ".hydra").mkdir(parents=True)
    recorded = {"overrides": {"task": ["a=${oc.env:SECRET}"]}, "runtime": {"choices": {"sampler": "${oc.env:SECRET}"}}}
    write_json(tmp_path / "dead" / ".hydra" / "hydra.yaml", {"hydra": recorded})
    (run,) = load_runs(tmp_path)
    assert (run.sampler, run.settings["a"]) == ("${oc.env:SECRET}", "${oc.env:SECRET}")


MARKUP = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&[bold][/]:smile:\x1b[2J\x1b]0;t\x07\u202e\udcff$title"
)


def test_texts_of_a_run_are_texts_on_the_page_and_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    run = write_run(
        study,
        MARKUP,
        0,
        metrics={"val/rmse": 0.3, f"val/rmse/scenario_{MARKUP}": 0.3, f"sampler/share/{MARKUP}": 1.0},
        overrides=[f"a={MARKUP}"],
        drives={MARKUP.replace("/", "|"): [True, False]},
    )
    full = write_full_run(study, "shuffled", 0, 0.3)
    edit_hardest(full, episode=MARKUP, scenario=MARKUP, action_names=[MARKUP, MARKUP])
    shutil.copy(full / "hardest.json", run / "hardest.json")
    write_failed(study, MARKUP, 1, error=MARKUP)

    call("compare", study)

    captured = capsys.readouterr()
    for shown in (captured.out, captured.err):
        assert not set(shown) & {"\x1b", "\x07", "\u202e", "\udcff"}
    assert "[bold][/]:smile:\\x1b[2J" in "".join(captured.out.split())
    page = (study / "report.html").read_bytes().decode()
    assert "<script>alert" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1+1", "@SUM(1)", "\t=1"])
def test_a_text_that_a_spreadsheet_would_compute_has_an_apostrophe_in_the_table(label: str, tmp_path: Path) -> None:
    for sampler in ("shuffled", label):
        for seed in range(2):
            write_run(tmp_path, sampler, seed, metrics={"val/rmse": -0.25})
    write_csv(compare_runs(load_runs(tmp_path)), tmp_path / "comparison.csv")
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open(encoding="utf-8")))
    assert {row["label"] for row in rows} == {"shuffled", f"'{label}"}
    assert {row["val/rmse"] for row in rows} == {"-0.25"}


BOMBS: dict[str, Callable[[Path], object]] = {
    "nested manifest": lambda run: (run / "manifest.json").write_text("[" * 10**6),
    "nested summary": lambda run: (run / "summary.json").write_text('{"a":' * 10**6),
    "nested log": lambda run: (run / "metrics.jsonl").write_text('{"step":1,"a":' + "[" * 10**6),
    "one long line": lambda run: os.truncate(run / "metrics.jsonl", 2**30),
    "one long line of windows": lambda run: os.truncate(run / "val_windows.csv", 2**30),
    "one long line of drives": lambda run: os.truncate(run / "episode_results.jsonl", 2**30),
    "a quote that does not end": lambda run: (run / "val_windows.csv").write_text('episode,frame\n"' + "a\n" * 10**6),
    "a large record": lambda run: os.truncate(run / "hardest.json", 2**30),
    "a pipe": lambda run: ((run / "metrics.jsonl").unlink(), os.mkfifo(run / "metrics.jsonl")),
    "numbers without end": lambda run: edit_summary(run, seed=10**400, **{"val/rmse": 10**400, "val/loss": 10**400}),
    "infinite log": lambda run: (run / "metrics.jsonl").write_text('{"step": 1, "val/rmse": 1e999, "wall_s": NaN}\n'),
    "infinite windows": lambda run: (run / "val_windows.csv").write_text(
        "episode,frame,squared_error,num_targets\na,1,1e999,4\n"
    ),
    "texts for numbers": lambda run: edit_hardest(run, predicted=[["<b>", "x"]] * 2),
    "rows of other lengths": lambda run: edit_hardest(run, predicted=[[0.1]], target=[[1.0, 2.0, 3.0]]),
    "no action": lambda run: edit_hardest(run, predicted=[], target=[], action_names=[]),
    "choices that are none": lambda run: write_json(
        run / "manifest.json", {"choices": [1], "overrides": 3, "seed": []}
    ),
    "a plan of texts": lambda run: write_json(run.parent / "study.json", {"jobs": "ab", "primary": 7}),
}


def edit_summary(run: Path, **changes: Any) -> None:
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("bomb", every(2, BOMBS))
def test_a_bomb_costs_its_run_its_drawing_or_is_named(
    bomb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_page_study(tmp_path)
    run = next(path for path in sorted(tmp_path.iterdir()) if path.name.startswith("0-"))
    BOMBS[bomb](run)
    started = time.process_time()

    code = call("compare", tmp_path)

    assert time.process_time() - started < 5
    if code == 1:
        captured = capsys.readouterr()
        assert run.name in captured.out + captured.err or "study.json" in captured.err or "not ranked" in captured.out
