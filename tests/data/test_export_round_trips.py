"""An export has everything of the recordings: read back, all values, frames, texts and the spec are equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from made_exports import ARM, export, frames_of, scan_of, write_arm
from made_lerobot import write_v21, write_v30
from mutated_tubs import write_small_tub
from shared_data import shared
from tiny_runs import slow_but

from mobile_vla.data.dataset import Scan
from mobile_vla.data.exporters.hdf5 import spec_text
from mobile_vla.spec import Camera, Signal, SignalKind, Spec, parse_spec


def write_source(name: str, folder: Path) -> Path:
    if name == "hdf5":
        return write_arm(folder)
    if name == "hdf5 of one camera":
        return write_arm(folder, spec=replace(ARM, cameras=ARM.cameras[:1], state=()))
    if name == "lerobot v2.1":
        return write_v21(folder)
    if name == "lerobot v3.0":
        return write_v30(folder, images=True)
    if name == "tub":
        folder.mkdir()
        return write_small_tub(folder / "tub")
    return shared(f"formats/{name}")


SOURCES = (
    "hdf5",
    "hdf5 of one camera",
    "lerobot v2.1",
    "lerobot v3.0",
    "tub",
    "rosbag2_mcap",
    "lerobot_v30_video",
    "robomimic",
)


@pytest.mark.parametrize("format", ["lerobot", "hdf5"])
# Quick: one of each kind of source; the further ones differ in where the recordings come from.
@pytest.mark.parametrize("source", slow_but(SOURCES, ("hdf5", "lerobot v3.0", "tub", "rosbag2_mcap")))
def test_what_is_exported_is_read_back_unchanged(source: str, format: str, tmp_path: Path) -> None:
    path, cache = write_source(source, tmp_path / "in"), tmp_path / "cache"
    before = scan_of(path, cache)
    assert before.spec is not None
    rate_hz = 20.0 if before.spec.rate_hz is None else None
    report = export(path, tmp_path / "out", format=format, rate_hz=rate_hz)
    after = scan_of(tmp_path / "out", cache)
    assert report.num_episodes == len(before.episodes)
    _check_equal(before, after, rate_hz=rate_hz, of_bags=source == "rosbag2_mcap" and format == "lerobot")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def _check_equal(before: Scan, after: Scan, *, rate_hz: float | None, of_bags: bool = False) -> None:
    assert len(after.episodes) == len(before.episodes)
    for one, other in zip(before.recordings.values(), after.recordings.values(), strict=True):
        np.testing.assert_array_equal(other.actions, one.actions)
        np.testing.assert_array_equal(other.state, one.state)
        spec = one.spec if rate_hz is None else replace(one.spec, rate_hz=rate_hz)
        if of_bags:  # each bag has its own measured rate, a LeRobot data set has one
            assert spec.rate_hz == pytest.approx(other.spec.rate_hz, rel=0.01)
            spec = replace(spec, rate_hz=other.spec.rate_hz)
        assert other.spec == spec
        assert {name: other.fields.get(name) for name in one.fields if name != "num_frames"} == {
            name: text for name, text in one.fields.items() if name != "num_frames"
        }
    for one, other in zip(before.episodes, after.episodes, strict=True):
        source = "constant" if one.instruction_source == "constant" else "file"
        assert (other.instruction, other.instruction_source) == (one.instruction, source)
    for one, other in zip(frames_of(before), frames_of(after), strict=True):
        assert list(one) == list(other)
        for camera in one:
            np.testing.assert_array_equal(one[camera], other[camera])


def test_two_exports_later_nothing_is_lost(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in", attributes={"scenario": "door"})
    scenario = "dataset.scenario=[field:scenario]"
    export(path, tmp_path / "one", scenario, format="lerobot")
    export(tmp_path / "one", tmp_path / "two", scenario, format="hdf5")
    export(tmp_path / "two", tmp_path / "three", scenario, format="lerobot")
    before, after = scan_of(path, tmp_path / "cache"), scan_of(tmp_path / "three", tmp_path / "cache")
    _check_equal(before, after, rate_hz=None)
    for index, recording in enumerate(after.recordings.values()):
        assert recording.fields["episode_name"] == f"run_left_{index:03d}"
        assert (recording.fields["scenario"], recording.fields["room"]) == ("door", f"kitchen {index}")


def test_an_instruction_is_written_where_one_was_recorded_or_is_stated(tmp_path: Path) -> None:
    path = shared("formats/robomimic")
    stated = ("dataset.instruction.order=[constant]", "dataset.instruction.constant='lift the cube'")
    for format in ("lerobot", "hdf5"):
        silent = export(
            path, tmp_path / f"{format}-silent", "dataset.scenario=[instruction]", format=format, rate_hz=20
        )
        assert any("have no instruction and are written without one" in warning for warning in silent.warnings)
        told = export(path, tmp_path / f"{format}-told", *stated, format=format, rate_hz=20)
        assert not any("have no instruction" in warning for warning in told.warnings)
        nothing, something = (scan_of(tmp_path / f"{format}-{name}", tmp_path / "cache") for name in ("silent", "told"))
        assert {(e.instruction_source, e.scenario) for e in nothing.episodes} == {("constant", "unknown")}
        assert {(e.instruction_source, e.instruction) for e in something.episodes} == {("file", "lift the cube")}


def test_the_same_recordings_give_the_same_bytes(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    for format in ("lerobot", "hdf5"):
        for name in ("a", "b"):
            export(path, tmp_path / f"{format}-{name}", format=format)
        files = [p.relative_to(tmp_path / f"{format}-a") for p in (tmp_path / f"{format}-a").rglob("*") if p.is_file()]
        assert len(files) >= 3
        for file in files:
            assert (tmp_path / f"{format}-a" / file).read_bytes() == (tmp_path / f"{format}-b" / file).read_bytes()


def test_swapped_red_and_blue_are_put_right(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    for format in ("lerobot", "hdf5"):
        export(path, tmp_path / format, "dataset.channel_order=bgr", format=format)
        one = frames_of(scan_of(path, tmp_path / "cache"))
        other = frames_of(scan_of(tmp_path / format, tmp_path / "cache"))
        np.testing.assert_array_equal(one[0]["front"][..., ::-1], other[0]["front"])


def test_stated_details_of_signals_travel(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    stated = "dataset.signals={unknown_one: {unit: N, kind: effort, rest: 0, flips: true}}"
    for format in ("lerobot", "hdf5"):
        export(path, tmp_path / format, stated, format=format)
        spec = scan_of(tmp_path / format, tmp_path / "cache").spec
        assert spec is not None
        assert spec.actions[3] == Signal(name="unknown_one", unit="N", kind="effort", rest=0.0, flips=True)
        assert spec.actions[:3] == ARM.actions[:3]


def test_a_thousand_columns_are_described(tmp_path: Path) -> None:
    many = tuple(Signal(name=f"joint_number_{index}", unit="rad", kind="position") for index in range(990))
    spec = replace(ARM, actions=many, cameras=ARM.cameras[:1], state=())
    # The file by hand states them compactly too: the attribute has at most 64 KiB.
    short = replace(spec, actions=tuple(Signal(name=f"a{index}") for index in range(400)))
    for format in ("lerobot", "hdf5"):
        path = write_arm(tmp_path / f"in-{format}", spec=short, lengths=(3,))
        export(path, tmp_path / format, format=format)
        assert scan_of(tmp_path / format, tmp_path / "cache").spec == short
    text = spec_text(spec)
    assert len(text) < 2**16
    assert parse_spec(json.loads(text)) == spec


name = st.text("abcdefghij_-.:", min_size=1, max_size=12).filter(lambda text: text.strip("_.") == text)
finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)
signal = st.builds(
    Signal,
    name=name,
    unit=st.none() | st.sampled_from(["rad", "m/s", "normalised", "°"]),
    kind=st.sampled_from(SignalKind.__args__),
    rest=st.none() | finite,
    flips=st.none() | st.booleans(),
)


def signals(least: int) -> st.SearchStrategy[tuple[Signal, ...]]:
    return st.lists(signal, min_size=least, max_size=4, unique_by=lambda each: each.name).map(tuple)


specs = st.builds(
    Spec,
    actions=signals(1),
    state=signals(0),
    cameras=st.lists(
        st.builds(Camera, name=st.from_regex(r"[a-z]{1,6}", fullmatch=True), rows=st.just(4), columns=st.just(3)),
        min_size=1,
        max_size=2,
        unique_by=lambda camera: camera.name,
    ).map(tuple),
    rate_hz=st.sampled_from([1.0, 7.5, 10.0, 29.97, 30.0, 19.876, 200.0]),
)


@pytest.mark.slow
# Without shrinking: an example takes a second, and the failing one is small.
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
@given(spec=specs, tasks=st.lists(st.text("abc ÄÖ你", min_size=1).filter(str.strip), min_size=1, max_size=2))
def test_any_spec_survives_both_formats(spec: Spec, tasks: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("specs")
    path = write_arm(folder / "in", spec=spec, tasks=[task.strip() for task in tasks], lengths=(3, 2))
    before = scan_of(path, folder / "cache")
    export(path, folder / "lerobot", format="lerobot")
    export(folder / "lerobot", folder / "hdf5", format="hdf5")
    for place in ("lerobot", "hdf5"):
        after = scan_of(folder / place, folder / "cache")
        assert after.spec == before.spec == spec
        _check_equal(before, after, rate_hz=None)


@pytest.mark.parametrize("format", ["hdf5", "lerobot"])
def test_exported_scenarios_are_read_back_by_the_default_rules(format: str, tmp_path: Path) -> None:
    """Whatever rule gave them: their names alone, of which a shipped grammar may read other ones, do not."""
    folder = write_arm(tmp_path / "in", lengths=(5,) * 4)
    table = tmp_path / "labels.csv"
    rows = [f"run_left_{index:03d},{('kitchen', 'hall')[index % 2]}\n" for index in range(4)]
    table.write_text("episode,scenario\n" + "".join(rows))
    rules = f"dataset.scenario=['csv:{table}']"
    export(folder, tmp_path / "out", rules, format=format)

    before, after = scan_of(folder, tmp_path / "a", rules), scan_of(tmp_path / "out", tmp_path / "b")

    assert [e.scenario for e in before.episodes] == ["kitchen", "hall", "kitchen", "hall"]
    assert [e.scenario for e in after.episodes] == [e.scenario for e in before.episodes]
    assert not any("dataset.scenario=field" in warning for warning in before.warnings)
