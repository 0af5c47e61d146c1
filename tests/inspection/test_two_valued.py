"""Check that `inspect` names signals with two values, with options that can be pasted."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_pages import inspected, moving_images, wandering, write_recording
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny_runs import SMALLEST_MODEL

from mobile_vla.commands import cli
from mobile_vla.inspection.two_valued import two_valued


def write_set(folder: Path) -> Path:
    """Write episodes with a switch of 0/1 and one of -1/+1 among the actions, and one of 0/1 in the state."""
    folder.mkdir()
    for index in range(4):
        actions_FA, qpos_FS = wandering(20, 4, seed=index), wandering(20, 2, seed=index)
        actions_FA[:, 1], actions_FA[:, 2] = np.arange(20) >= 10 + index, np.where(np.arange(20) < 5, -1, 1)
        actions_FA[:, 3] = 0.5
        qpos_FS[:, 1] = np.arange(20) % 2
        write_recording(
            folder / f"run_{index}.h5",
            images_FYXC=moving_images(20, seed=index),
            actions_FA=actions_FA,
            qpos_FS=qpos_FS,
        )
    return folder


def test_signals_with_two_values_are_named_and_the_option_that_is_shown_says_what_they_are(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    [said] = two_valued(inspected(folder, "model.state=all").contents)
    text, _, options = said.partition(": ")
    assert "(0, 1)" in text
    assert "(-1, 1)" in text
    assert text.endswith("have two values only; if they are switches, say so in dataset.signals")
    overrides = shlex.split(options)
    assert len(overrides) == 3
    found = inspected(folder, "model.state=all", *overrides)
    assert two_valued(found.contents) == []
    spec = found.data.spec
    assert [signal.kind for signal in spec.actions] == ["position", "binary", "binary", "position"]
    assert [signal.kind for signal in spec.state] == ["position", "binary"]


def test_inspect_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_set(tmp_path / "set")
    with pytest.raises(SystemExit):
        cli.main(["inspect", str(folder), f"dataset.cache_dir={tmp_path}/cache", *SMALLEST_MODEL])
    said = " ".join(capsys.readouterr().out.split())
    assert "(0, 1), action_2 (-1, 1) have two values only" in said
    assert "'dataset.signals.action_1={kind: binary}'" in said


@pytest.mark.parametrize(
    "name", ["left.gripper", "left-gripper", "grip(l)", "a[0]", "a:b", "a=b,c", "a$b", "a\\b", "1a"]
)
def test_odd_names_are_said_so_that_hydra_reads_them(tmp_path: Path, name: str) -> None:
    contents = inspected(write_set(tmp_path / "set")).contents
    [entry] = [entry for entry in contents.actions if entry.signal.name == "action_1"]
    entry = replace(entry, signal=replace(entry.signal, name=name))
    [said] = two_valued(replace(contents, actions=[entry], state=[]))
    overrides = shlex.split(said.partition("dataset.signals: ")[2])
    [parsed] = OverridesParser.create().parse_overrides(overrides)
    value: Any = parsed.value()
    assert (parsed.key_or_group, value) == ("dataset.signals", {name: {"kind": "binary"}})


@pytest.mark.parametrize("name", ["pince_fermée", "5", "it's"])
def test_a_name_that_hydra_cannot_read_gets_no_command(tmp_path: Path, name: str) -> None:
    contents = inspected(write_set(tmp_path / "set")).contents
    [entry] = [entry for entry in contents.actions if entry.signal.name == "action_1"]
    entry = replace(entry, signal=replace(entry.signal, name=name))
    [said] = two_valued(replace(contents, actions=[entry], state=[]))
    assert said == f"{name} (0, 1) has two values only; if it is a switch, say so in dataset.signals"
