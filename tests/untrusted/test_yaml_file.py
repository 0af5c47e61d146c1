"""YAML from somebody else: what a good config says is read as ever; bombs and loops end at once, with their line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_runs import Ran

from mobile_vla.errors import UserError
from mobile_vla.untrusted.stored_config import config_in, read_stored_config
from mobile_vla.untrusted.yaml_file import read_yaml

ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = {
    "aliases of aliases": (ALIASES, r"line 5: holds more than 20,000 values"),
    "aliases merged": ("a: &a {b: 1}\nc:\n  <<: [" + "*a, " * 11_000 + "]", r"line 3: holds more than"),
    "itself in a list": ("a: 1\nb: &b [*b]", r"line 2: \*b is inside the value that it repeats"),
    "itself in a mapping": ("a: &a\n  b:\n    c: *a", r"line 3: \*a is inside"),
    "itself merged": ("a: &a\n  <<: *a", r"line 2: \*a is inside"),
    "deep in brackets": ("a: " + "[" * 100_000, r"line 1: is nested more than 50 deep"),
    "deep in lines": ("\n".join(" " * depth + "- " for depth in range(600)), r"line 51: is nested"),
    "many values": ("a: [" + "x, " * 100_000 + "]", r"line 1: holds more than"),
    "a long value": ("b: 1\na: " + "1:" * 50_000 + "1", r"line 2: a value of 100,001 characters"),
    "a long number": ("a: " + "9" * 19_000, r"digit"),
    "many bytes": ("a: " + "x" * 2**20, r"is larger than"),
    "an unknown alias": ("a: *b", r"line 1: \*b repeats nothing"),
    "an object": ("a: !!python/object/apply:os.system [ls]", r"could not determine a constructor"),
    "no mapping": ("[1, 2]", r"holds no YAML mapping"),
    "nothing": ("", r"holds no YAML mapping"),
    "no YAML": ("a: [", r"is not YAML"),
    "binary": ("\x00\x01", r"is not YAML"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_at_once_and_is_named(bomb: str, tmp_path: Path) -> None:
    text, message = BOMBS[bomb]
    (tmp_path / "config.yaml").write_text(text)
    started = time.process_time()
    for read in (lambda: read_stored_config(tmp_path), lambda: read_yaml(tmp_path / "config.yaml")):
        with pytest.raises(UserError, match=message) as refused:
            read()
        assert str(refused.value).startswith(str(tmp_path / "config.yaml"))
    assert time.process_time() - started < 4


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "a ${seed}", "${oc.decode:${x}}", "'${oc.env:HOME}'"])
@pytest.mark.parametrize("where", ["a:\n  b: {}", "a: [1, {}]", "a:\n  ? {}\n  : 1"])
def test_nothing_is_interpolated(where: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(where.format(f'"{value}"'))
    with pytest.raises(UserError, match=r"line [12]: .* would be replaced by something of this machine"):
        read_stored_config(tmp_path)


def test_a_config_of_a_run_is_read_as_omegaconf_reads_it(whole: Ran) -> None:
    assert read_stored_config(whole.folder) == OmegaConf.load(whole.folder / "config.yaml")
    assert read_yaml(whole.folder / ".hydra" / "hydra.yaml")["hydra"]["runtime"]["choices"]["sampler"] == "shuffled"


def test_few_aliases_and_notations_are_read(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("a: &a [1e-3, 2]\nb: *a\nc: {<<: &c {d: 1}, e: no}\nf: 0x10\n")
    assert config_in(path) == OmegaConf.load(path)
