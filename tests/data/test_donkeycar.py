"""Check that a tub becomes the episodes a driver would expect, and that a bad tub is named for what it is."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shared_data import shared

from mobile_vla.data.importers.donkeycar import import_tub
from mobile_vla.data.importers.flags import add_flags, options_from
from mobile_vla.data.importers.written_text import WrittenText
from mobile_vla.data.sources.tubs.split import TubOptions, plan_episodes
from mobile_vla.data.sources.tubs.tub import Record, read_tub
from mobile_vla.errors import ConfigError, DataError

NUM_FRAMES = 60
START_MS = 1_668_220_932_411  # 2022-11-12 02:42:12.411 UTC


def write_tub(path: Path, *, deleted: tuple[int, ...] = (), step_ms: int = 50) -> Path:
    """Write a tub of 60 frames in three catalogs; frame i is grey level i; angle and throttle tell i as well."""
    (path / "images").mkdir(parents=True)
    entries = [
        {
            "_index": i,
            "_session_id": "22-11-12_0",
            "_timestamp_ms": START_MS + i * step_ms,
            "cam/image_array": f"{i}_cam_image_array_.jpg",
            "user/angle": i / 100 - 0.3,
            "user/throttle": i / 200,
        }
        for i in range(NUM_FRAMES)
    ]
    for number in range(3):
        lines = [json.dumps(entry) + "\n" for entry in entries[25 * number : 25 * number + 25]]
        (path / f"catalog_{number}.catalog").write_text("".join(lines))
    for i in range(NUM_FRAMES):
        Image.fromarray(np.full((12, 16, 3), i, np.uint8)).save(image(path, i))
    write_manifest(path, paths=[f"catalog_{number}.catalog" for number in range(3)], deleted_indexes=list(deleted))
    return path


def write_manifest(tub: Path, **state: Any) -> None:
    (tub / "manifest.json").write_text("[]\n[]\n{}\n{}\n" + json.dumps(state) + "\n")


def replace_line(tub: Path, text: str) -> None:
    """Replace the line of frame 27, the third of the second catalog."""
    catalog = tub / "catalog_1.catalog"
    lines = catalog.read_text().splitlines()
    catalog.write_text("\n".join([*lines[:2], text, *lines[3:]]) + "\n")


def set_key(tub: Path, key: str, value: Any) -> None:
    """Give frame 27 another value at ``key``, or no such key for None."""
    entry = json.loads((tub / "catalog_1.catalog").read_text().splitlines()[2]) | {key: value}
    replace_line(tub, json.dumps({name: entry[name] for name in entry if entry[name] is not None}))


def image(tub: Path, i: int) -> Path:
    return tub / "images" / f"{i}_cam_image_array_.jpg"


law = settings(max_examples=40)  # making a drive of up to 40 records takes most of a case


def record(index: int, timestamp_ms: int, session: str) -> Record:
    return Record(index=index, timestamp_ms=timestamp_ms, session_id=session, image="", angle=0.0, throttle=0.0)


@st.composite
def drives(draw: st.DrawFn) -> tuple[list[Record], set[int]]:
    """A recorded drive with gaps, sessions and a faulty clock, and some of its indexes (and others) marked deleted."""
    index, timestamp_ms, session = 0, START_MS, 0
    records = []
    for _ in range(draw(st.integers(1, 40))):
        records.append(record(index, timestamp_ms, f"s{session}"))
        index += draw(st.sampled_from([1, 1, 1, 1, 2, 7, -3]))
        timestamp_ms += draw(st.sampled_from([50, 50, 50, 1000, 1001, 0, -1]))
        session += draw(st.sampled_from([0, 0, 0, 0, 1]))
    deleted = draw(st.sets(st.integers(-5, 60), max_size=12))
    return [record for record in records if record.index not in deleted], deleted


@law
@given(drives())
def test_runs_hold_every_frame_and_break_exactly_where_neighbours_do_not_follow(drive: tuple[list[Record], set[int]]):
    records, deleted = drive
    plan = plan_episodes(records, deleted, TubOptions(min_frames=1, max_frames=None))
    assert [record for run in plan.episodes for record in run] == records

    ends = {id(run[-1]) for run in plan.episodes}
    for before, after in pairwise(records):
        is_next = after.index == before.index + 1 and after.session_id == before.session_id
        is_soon = 0 <= after.timestamp_ms - before.timestamp_ms <= 1000
        assert (id(before) in ends) != (is_next and is_soon)


@law
@given(drives(), st.integers(1, 6), st.integers(0, 6))
def test_every_frame_is_in_an_episode_or_dropped(drive: tuple[list[Record], set[int]], min_frames: int, more: int):
    records, deleted = drive
    max_frames = min_frames + more
    plan = plan_episodes(records, deleted, TubOptions(min_frames=min_frames, max_frames=max_frames))
    assert all(min_frames <= len(episode) <= max_frames for episode in plan.episodes)
    assert all(len(piece) < min_frames for piece in plan.short_runs + plan.tails)
    pieces = plan.episodes + plan.short_runs + plan.tails
    assert sorted(id(record) for piece in pieces for record in piece) == sorted(map(id, records))
    assert sum(plan.breaks.values()) == max(plan.num_runs - 1, 0)


@law
@given(drives())
def test_without_rules_a_drive_is_one_episode(drive: tuple[list[Record], set[int]]):
    records, deleted = drive
    rules_off = TubOptions(split_at_deleted=False, split_at_session=False, split_at_index_jump=False, min_frames=1)
    plan = plan_episodes(records, deleted, replace(rules_off, max_clock_gap_s=None, max_frames=None))
    assert plan.episodes == ([records] if records else [])


def test_each_rule_breaks_for_its_own_reason_alone():
    drive = [record(*row) for row in [(0, 0, "a"), (2, 1000, "a"), (3, 2000, "b"), (5, 3000, "b"), (6, 4001, "b")]]
    options = TubOptions(min_frames=1)
    reasons = {"deleted frames": 1, "session changes": 1, "index jumps": 1, "clock gaps": 1}
    assert plan_episodes(drive, {1}, options).breaks == reasons
    rules = ("split_at_deleted", "split_at_session", "split_at_index_jump", "max_clock_gap_s")
    for reason, rule in zip(reasons, rules, strict=True):
        without = replace(options, **{rule: None if rule == "max_clock_gap_s" else False})
        assert plan_episodes(drive, {1}, without).breaks == {key: 1 for key in reasons if key != reason}


def test_an_import_keeps_frames_commands_and_rate_together(tmp_path: Path):
    tub = write_tub(tmp_path / "tub", deleted=(25, 26, 59))
    options = TubOptions(min_frames=5, max_frames=20, throttle_scale=2.0, angle_scale=3.0)
    report = import_tub(tub, tmp_path / "out", options, text=WrittenText(instruction="Drive on"))

    files = sorted((tmp_path / "out").iterdir())
    assert [file.stem[-8:] for file in files] == ["12_00000", "13_00001", "13_00002", "14_00003"]
    assert files[0].name == "episode_20221112_024212_00000.h5"
    expected = [range(20), range(20, 25), range(27, 47), range(47, 59)]
    for file, indexes in zip(files, expected, strict=True):
        with h5py.File(file) as episode:
            i = np.array(indexes)
            grey = np.broadcast_to(i[:, None, None, None], (len(i), 12, 16, 3))
            np.testing.assert_allclose(episode["images"][:], grey, atol=2)  # JPEG is lossy
            commands = np.stack([i / 100, 0 * i, 0.9 - 3 * i / 100], axis=1)
            np.testing.assert_allclose(episode["actions"][:], commands, atol=1e-6)
            assert episode["language_instruction"][0] == b"Drive on"
            attributes = {"first_index": i[0], "last_index": i[-1], "frame_rate_hz": 20, "source_tub": "tub"}
            assert attributes.items() <= dict(episode.attrs).items()
    assert report.lengths == (20, 5, 20, 12)
    assert (report.num_records, report.num_deleted, report.num_runs, report.num_cut_runs) == (60, 3, 2, 2)
    assert "4 with 57 frames" in str(report)
    assert sorted(os.listdir(tmp_path)) == ["out", "tub"]


def test_what_is_dropped_is_counted_by_its_reason(tmp_path: Path):
    tub = write_tub(tmp_path / "tub", deleted=(10,))
    report = import_tub(tub, tmp_path / "out", TubOptions(min_frames=11, max_frames=20))
    assert (report.num_short_runs, report.num_short_run_frames) == (1, 10)
    assert (report.num_tails, report.num_tail_frames) == (1, 9)
    assert report.lengths == (20, 20)
    assert report.num_deleted + report.num_short_run_frames + report.num_tail_frames + report.num_frames == 60


def test_time_stamps_of_a_conversion_give_no_frame_rate_but_a_warning(tmp_path: Path):
    tub = write_tub(tmp_path / "tub", step_ms=3)
    report = import_tub(tub, tmp_path / "measured", TubOptions())
    assert report.frame_rate_hz is None
    assert any("3 ms apart" in text for text in report.warnings)
    with h5py.File(next((tmp_path / "measured").iterdir())) as episode:
        assert "frame_rate_hz" not in episode.attrs

    report = import_tub(tub, tmp_path / "given", TubOptions(frame_rate_hz=20))
    assert report.frame_rate_hz == 20
    assert not any("apart" in text for text in report.warnings)


def test_leftovers_and_deleted_records_are_not_looked_at(tmp_path: Path):
    tub = write_tub(tmp_path / "tub", deleted=(27,))
    (tub / "._catalog_0.catalog").write_bytes(b"\x00\x05\x16\x07")
    image(tub, 27).unlink()
    set_key(tub, "user/angle", "broken")
    assert import_tub(tub, tmp_path / "out", TubOptions()).num_frames == 59


def test_a_sixteen_bit_joystick_at_its_end_is_in_range(tmp_path: Path):
    tub = write_tub(tmp_path / "tub")
    set_key(tub, "user/angle", -32768 / 32767)
    assert import_tub(tub, tmp_path / "out", TubOptions()).angular_z[1] == pytest.approx(1, abs=1e-4)


ALL, FIRST = list(range(NUM_FRAMES)), ["catalog_0.catalog"]
BAD_TUBS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no manifest": (lambda tub: (tub / "manifest.json").unlink(), r"is not a DonkeyCar tub: it has no manifest\.json"),
    "short manifest": (lambda tub: (tub / "manifest.json").write_text("[]"), r"manifest\.json .*1 lines.* 5 expected"),
    "broken manifest": (lambda tub: (tub / "manifest.json").write_text("\n\n\n\n{"), r"cannot be read: line 5 is no"),
    "manifest without paths": (lambda tub: write_manifest(tub, deleted_indexes=[]), r"manifest\.json .*'paths'"),
    "missing catalog": (lambda tub: (tub / "catalog_1.catalog").unlink(), r"catalog_1\.catalog is missing"),
    "binary catalog": (lambda tub: (tub / "catalog_1.catalog").write_bytes(b"\xff"), r"catalog_1\.catalog is not text"),
    "broken line": (lambda tub: replace_line(tub, '{"_index": 27, '), r"catalog_1\.catalog line 3: is not JSON"),
    "no object": (lambda tub: replace_line(tub, "[1, 2]"), r"catalog_1\.catalog line 3 holds \[1, 2\]"),
    "no angle": (lambda tub: set_key(tub, "user/angle", None), r"catalog_1\.catalog line 3 has no `user/angle`, only"),
    "NaN angle": (lambda tub: set_key(tub, "user/angle", math.nan), r"line 3: `user/angle` is nan, .*mark frame 27"),
    "large throttle": (lambda tub: set_key(tub, "user/throttle", 1.5), r"line 3: `user/throttle` is 1\.5, .*-1 to 1"),
    "angle as text": (lambda tub: set_key(tub, "user/angle", "0.5"), r"line 3: `user/angle` is '0\.5', expected int"),
    "index as list": (lambda tub: set_key(tub, "_index", [27]), r"line 3: `_index` is \[27\], expected int"),
    "clock before 1970": (lambda tub: set_key(tub, "_timestamp_ms", -1), r"line 3: `_timestamp_ms` is -1, expected"),
    "no images folder": (lambda tub: (tub / "images").rename(tub / "frames"), r"images is missing"),
    "missing image": (lambda tub: image(tub, 7).unlink(), r"/7_cam_image_array_\.jpg is missing, but frame 7 names"),
    "pointer file": (lambda tub: image(tub, 7).write_text("version https://git-lfs"), r"/7_cam.* not a readable image"),
    "truncated image": (lambda tub: os.truncate(image(tub, 7), 600), r"/7_cam.* not a readable image .*(?i:truncated)"),
    "other size": (lambda tub: Image.new("RGB", (32, 24)).save(image(tub, 7)), r"/7_cam.* is 32x24, but .* 16x12 px"),
    "all deleted": (lambda tub: write_manifest(tub, paths=FIRST, deleted_indexes=ALL), r"all 25 frames are marked del"),
    "no records": (lambda tub: write_manifest(tub, paths=[], deleted_indexes=[]), r"no episode: it holds no records"),
    "short": (lambda tub: write_manifest(tub, paths=FIRST, deleted_indexes=[15]), r"of its 2 runs has 15 .* is 20"),
}


@pytest.mark.parametrize("name", BAD_TUBS)
def test_a_bad_tub_gives_one_clear_error_and_leaves_nothing_behind(tmp_path: Path, name: str):
    spoil, message = BAD_TUBS[name]
    tub = write_tub(tmp_path / "tub")
    spoil(tub)
    with pytest.raises(DataError, match=message):
        import_tub(tub, tmp_path / "out", TubOptions())
    assert os.listdir(tmp_path) == ["tub"]


def test_an_occupied_out_is_left_alone_and_an_empty_one_is_filled(tmp_path: Path):
    tub = write_tub(tmp_path / "tub")
    out = tmp_path / "out"
    out.mkdir()
    import_tub(tub, out, TubOptions())
    before = sorted(out.iterdir())
    with pytest.raises(DataError, match=r"out exists and is not an empty folder\. Name a new folder"):
        import_tub(tub, out, TubOptions())
    assert sorted(out.iterdir()) == before


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"min_frames": 0}, "min_frames is 0"),
    ({"min_frames": 30, "max_frames": 20}, r"max_frames is 20, expected at least min_frames \(30\)"),
    ({"max_clock_gap_s": -1.0}, "max_clock_gap_s is -1.0"),
    ({"frame_rate_hz": 0.0}, "frame_rate_hz is 0.0"),
    ({"angle_scale": math.nan}, "angle_scale is nan"),
    ({"throttle_scale": 0.0}, "throttle_scale is 0.0"),
]


@pytest.mark.parametrize(("values", "message"), BAD_OPTIONS)
def test_options_that_cannot_work_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        TubOptions(**values)


@pytest.mark.parametrize(("text", "message"), [(" ", "is empty"), ("go \udcff", "expected a sentence in UTF-8")])
def test_an_instruction_that_cannot_be_written_is_refused(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        WrittenText(instruction=text)


def test_every_option_is_a_flag(capsys: pytest.CaptureFixture[str]):
    parser = argparse.ArgumentParser()
    add_flags(parser, TubOptions)
    assert options_from(parser.parse_args([]), TubOptions) == TubOptions()
    assert all("--" + entry.name.replace("_", "-") in parser.format_help() for entry in fields(TubOptions))
    arguments = ["--no-split-at-deleted", "--max-frames", "none", "--max-clock-gap-s", "2.5"]
    expected = TubOptions(split_at_deleted=False, max_frames=None, max_clock_gap_s=2.5)
    assert options_from(parser.parse_args(arguments), TubOptions) == expected
    with pytest.raises(SystemExit):
        parser.parse_args(["--max-frames", "many"])
    assert "--max-frames: invalid int or none value: 'many'" in capsys.readouterr().err


@pytest.mark.slow  # a thousand frames; a quick run trains on the same tub as it lies
def test_the_small_real_tub_imports(tmp_path: Path):
    report = import_tub(shared("donkeycar_test_tub"), tmp_path / "out", TubOptions())
    assert report.lengths == (200,) * 5
    assert report.frame_rate_hz is None
    assert report.angular_z == pytest.approx((-1, 0.857), abs=1e-3)
    with h5py.File(sorted((tmp_path / "out").iterdir())[0]) as episode:
        assert episode["images"].shape == (200, 120, 160, 3)
        assert episode["actions"][0] == pytest.approx([0.5391259, 0, -0.298604])


def test_the_large_real_tub_has_the_runs_its_readme_counts():
    tub = read_tub(shared("formula_usi_track2"))
    plan = plan_episodes(tub.records, tub.deleted, TubOptions(max_frames=None))
    assert (len(tub.records), tub.num_deleted) == (9815, 5863)
    assert len(plan.episodes) == 92
    assert sum(map(len, plan.episodes)) + sum(map(len, plan.short_runs)) == 9815
