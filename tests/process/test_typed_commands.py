"""Check that printed overrides are read by Hydra, and by a shell before it, as the texts that they were made of."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law
from omegaconf import OmegaConf

from mobile_vla.process.typed_commands import override, typed

texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=20) | st.text(
    "ab1'\"\\${}[]()=,:#?*|~ ", max_size=12
)


def read(text: str) -> object:
    """Return the value of an override as a job gets it."""
    [parsed] = OverridesParser.create().parse_overrides([text])
    return OmegaConf.to_container(OmegaConf.create({"key": parsed.value()}), resolve=True)["key"]  # pyright: ignore


@law
@given(texts)
def test_hydra_reads_the_text_that_is_typed(text: str) -> None:
    assert read(override("key", text)) == text
    assert read(override("key", [text, "other"])) == [text, "other"]


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "True",
        "12",
        "1e3",
        "",
        "a,b",
        "${seed}",
        r"\${seed}",
        r"\\",
        "it's",
        r"it\'s",
        "left right",
        "field:folder",
        "C:/a",
    ],
)
def test_texts_with_a_meaning_stay_texts(text: str) -> None:
    assert read(override("key", text)) == text


@law
@given(st.lists(texts, min_size=1, max_size=8), st.integers(10, 100))
def test_the_lines_of_a_command_are_its_words(words: list[str], width: int) -> None:
    lines = typed(words, width=width)
    assert shlex.split(lines.replace("\\\n", "")) == words  # shlex knows no continued lines
    for line in lines.split(" \\\n"):
        assert len(line) + 2 <= width or len(shlex.split(line)) == 1


def test_bash_gets_the_words() -> None:
    words = ["it's", "it's \\d", "'\\", "'!'", "'\\\\'", "a b", "[x,y]", "${HOME}", "\\", "*", "~", "(?P<a>b|c)\\d+"]
    command = typed(["printf", "%s\\n", *words], width=12)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words
