"""What a run was planned to be stays, whatever calls of resume= are given; what differs is not ranked as equal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from test_studies import jobs_of, sweep
from tiny_runs import Ran, run_in

from mobile_vla.compare.data.comparability import ComparabilityError, require_comparable
from mobile_vla.compare.data.runs import load_runs


def manifest_of(ran: Ran) -> dict[str, Any]:
    return json.loads((ran.folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def whole(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of 8 steps, never stopped; read only."""
    return run_in(tmp_path_factory.mktemp("whole") / "run", *tiny, "trainer.steps=8")


@pytest.fixture(scope="module")
def begun(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped after 2 steps; to be copied."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    run_in(folder, *tiny, "trainer.steps=8", "trainer.stop_at_step=2")
    return folder


@pytest.fixture
def stopped(begun: Path, tmp_path: Path) -> Path:
    return shutil.copytree(begun, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("fewer", ["trainer.steps=5", "trainer.epochs=0.3"])
def test_fewer_steps_are_a_stop_on_the_way_of_the_plan(
    fewer: str, stopped: Path, whole: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    before = OmegaConf.load(stopped / "config.yaml")

    shorter = run_in(stopped, f"resume={stopped}", fewer)

    assert shorter.exit_code == 0, shorter.message
    assert (shorter.summary["status"], shorter.summary["steps"]) == ("stopped", 5)
    assert shorter.summary["stopped_by"] == f"{fewer} of this call; 8 steps are planned"
    assert f"only for this call: {fewer}; the run is still planned for 8 steps" in capsys.readouterr().out
    assert OmegaConf.load(stopped / "config.yaml") == before
    manifest = manifest_of(shorter)
    assert manifest["num_steps"] == 8
    assert [{**call, "commit": ""} for call in manifest["calls"]] == [
        {"step": 2, "num_steps": 5, "overrides": [fewer], "commit": ""}
    ]

    plain = run_in(stopped, f"resume={stopped}")
    assert (plain.summary["status"], plain.summary["steps"]) == ("done", 8)
    assert plain.timeless_rows == whole.timeless_rows, "the rate was to follow the plan"
    assert "stopped_by" not in plain.summary
    assert [call["overrides"] for call in manifest_of(plain)["calls"]] == [[fewer], []]


@pytest.mark.slow
def test_more_steps_are_this_calls_alone(stopped: Path, whole: Ran, tmp_path: Path) -> None:
    longer = run_in(stopped, f"resume={stopped}", "trainer.steps=10")

    assert (longer.summary["status"], longer.summary["steps"]) == ("done", 10)
    assert manifest_of(longer)["num_steps"] == 8
    assert OmegaConf.load(stopped / "config.yaml").trainer.steps == 8
    refused = run_in(stopped, f"resume={stopped}")
    assert "has done 10 steps, more than the 8 it is given now" in refused.message
    assert "The last call of resume gave trainer.steps=10" in refused.message


def test_a_schedule_that_a_call_has_changed_is_not_ranked_with_the_plans(stopped: Path, whole: Ran) -> None:
    run_in(stopped, f"resume={stopped}", "trainer.steps=10", "trainer.stop_at_step=4")
    mixed = run_in(stopped, f"resume={stopped}")

    assert (mixed.summary["status"], mixed.summary["steps"]) == ("done", 8)
    assert mixed.summary["schedule_changes"] == "10 from step 2 on"
    runs = [*load_runs(stopped), *load_runs(whole.folder)]
    with pytest.raises(ComparabilityError, match=r"schedule_changes .* differs"):
        require_comparable(runs)
    require_comparable(load_runs(whole.folder) * 2)


def test_what_is_given_elsewhere_stays_elsewhere(stopped: Path, tmp_path: Path) -> None:
    ran = run_in(tmp_path / "other", f"resume={stopped}", "trainer.steps=5")

    assert OmegaConf.load(ran.folder / "config.yaml").trainer.steps == 8
    assert manifest_of(ran)["calls"][0]["overrides"] == ["trainer.steps=5"]
    assert manifest_of(Ran(folder=stopped, exit_code=0, message=""))["calls"] == []


def test_no_steps_are_left_is_said(stopped: Path) -> None:
    refused = run_in(stopped, f"resume={stopped}", "trainer.steps=2")
    assert "has done the 2 steps it is given now, of the 8 that are planned" in refused.message


@pytest.mark.parametrize("calls", [3, [3], [{"step": 1}], [{"step": 1, "num_steps": 2, "overrides": [3]}]], ids=str)
def test_a_manifest_whose_calls_are_none_is_refused(calls: object, stopped: Path) -> None:
    path = stopped / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "calls": calls}))
    refused = run_in(stopped, f"resume={stopped}")
    assert refused.exit_code == 1
    assert "'calls' is not what a run writes there" in refused.message


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ((), True),
        pytest.param(("trainer.steps=3",), True, marks=pytest.mark.slow),
        (("trainer.steps=6", "trainer.stop_at_step=3"), False),
    ],
    ids=str,
)
def test_a_sweep_takes_up_a_job_that_a_call_left_on_its_way(
    given: tuple[str, ...],
    is_taken: bool,
    tiny: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = (tmp_path / "sweep", *tiny, "sampler=shuffled")
    sweep(*settings, "trainer.stop_at_step=2")
    job = jobs_of(tmp_path / "sweep")["shuffled-s0"]
    run_in(job.folder, f"resume={job.folder}", *(given or ("trainer.stop_at_step=3",)))
    assert (job.summary["status"], job.summary["steps"]) == ("stopped", 3)
    capsys.readouterr()

    assert sweep(*settings)[0] == 0

    assert ("training from step 3 to step 4" in capsys.readouterr().out) == is_taken
    assert job.timeless_rows == run_in(tmp_path / "whole", *tiny).timeless_rows


@pytest.mark.slow
@pytest.mark.parametrize("given", ["trainer.steps=6", "closed_loop.episodes=3"])
def test_a_sweep_does_not_take_as_done_what_a_call_made_otherwise(
    given: str, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    settings = (tmp_path / "sweep", *tiny, "closed_loop=default", "sampler=shuffled")
    assert sweep(*settings)[0] == 0
    job = jobs_of(tmp_path / "sweep")["shuffled-s0"]
    assert run_in(job.folder, f"resume={job.folder}", given).exit_code == 0

    exit_code, message = sweep(*settings)

    assert exit_code == 1
    assert {"trainer.steps=6": "its steps were 6 from step 4 on, now 4"}.get(given, given) in message
