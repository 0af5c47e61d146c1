"""Drives are paired by seed and initial state, and only where the initial states are the same."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from written_runs import write_failed, write_run

from mobile_vla.compare.data.comparison import Comparison, Row, compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.report import compare_folder
from mobile_vla.errors import UserError

SEEN = "closed_loop/seen/success_rate"


def write_drives(root: Path, drives: dict[str, list[list[bool]]], suite: str = "seen") -> None:
    """Write one finished run for each seed (first index) and sampler; the second index is the initial state."""
    for sampler, seeds in drives.items():
        for seed, successes in enumerate(seeds):
            write_run(root, sampler, seed, metrics={"val/rmse": 0.1}, drives={suite: successes})


def rows(comparison: Comparison) -> dict[str, Row]:
    return {row.label: row for row in comparison.rows}


def compare(root: Path) -> dict[str, Row]:
    return rows(compare_runs(load_runs(root)))


SEEDS = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=2, max_size=3)


@settings(max_examples=20)
@given(one=SEEDS, other=SEEDS, order=st.randoms())
def test_order_of_runs_and_lines_does_not_matter(
    one: list[list[bool]], other: list[list[bool]], order: random.Random
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_drives(root, {"shuffled": one, "stratified": other})
        runs = load_runs(root)
        expected = rows(compare_runs(runs))["stratified"]
        for run in runs:
            log = run.folder / "episode_results.jsonl"
            lines = log.read_text().splitlines()
            order.shuffle(lines)
            log.write_text("".join(f"{line}\n" for line in lines))
        order.shuffle(runs)
        result = rows(compare_runs(runs))["stratified"]
    assert result.drives == expected.drives
    assert result.metrics[SEEN] == expected.metrics[SEEN]


@settings(max_examples=20)
@given(one=SEEDS, other=SEEDS)
def test_counts_are_those_of_the_pairs_and_the_difference_is_theirs(
    one: list[list[bool]], other: list[list[bool]]
) -> None:
    with TemporaryDirectory() as folder:
        write_drives(Path(folder), {"shuffled": one, "stratified": other})
        row = compare(Path(folder))["stratified"]
    drives, difference = row.drives["seen"], row.metrics[SEEN].difference
    num_seeds = min(len(one), len(other))
    pairs = [(a, b) for ones, others in zip(other, one, strict=False) for a, b in zip(ones, others, strict=True)]
    assert (drives.num_pairs, drives.num_states) == (6 * num_seeds, 6)
    assert drives.only_treatment == pairs.count((True, False))
    assert drives.only_baseline == pairs.count((False, True))
    assert difference is not None
    assert difference.mean == pytest.approx((drives.only_treatment - drives.only_baseline) / drives.num_pairs)


def test_equal_drives_are_no_difference(tmp_path: Path) -> None:
    same = [[True, False, True, True], [False, False, True, True]]
    write_drives(tmp_path, {"shuffled": same, "stratified": same})
    row = compare(tmp_path)["stratified"]
    assert row.drives["seen"].p_value == 1
    assert (row.drives["seen"].only_treatment, row.drives["seen"].only_baseline) == (0, 0)
    difference = row.metrics[SEEN].difference
    assert difference is not None
    assert (difference.mean, difference.excludes_zero) == (0, False)


def test_a_sampler_better_on_every_state_is_sure(tmp_path: Path) -> None:
    write_drives(tmp_path, {"shuffled": [[False] * 12] * 3, "stratified": [[True] * 12, [True] * 12, [True] * 11]})
    row = compare(tmp_path)["stratified"]
    assert row.drives["seen"].p_value == pytest.approx(2 * 0.5**12)
    write_drives(tmp_path, {"rho": [[True] * 12, [True] * 12, [True] * 11 + [False]]})
    difference = compare(tmp_path)["rho"].metrics[SEEN].difference
    assert difference is not None
    assert difference.excludes_zero


def test_the_same_difference_in_every_seed_is_not_sure(tmp_path: Path) -> None:
    write_drives(tmp_path, {"shuffled": [[True, True]] * 3, "stratified": [[True, False]] * 3})
    difference = compare(tmp_path)["stratified"].metrics[SEEN].difference
    assert difference is not None
    assert (difference.mean, difference.interval) == (-0.5, None), "one state in which all seeds fail has no spread"
    assert not difference.excludes_zero


def test_the_baseline_is_not_paired_with_itself(tmp_path: Path) -> None:
    write_drives(tmp_path, {"shuffled": [[True]], "stratified": [[True]]})
    assert compare(tmp_path)["shuffled"].drives == {}


def test_only_drives_that_both_have_are_paired(tmp_path: Path) -> None:
    write_drives(tmp_path, {"shuffled": [[False, False, False]], "stratified": [[True, True]], "rho": [[True]] * 2})
    drives = {label: row.drives.get("seen") for label, row in compare(tmp_path).items()}
    assert drives["stratified"] is not None
    assert drives["rho"] is not None
    assert (drives["stratified"].num_pairs, drives["stratified"].only_treatment) == (2, 2)
    assert (drives["rho"].num_pairs, drives["rho"].num_states) == (1, 1)


def test_runs_that_met_other_states_are_not_paired_in_that_suite_alone(tmp_path: Path) -> None:
    drives = {"seen": [True, False], "unseen": [True, True]}
    for seed in range(2):
        write_run(tmp_path, "shuffled", seed, metrics={"val/rmse": 0.1}, drives=drives)
        states = {"unseen": "others"} if seed == 1 else None
        write_run(tmp_path, "stratified", seed, metrics={"val/rmse": 0.1}, drives=drives, states=states)
        write_run(tmp_path, "rho", seed, metrics={"val/rmse": 0.1}, drives=drives, states={"unseen": "others"})
    comparison = compare_runs(load_runs(tmp_path))
    pairs = {
        label: {
            suite: (row.drives[suite].num_pairs, difference.num_pairs)
            for suite in comparison.suites
            if (difference := row.metrics[f"closed_loop/{suite}/success_rate"].difference) is not None
        }
        for label, row in rows(comparison).items()
    }
    assert pairs == {
        "shuffled": {},
        "stratified": {"seen": (4, 2), "unseen": (2, 1)},
        "rho": {"seen": (4, 2), "unseen": (0, 0)},
    }
    collisions = rows(comparison)["rho"].metrics["closed_loop/unseen/collision_rate"].difference
    rmse = rows(comparison)["rho"].metrics["val/rmse"].difference
    assert collisions is not None
    assert rmse is not None
    assert (collisions.num_pairs, rmse.num_pairs) == (0, 2)
    assert comparison.different_states.keys() == {"unseen"}
    assert "others in" in comparison.different_states["unseen"]


def test_states_that_differ_between_seeds_are_other_states(tmp_path: Path) -> None:
    for seed in range(2):
        for sampler, success in (("shuffled", False), ("stratified", True)):
            states = {"seen": f"of seed {seed}"}
            write_run(tmp_path, sampler, seed, metrics={"val/rmse": 0.1}, drives={"seen": [success]}, states=states)
    drives = compare(tmp_path)["stratified"].drives["seen"]
    assert (drives.num_pairs, drives.num_states, drives.p_value) == (2, 2, 0.5)


def test_runs_without_a_closed_loop_have_no_such_figures(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    write_run(tmp_path, "stratified", 0, metrics={"val/rmse": 0.1})
    comparison = compare_runs(load_runs(tmp_path))
    assert comparison.suites == ()
    assert all(row.drives == {} for row in comparison.rows)


def test_suites_are_seen_unseen_and_the_others_by_name(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, drives={suite: [True] for suite in ("shifted", "unseen", "looks", "seen")})
    write_failed(tmp_path, "stratified", 0, error="no")
    assert compare_runs(load_runs(tmp_path)).suites == ("seen", "unseen", "looks", "shifted")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"suite": "seen", "index"', r"line 3: is not JSON"),
        ("", r"line 3: is not JSON"),
        ("[1]", r"line 3 holds a list, not an object"),
        ('{"suite": "seen", "success": true}', r"line 3 has suite 'seen', index None, success True"),
        ('{"suite": "seen", "index": 2.0, "success": true}', r"line 3 has .* index 2.0"),
        ('{"suite": "seen", "index": true, "success": true}', r"line 3 has .* index True"),
        ('{"suite": "seen", "index": 2, "success": 1}', r"line 3 has .* success 1;"),
        ('{"suite": 7, "index": 2, "success": true}', r"line 3 has suite 7"),
        ('{"suite": "seen", "index": 1, "success": true}', r"line 3 is a second drive of suite 'seen', index 1"),
    ],
)
def test_a_damaged_line_is_an_error_that_names_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    folder = write_run(tmp_path, "shuffled", 0, drives={"seen": [True, False]})
    with (folder / "episode_results.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=rf"{folder.name}/episode_results.jsonl: {reason}"):
        compare(tmp_path)


def test_bytes_that_are_no_text_are_a_damaged_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "shuffled", 0, drives={"seen": [True, False]})
    with (folder / "episode_results.jsonl").open("ab") as file:
        file.write(b'{"suite": "\xff"}\n')
    with pytest.raises(UserError, match="line 3: is not JSON"):
        compare(tmp_path)


def test_a_log_of_other_rollouts_than_the_summary_is_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, drives={"seen": [True, False]}, **{SEEN: 0.75})
    with pytest.raises(UserError, match=r"2 drives of suite 'seen' with success rate 0.5; expected 0.75"):
        compare(tmp_path)


def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "shuffled", 0, drives={"seen": [True]})
    (folder / "episode_results.jsonl").unlink()
    with pytest.raises(UserError, match=r"episode_results.jsonl: missing"):
        compare(tmp_path)


def test_line_ends_inside_texts_are_no_line_ends(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "shuffled", 0, drives={"seen": [True]})
    line = json.dumps({"suite": "seen", "index": 0, "success": True, "instruction": "go\u2028left"}, ensure_ascii=False)
    (folder / "episode_results.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert compare(tmp_path)["shuffled"].metrics[SEEN].mean == 1


def test_files_hold_the_pairs_and_a_readable_number_of_columns(tmp_path: Path) -> None:
    write_drives(tmp_path, {"shuffled": [[True, False]], "stratified": [[True, True]]})
    compare_folder(tmp_path, console=Console(file=io.StringIO(), width=80))
    content = json.loads((tmp_path / "comparison.json").read_text())
    shuffled, stratified = content["rows"]
    assert shuffled["paired_drives"] == {}
    assert stratified["paired_drives"]["seen"] == {
        "num_pairs": 2,
        "num_states": 2,
        "only_treatment": 1,
        "only_baseline": 0,
        "p_value": 1.0,
    }
    assert stratified[SEEN]["paired_difference"] == 0.5
    assert "closed_loop/seen/failure/late_turn" in stratified
    assert content["different_states"] == {}
    with (tmp_path / "comparison.csv").open(newline="") as file:
        names = set(next(csv.reader(file)))
    assert {SEEN, "closed_loop/seen/success_rate/scenario_mean", "closed_loop/seen/collision_rate"} <= names
    assert not any("late_turn" in name or "1box" in name for name in names)
