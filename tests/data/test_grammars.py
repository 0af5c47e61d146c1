"""Check that the shipped grammars read every form of file name that real collections have."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law
from regex import Pattern
from tiny_runs import compose_config

from mobile_vla.data.labels.grammars import SHIPPED, UNKNOWN, compile_grammars, matches_selector, parse_name, task_of
from mobile_vla.errors import ConfigError

STAMP = "episode_20251204_101530"


@pytest.fixture(scope="module")
def grammars() -> dict[str, Pattern[str]]:
    return compile_grammars(compose_config(["dataset=h5", "dataset.path=x"]).dataset.grammars)


@law
@given(
    boxes=st.sampled_from(["1box", "2box"]),
    layout=st.sampled_from(["vert", "hori"]),
    side=st.sampled_from(["left", "right"]),
    placement=st.sampled_from(["core", "variant"]),
    distance=st.sampled_from(["close", "medium", "far"]),
    time_of_day=st.sampled_from(["", "dawn", "morning", "evening", "night"]),
)
def test_box_names_tell_every_field(grammars: dict[str, Pattern[str]], time_of_day: str, **fields: str) -> None:
    name = "_".join([STAMP, *fields.values(), *([time_of_day] if time_of_day else [])])
    scenario, found = parse_name(name, grammars)
    assert scenario == f"{fields['boxes']}_{fields['layout']}_{fields['side']}"
    assert found == fields | ({"time_of_day": time_of_day} if time_of_day else {})


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("core_medium_redblue_task_red", {"colours": "redblue", "task": "red"}),
        ("core_medium_task_dock", {"task": "dock"}),
        ("core_medium_task_dock_night", {"task": "dock", "time_of_day": "night"}),
        ("core_medium_task", {"time_of_day": "task"}),
        ("core_medium", {}),
    ],
)
def test_box_names_may_tell_a_task(grammars: dict[str, Pattern[str]], rest: str, expected: dict[str, str]) -> None:
    scenario, fields = parse_name(f"{STAMP}_1box_hori_left_{rest}", grammars)
    assert scenario == "1box_hori_left"
    places = {"boxes": "1box", "layout": "hori", "side": "left", "placement": "core", "distance": "medium"}
    assert fields == places | expected
    assert task_of(fields) == expected.get("task", UNKNOWN)


@pytest.mark.parametrize("side", ["left", "right"])
def test_basket_names_are_scenarios_of_their_own(grammars: dict[str, Pattern[str]], side: str) -> None:
    scenario, fields = parse_name(f"{STAMP}_basket_1box_hori_{side}_core_medium", grammars)
    assert scenario == f"basket_1box_hori_{side}"
    assert fields["object"] == "basket"
    assert fields["side"] == side
    assert (fields["placement"], fields["distance"]) == ("core", "medium")


@law
@given(side=st.sampled_from(["center", "left", "right"]), path=st.sampled_from(["straight", "left", "right"]))
def test_v5_names_tell_target_and_path(grammars: dict[str, Pattern[str]], side: str, path: str) -> None:
    for prefix in ("", "basket_", "1box_hori_"):
        name = f"{STAMP}_{prefix}target_{side}_{path}_path__core__fixed_center"
        scenario, fields = parse_name(name, grammars)
        assert scenario == f"target_{side}_{path}_path"
        assert fields == {"side": side, "path": path, "placement": "core", "position": "fixed_center"}


@law
@given(
    side=st.sampled_from(["weak_left", "strong_left", "center", "weak_right", "strong_right"]),
    path=st.sampled_from(["left_curve", "straight", "right_curve"]),
)
def test_v6_names_keep_position_and_path_apart(grammars: dict[str, Pattern[str]], side: str, path: str) -> None:
    scenario, fields = parse_name(f"{STAMP}_{side}_{path}", grammars)
    assert scenario == f"{side}_{path}"
    assert fields == {"side": side, "path": path}


@pytest.mark.parametrize(
    "name",
    [
        STAMP,
        "episode_000123",
        f"{STAMP}_3box_hori_left_core_medium",
        f"{STAMP}_1box_hori_center_core_medium",
        f"{STAMP}_1box_hori_left_corr_medium",
        f"copy_of_{STAMP}_1box_hori_left_core_medium",
        f"{STAMP}_weak_left_left",
    ],
)
def test_other_names_are_unknown(grammars: dict[str, Pattern[str]], name: str) -> None:
    assert parse_name(name, grammars) == (UNKNOWN, {})


def test_first_grammar_that_matches_decides() -> None:
    one, two = "(?P<scenario>a)(?P<rest>.*)", "(?P<scenario>.*)"
    assert parse_name("abc", compile_grammars({"one": one, "two": two})) == ("a", {"rest": "bc"})
    assert parse_name("abc", compile_grammars({"two": two, "one": one})) == ("abc", {})
    assert parse_name("bc", compile_grammars({"one": one})) == (UNKNOWN, {})


def test_broken_grammar_is_named() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.grammars\.mine: not a regular expression .*: '\(\?P<a'"):
        compile_grammars({"mine": "(?P<a"})


def test_selector_is_a_scenario_or_a_field() -> None:
    def matches(selector: str) -> bool:
        return matches_selector(selector, scenario="2box_hori_left", fields={"distance": "far"})

    assert matches("2box_hori_left")
    assert matches("distance=far")
    assert not matches("2box_hori")
    assert not matches("distance=close")
    assert not matches("place=far")


PIECES = (STAMP, "episode_20251204", "basket", "1box", "2box", "vert", "hori", "left", "right", "center", "core", "far")
PIECES += (
    "variant",
    "redblue",
    "task",
    "red",
    "dawn",
    "target",
    "path",
    "straight",
    "curve",
    "weak",
    "x1",
    "é",
    "",
    "\n",
)


@law
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_the_shipped_grammars_read_a_name_as_pythons_own_expressions_do(
    grammars: dict[str, Pattern[str]], pieces: list[str]
) -> None:
    name = "_".join(pieces)
    for pattern in grammars.values():
        ours, pythons = pattern.fullmatch(name), re.fullmatch(pattern.pattern, name)
        assert (ours and ours.groupdict()) == (pythons and pythons.groupdict())


@pytest.mark.parametrize("expression", ["(a|aa)+$", "((a{1,1000}){1,1000}){1,1000}"])
def test_a_grammar_without_end_is_given_up_and_named(expression: str) -> None:
    compiled = compile_grammars({"first": "x", "mine": expression})
    started = time.process_time()
    with pytest.raises(ConfigError, match=r"dataset\.grammars\.mine: takes more than 0\.5 s to match the name 'aaa"):
        parse_name("a" * 100 + "!", compiled)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("expression", ["(a+)+$", "(.*)*x", "a" * 2000])
def test_a_grammar_that_ends_is_answered(expression: str) -> None:
    assert parse_name("a" * 100 + "!", compile_grammars({"mine": expression}))[0] == UNKNOWN


@pytest.mark.parametrize(
    "expression", ["(" * 900 + ")" * 900, "a{99999999999999999999}", "a" * 2001, "(", "(?P<a>x)(?P<a>y)"]
)
def test_a_grammar_that_cannot_be_compiled_is_named(expression: str) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.grammars\.mine: not a regular expression"):
        compile_grammars({"mine": expression})


def test_the_users_own_grammar_comes_before_the_shipped_ones() -> None:
    """Hydra adds a new key after those of the config, where a shipped grammar would read some names first."""
    shipped = compose_config(["dataset=h5", "dataset.path=x"]).dataset.grammars
    assert tuple(shipped) == SHIPPED
    own = compile_grammars({**shipped, "own": r"episode_\d+_(?P<scenario>\d+)"})
    assert parse_name(STAMP, own) == ("101530", {})
    assert parse_name(f"{STAMP}_1box_hori_left", own)[0] == "1box_hori_left"
