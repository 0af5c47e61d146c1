"""The verdict claims what its p values allow and no more, names what it could not have seen, and stays short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from written_runs import write_run, write_study

from mobile_vla.compare.data.comparison import Comparison, compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.statistics.significance import LEVEL
from mobile_vla.compare.verdict.verdict import verdict

SHUFFLED = [0.20, 0.22, 0.21, 0.19, 0.23]
NOISE = [0.001, -0.001, 0.0, 0.002, -0.002]
SHAKY = [0.23, 0.19, 0.22, 0.20, 0.21]


def compare(root: Path) -> Comparison:
    return compare_runs(load_runs(root))


def sentences(root: Path) -> str:
    return "\n".join(verdict(compare(root)))


def shifted(shift: float, num_seeds: int = 5) -> list[float]:
    return [value + shift + noise for value, noise in zip(SHUFFLED, NOISE, strict=True)][:num_seeds]


def test_sure_differences_are_said_with_size_p_and_side(tmp_path: Path) -> None:
    write_study(
        tmp_path, {"shuffled": SHUFFLED, "stratified": shifted(-0.02), "rho": shifted(0.04), "hard_negative": SHAKY}
    )
    text = sentences(tmp_path)
    assert "Surely better than shuffled in val/rmse: stratified by 0.02 (9.5 %), p < 0.001." in text
    assert "Surely worse than shuffled in val/rmse: rho by 0.04 (19 %), p < 0.001." in text
    assert "The data cannot tell hard_negative from shuffled." in text
    assert "p: paired t test over 5 seeds, adjusted by Holm over 3 samplers." in text
    assert "gives p 0.062, the smallest that 5 seeds allow" in text
    assert "indicative" not in text.lower()


def test_few_seeds_are_never_sure(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": SHUFFLED[:3], "stratified": shifted(-0.05, 3)})
    row = next(row for row in compare(tmp_path).rows if row.label == "stratified")
    difference = row.metrics["val/rmse"].difference
    assert difference is not None
    assert difference.adjusted_p_value is not None
    assert difference.adjusted_p_value < LEVEL
    text = sentences(tmp_path)
    assert "Indicative only: better than shuffled in val/rmse: stratified by 0.05" in text
    assert "Surely" not in text
    assert "* fewer than 5 seeds: indicative." in text


def test_what_one_comparison_would_claim_many_do_not(tmp_path: Path) -> None:
    """An unadjusted p of 0.03 is a claim alone, and none beside nine others."""
    noise = np.array([0.9, -0.6, 0.7, 1.3, 0.2])
    borderline = list(np.array(SHUFFLED) + 0.004 * (noise + 0.55))
    write_study(tmp_path / "alone", {"shuffled": SHUFFLED, "stratified": borderline})
    others = {f"other{index}": list(np.roll(SHAKY, index)) for index in range(9)}
    write_study(tmp_path / "many", {"shuffled": SHUFFLED, "stratified": borderline, **others})
    assert "Surely worse than shuffled in val/rmse: stratified" in sentences(tmp_path / "alone")
    assert "Surely" not in sentences(tmp_path / "many")
    for name in ("alone", "many"):
        row = next(row for row in compare(tmp_path / name).rows if row.label == "stratified")
        assert row.metrics["val/rmse"].difference is not None
        assert row.metrics["val/rmse"].difference.excludes_zero, "the interval shown is the unadjusted one"


def test_no_effect_names_what_could_have_been_found(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": SHUFFLED, "stratified": SHAKY, "rho": SHAKY[::-1]})
    text = sentences(tmp_path)
    assert "The data cannot tell these samplers apart from shuffled: no adjusted p is below 0.05." in text
    assert "With 5 seeds and 2 samplers, a true difference of 0.0" in text
    assert "would have been found four times in five" in text


def test_a_sampler_that_changed_nothing_is_said_to_be_equal(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": SHUFFLED, "stratified": SHUFFLED})
    text = sentences(tmp_path)
    assert "stratified is equal to shuffled in every seed, to the last digit." in text
    assert "cannot tell" not in text


def test_without_a_spread_nothing_is_said_of_what_could_have_been_found(tmp_path: Path) -> None:
    """Every seed differs by the same: no p is below 2 / 2^5, and no noise is known that could hide a difference."""
    write_study(tmp_path, {"shuffled": SHUFFLED, "stratified": [value + 0.01 for value in SHUFFLED]})
    text = sentences(tmp_path)
    assert "The data cannot tell stratified from shuffled." in text
    assert "true difference" not in text


@pytest.mark.parametrize(
    ("shift", "probe", "is_said"), [(-0.02, 0.03, True), (-0.02, -0.03, False), (0.02, 0.03, False)]
)
def test_a_winner_that_fits_its_train_windows_less_is_said_to(
    shift: float, probe: float, is_said: bool, tmp_path: Path
) -> None:
    for sampler, change, of_probe in (("shuffled", [0.0] * 5, 0.0), ("sequential", NOISE, probe)):
        for seed, value in enumerate(SHUFFLED):
            rmse = value + change[seed] + (shift if sampler == "sequential" else 0)
            write_run(
                tmp_path, sampler, seed, metrics={"val/rmse": rmse, "probe/rmse": 0.1 + of_probe + 2 * change[seed]}
            )
    said = "worse on a sample of the train windows (probe/rmse): sequential by 0.03"
    assert (said in sentences(tmp_path)) == is_said


def write_slices(root: Path, slices: Mapping[str, Iterable[float]], *, shift: float = -0.02) -> None:
    """Write a sampler that is better overall, and in ``slices`` of val/rmse by as much as these say for each seed."""
    for seed, value in enumerate(SHUFFLED):
        parts = {f"val/rmse/{part}": value for part in slices}
        write_run(root, "shuffled", seed, metrics={"val/rmse": value, **parts})
        changed = {f"val/rmse/{part}": value + list(changes)[seed] for part, changes in slices.items()}
        write_run(root, "stratified", seed, metrics={"val/rmse": shifted(shift)[seed], **changed})


WORSE = [0.03, 0.031, 0.029, 0.03, 0.03]
BETTER = [-value for value in WORSE]
UNSURE = [0.03, -0.05, 0.05, -0.03, 0.02]


def test_the_slices_a_winner_loses_are_named(tmp_path: Path) -> None:
    slices = {
        "scenario_1box_vert_left": WORSE,
        "scenario_mean": WORSE,
        "linear_x": WORSE,
        "critical": [2 * value for value in WORSE],
        "phase_3": UNSURE,
        "horizon_10": BETTER,
    }
    write_slices(tmp_path, slices)
    text = sentences(tmp_path)
    assert "worse on slices: stratified in critical by 0.06 and scenario_1box_vert_left by 0.03 (95 %" in text
    assert "of 4 slices about 0.1 would by chance" in text


def test_a_winner_that_loses_nowhere_is_said_to(tmp_path: Path) -> None:
    write_slices(tmp_path, {"phase_0": BETTER, "critical": UNSURE})
    assert "None of the better ones is worse on any of 2 slices" in sentences(tmp_path)


def test_slices_of_losers_are_left_unsaid(tmp_path: Path) -> None:
    write_slices(tmp_path, {"phase_0": WORSE}, shift=0.02)
    assert "slices" not in sentences(tmp_path)


def test_a_win_on_one_odd_episode_is_doubted(tmp_path: Path) -> None:
    for seed in range(5):
        steady = {f"e{index}": [1.0 + 0.01 * seed] for index in range(20)}
        odd = {name: [(3.0 if name == "e0" else 1.02) + 0.01 * seed] for name in steady}
        for sampler, windows in (("shuffled", odd), ("stratified", {**steady, "e1": [1.5]})):
            rmse = (sum(error for (error,) in windows.values()) / 80) ** 0.5
            write_run(tmp_path, sampler, seed, metrics={"val/rmse": rmse}, windows=windows)
    text = sentences(tmp_path)
    assert "Surely better" in text
    assert "With other val episodes the result might be different for stratified" in text


@pytest.mark.parametrize(("num_better", "counted"), [(0, ""), (8, "and 2 more"), (23, "and 17 more")])
def test_twenty_four_samplers_need_no_wall_of_text(tmp_path: Path, num_better: int, counted: str) -> None:
    rng = np.random.default_rng(0)
    shifts = [-0.05 if index < num_better else 0.0 for index in range(23)]
    others = {f"sampler{i:02}": [v + shift + 0.001 * rng.normal() for v in SHUFFLED] for i, shift in enumerate(shifts)}
    write_study(tmp_path, {"shuffled": SHUFFLED, **others})
    text = sentences(tmp_path)
    assert len(text) < 1200
    assert counted in text
    assert ("10 more from shuffled" in text) == (num_better == 8)
