"""Check the grammar that is proposed for names which no grammar reads."""

from __future__ import annotations

import re

import pytest

from mobile_vla.inspection.names import propose_grammar

SEEN = {
    "a side": ([f"run_{side}_{n:03d}" for n in range(9) for side in ("left", "right")], {"left", "right"}),
    "two words": (
        [f"{day}_{n}box_{side}" for day in (20240101, 20240102, 20240103) for n in (1, 2) for side in ("near", "far")],
        {"1box_near", "1box_far", "2box_near", "2box_far"},
    ),
    "at the end": ([f"demo{n}-{kind}" for n in range(8) for kind in ("pick", "place")], {"pick", "place"}),
}


@pytest.mark.parametrize(("names", "scenarios"), SEEN.values(), ids=SEEN)
def test_the_words_that_differ_are_the_scenario(names: list[str], scenarios: set[str]) -> None:
    proposal = propose_grammar(names)

    assert proposal is not None
    assert set(proposal.scenarios) == scenarios
    assert sum(proposal.scenarios.values()) == len(names)
    for name in names:
        match = re.fullmatch(proposal.expression, name)
        assert match, name
        assert match["scenario"] in scenarios


@pytest.mark.parametrize(
    "names",
    [
        [f"episode_{n:06d}" for n in range(20)],
        [f"drive_{word}" for word in ("oak", "elm", "ash", "fir")],
        ["one", "two", "three_left", "four-right"],
        [],
    ],
)
def test_names_that_show_no_groups_get_no_grammar(names: list[str]) -> None:
    assert propose_grammar(names) is None


def test_a_grammar_also_reads_the_next_days_names() -> None:
    proposal = propose_grammar([f"20240101_{n}_{side}" for n in range(5) for side in ("left", "right")])
    assert proposal is not None
    assert re.fullmatch(proposal.expression, "20240102_17_left")


def test_numbers_that_begin_anew_in_each_folder_are_no_scenarios() -> None:
    assert propose_grammar(["episode_0", "episode_1", "episode_2"] * 2) is None
    proposal = propose_grammar(["run_left_0", "run_left_1", "run_right_0"] * 2)
    assert proposal is not None
    assert proposal.scenarios == {"left": 4, "right": 2}
