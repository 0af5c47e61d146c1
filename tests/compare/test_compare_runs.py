"""Runs are named by their recorded choices, and none that ended badly is lost."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_runs import write_failed, write_json, write_run

from mobile_vla.compare.data.runs import RunRecord, load_runs, runs_by_label
from mobile_vla.errors import UserError


def labels(root: Path) -> list[str]:
    return list(runs_by_label(load_runs(root)))


def test_seed_budget_logging_and_folder_names_do_not_make_a_label(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(
            tmp_path,
            "stratified",
            seed,
            overrides=[f"trainer.steps={seed}", f"study.name=s{seed}", f"trainer.stop_at_step={seed}"],
            choices={"logger": f"l{seed}"},
        )
    assert labels(tmp_path) == ["stratified"]


def test_how_a_policy_is_measured_makes_no_label_and_how_it_acts_does(tmp_path: Path) -> None:
    suites = {"closed_loop": "default", "closed_loop/suite@closed_loop.suites.seen": "seen"}
    write_run(tmp_path, "shuffled", 0, choices=suites, overrides=["closed_loop.episodes=50", "evaluation.shortcuts=no"])
    write_run(tmp_path, "shuffled", 1, choices={"closed_loop": "none"})
    write_run(tmp_path, "shuffled", 2, choices={"closed_loop/execution": "temporal_ensemble"})
    assert labels(tmp_path) == ["shuffled", "shuffled, closed_loop/execution=temporal_ensemble"]


def test_options_of_the_sampler_appear_where_they_differ(tmp_path: Path) -> None:
    for tau in ("1", "4"):
        write_run(tmp_path, "stratified", 0, overrides=[f"sampler.tau={tau}", "sampler.seed_pool=9"])
    write_run(tmp_path, "stratified", 0, overrides=["sampler.seed_pool=9"])
    assert set(labels(tmp_path)) == {"stratified tau=1", "stratified tau=4", "stratified"}


def test_other_choices_and_overrides_appear_where_they_differ(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0)
    write_run(tmp_path, "shuffled", 0, choices={"augmentation": "mirror"}, overrides=["augmentation=mirror"])
    write_run(tmp_path, "shuffled", 0, overrides=["++trainer.learning_rate=0.1", "~sampler.tau"])
    assert set(labels(tmp_path)) == {
        "shuffled",
        "shuffled, augmentation=mirror",
        "shuffled tau=removed, trainer.learning_rate=0.1",
    }


def test_one_sampler_is_left_unsaid_where_something_else_tells_all_runs_apart(tmp_path: Path) -> None:
    for head in ("lstm", "mlp"):
        brought = {"model/head": head, "model/head/history": head}
        write_run(tmp_path, "shuffled", 0, choices=brought, overrides=[f"model/head={head}"])
    assert labels(tmp_path) == ["model/head=lstm", "model/head=mlp"]


def test_a_samplers_own_options_are_never_left_unsaid(tmp_path: Path) -> None:
    for tau in ("1", "4"):
        for head in ("lstm", "mlp"):
            overrides = [f"sampler.tau={tau}", f"model/head={head}"]
            write_run(tmp_path, "stratified", 0, choices={"model/head": head}, overrides=overrides)
    assert set(labels(tmp_path)) == {f"stratified tau={t}, model/head={h}" for t in "14" for h in ("lstm", "mlp")}


def test_an_inner_group_is_named_where_it_was_given(tmp_path: Path) -> None:
    for history in ("lstm", "gpt"):
        given = {"model/head": "flow", "model/head/history": history}
        write_run(tmp_path, "shuffled", 0, choices=given, overrides=[f"model/head/history={history}"])
    assert labels(tmp_path) == ["model/head/history=lstm", "model/head/history=gpt"]


def test_none_is_off_for_a_group_and_a_value_for_a_key(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0)
    write_run(tmp_path, "shuffled", 0, overrides=["model.normalization=none"])
    assert labels(tmp_path) == ["shuffled", "shuffled, model.normalization=none"]


SETTINGS = st.dictionaries(
    st.sampled_from(["seed", "augmentation", "model", "sampler.tau", "trainer.lr", "trainer.steps"]),
    st.sampled_from(["1", "2", "3"]),
)


@given(settings=st.lists(SETTINGS, min_size=1, max_size=8), order=st.randoms())
def test_two_runs_share_a_label_exactly_if_they_share_their_treatment(
    settings: list[dict[str, str]], order: random.Random
) -> None:
    runs = [
        RunRecord(
            folder=Path(str(i)),
            sampler="shuffled",
            seed=i,
            status="done",
            error=None,
            settings={"sampler": "shuffled", **setting},
            summary={},
        )
        for i, setting in enumerate(settings)
    ]
    order.shuffle(runs)
    groups = runs_by_label(runs)
    label_of = {run.folder: label for label, members in groups.items() for run in members}
    ignored = {"seed", "trainer.steps"}
    for one in runs:
        for other in runs:
            is_same = {k: v for k, v in one.settings.items() if k not in ignored} == {
                k: v for k, v in other.settings.items() if k not in ignored
            }
            assert (label_of[one.folder] == label_of[other.folder]) == is_same


def test_run_folders_are_found_at_any_depth_and_other_manifests_are_none(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "b", "shuffled", 0)
    write_run(tmp_path / "c", "shuffled", 1)
    write_json(tmp_path / "manifest.json", {"episodes": 3})
    assert sorted(run.seed or 0 for run in load_runs(tmp_path)) == [0, 1]


def test_failed_run_keeps_the_first_line_of_its_reason(tmp_path: Path) -> None:
    write_failed(tmp_path, "stratified", 3, error="batch of 4 is smaller than 8 strata\nand more")
    (run,) = load_runs(tmp_path)
    assert (run.sampler, run.seed, run.status) == ("stratified", 3, "failed")
    assert run.error == "batch of 4 is smaller than 8 strata"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("summary.json", None, "summary.json is missing"),
        ("summary.json", '{"val/rmse": 0.1', "summary.json cannot be read"),
        ("summary.json", "[]", "summary.json holds a list"),
        ("summary.json", '{"status": "won"}', "status 'won'"),
        ("manifest.json", '{"choices": {', "manifest.json cannot be read"),
        ("manifest.json", '{"choices": {"sampler": "shuffled"}, "seed": null}', "seed None"),
    ],
)
def test_killed_run_counts_as_failed_and_says_why(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    folder = write_run(tmp_path, "shuffled", 0)
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    (run,) = load_runs(tmp_path)
    assert run.status == "failed"
    assert run.sampler == "shuffled"
    assert reason in (run.error or "")


def test_job_that_died_before_its_manifest_is_known_from_what_hydra_recorded(tmp_path: Path) -> None:
    recorded = tmp_path / "0" / ".hydra"
    recorded.mkdir(parents=True)
    hydra = {"runtime": {"choices": {"sampler": "rho", "hydra/launcher": "basic"}}, "overrides": {"task": ["seed=4"]}}
    (recorded / "hydra.yaml").write_text(json.dumps({"hydra": hydra}))
    (run,) = load_runs(tmp_path)
    assert (run.sampler, run.seed, run.status) == ("rho", 4, "failed")
    assert "manifest.json is missing" in (run.error or "")


def test_damaged_manifest_does_not_change_the_labels_of_others(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0)
    (write_run(tmp_path, "shuffled", 1) / "manifest.json").write_text("{")
    assert labels(tmp_path) == ["shuffled"]


def test_numbers_are_finite_and_are_numbers(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"a": float("nan"), "b": float("inf"), "c": True, "d": "1", "e": 2})
    (run,) = load_runs(tmp_path)
    assert run.numbers["e"] == 2.0
    assert not {"a", "b", "c", "d"} & run.numbers.keys()


def test_folder_without_a_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing_here: no such folder"):
        load_runs(tmp_path / "nothing_here")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: found no run folder"):
        load_runs(tmp_path / "empty")
