"""A tub read directly gives what its import gives, and says what it leaves out."""

from __future__ import annotations

import json
import pickle
import random
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from mutated_tubs import NUM_FRAMES, mutate, write_small_tub
from PIL import Image
from shared_data import shared
from test_tub_laws import CLAIMS, LEADS_OUT, UNWRITTEN, someone_else

from mobile_vla.data.digests import digest_recordings
from mobile_vla.data.episodes import read_recordings
from mobile_vla.data.importers.donkeycar import import_tub
from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.tubs.source import TubSource, find_tubs, is_tub
from mobile_vla.data.sources.tubs.split import TubOptions
from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.spec import known_signal, parse_spec

_folder = tempfile.TemporaryDirectory()
CACHE = Path(_folder.name)
"""What was read of a tub: in one folder for all tests, so that a tub that was changed must be read again."""


@pytest.fixture
def tub(tmp_path: Path) -> Path:
    """A whole tub of 30 frames, frame 0 deleted, beside a folder ``outside`` with an image and a catalog."""
    return write_small_tub(tmp_path / "tub")


def source_of(tub: Path, **options: Any) -> TubSource:
    return TubSource(folder=tub, options=TubOptions(**{"min_frames": 1, **options}))


def recordings_of(tub: Path, **options: Any) -> list[Recording]:
    scanned = read_recordings(source_of(tub, **options), cache_dir=CACHE, num_workers=1)
    assert scanned.problems == []
    return list(scanned.recordings)


def images_of(recording: Recording, source: TubSource) -> np.ndarray:
    return np.concatenate(list(source.frames(recording, "camera")))


def look_at_all(path: Path) -> int:
    """Read all recordings of a tub and decode all frames, in a reading process; raise the first error."""
    source = source_of(path)
    steps = source.read(source.find().files[0])
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
    for recording in found:
        if isinstance(recording, DataError):
            raise recording
        for _ in source.frames(recording, "camera"):
            pass
    return len(found)


def drive_by_pilot(tub: Path, first: int, last: int, mode: str = "local_angle") -> None:
    """Let a pilot drive the frames ``first`` to ``last``: their commands are rubbish."""
    for catalog in tub.glob("catalog_*.catalog"):
        entries = [json.loads(line) for line in catalog.read_text().splitlines()]
        for entry in entries:
            if first <= entry["_index"] <= last:
                entry |= {"user/mode": mode, "user/angle": None, "pilot/angle": 0.1}
        catalog.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize("scales", [{}, {"throttle_scale": 2.5, "angle_scale": -0.7}])
def test_a_tub_gives_what_its_import_gives(tub: Path, tmp_path: Path, scales: dict[str, float]):
    drive_by_pilot(tub, 12, 14)
    report = import_tub(tub, tmp_path / "out", TubOptions(min_frames=1, max_frames=8, **scales))
    source = source_of(tub, max_frames=8, **scales)
    recordings = recordings_of(tub, max_frames=8, **scales)
    files = sorted((tmp_path / "out").iterdir())
    assert [recording.name for recording in recordings] == [file.stem for file in files]
    assert sum(recording.num_frames for recording in recordings) == report.num_frames == NUM_FRAMES - 4
    for recording, path in zip(recordings, files, strict=True):
        with h5py.File(path) as file:
            np.testing.assert_array_equal(recording.actions, np.asarray(file["actions"])[:, [0, 2]])
            np.testing.assert_array_equal(images_of(recording, source), np.asarray(file["images"]))
            spec = parse_spec(json.loads(str(file.attrs["mobile_vla_spec"])))
        assert (spec.actions[0], spec.actions[2]) == recording.spec.actions
        assert spec.action_names == ("linear_x", "linear_y", "angular_z")
        assert (spec.cameras, spec.rate_hz) == (recording.spec.cameras, recording.spec.rate_hz)
        assert set(np.asarray(h5py.File(path)["actions"])[:, 1]) == {0}


def test_commands_are_normalised_unless_a_scale_was_given(tub: Path):
    assert {signal.unit for signal in recordings_of(tub)[0].spec.actions} == {"normalised"}
    linear_x, angular_z = recordings_of(tub, angle_scale=1.0)[0].spec.actions
    assert linear_x.unit == "normalised"
    assert angular_z == known_signal("angular_z")


def test_what_a_pilot_drove_is_no_label(tub: Path, tmp_path: Path):
    drive_by_pilot(tub, 5, 9)
    recordings = recordings_of(tub)
    assert [(r.part["first_index"], r.part["last_index"]) for r in recordings] == [(1, 4), (10, 29)]
    assert any("5 frames are left out, because an autopilot drove" in note for note in recordings[0].notes)
    report = import_tub(tub, tmp_path / "out", TubOptions(min_frames=1))
    assert (report.num_autopilot, report.num_frames, report.breaks) == (5, 24, {"autopilot frames": 1})
    assert report.left_aside["images of frames that an autopilot drove"] == 5
    assert "30, of which 1 marked deleted and 5 driven by an autopilot" in str(report)

    drive_by_pilot(tub, 0, NUM_FRAMES, mode="local")
    with pytest.raises(DataError, match="gives no episode: of 30 frames an autopilot drove 29, and 1 are marked del"):
        import_tub(tub, tmp_path / "none", TubOptions(min_frames=1))


def test_unread_columns_are_named(tub: Path):
    assert not any("not read" in note for note in recordings_of(tub)[0].notes)
    drive_by_pilot(tub, 3, 3, mode="user")
    with pytest.raises(DataError, match=r"`user/angle` is None"):
        look_at_all(tub)
    drive_by_pilot(tub, 3, 3)
    assert any("of each record, pilot/angle is not read" in note for note in recordings_of(tub)[0].notes)


def test_an_episode_without_one_of_its_images_is_left_out_alone(tub: Path):
    (tub / "images" / "7_cam_image_array_.jpg").unlink()
    scanned = read_recordings(source_of(tub, max_frames=10), cache_dir=CACHE, num_workers=1)
    assert [recording.part["first_index"] for recording in scanned.recordings] == [11, 21]
    assert [str(problem).split(",")[0] for problem in scanned.problems] == [
        f"{tub}: images/7_cam_image_array_.jpg is missing"
    ]


def test_a_tub_is_read_again_where_its_images_changed(tub: Path):
    assert len(recordings_of(tub)) == 1
    for path in (tub / "images").iterdir():
        Image.new("RGB", (8, 6)).save(tmp := path.with_suffix(".tmp"), "JPEG")
        path.write_bytes(tmp.read_bytes())  # in place: the folder may look as before
        tmp.unlink()
    assert recordings_of(tub)[0].spec.cameras[0].rows == 6
    (tub / "images" / "7_cam_image_array_.jpg").unlink()
    scanned = read_recordings(source_of(tub), cache_dir=CACHE, num_workers=1)
    assert "7_cam_image_array_.jpg is missing" in str(scanned.problems[0])


def test_the_digest_covers_images_and_commands_of_the_episode_alone(tub: Path, tmp_path: Path):
    def digests(**options: Any) -> list[str]:
        recordings = recordings_of(tub, max_frames=10, **options)
        return list(digest_recordings(recordings, cache_dir=tmp_path / "cache").values())

    before = digests()
    assert len(set(before)) == 3
    assert digests() == before
    Image.new("RGB", (32, 24), "red").save(tub / "images" / "15_cam_image_array_.jpg")
    with_image = digests()
    assert [a == b for a, b in zip(before, with_image, strict=True)] == [True, False, True]
    catalog = tub / "catalog_2.catalog"
    catalog.write_text(catalog.read_text().replace('"user/throttle": 0.4', '"user/throttle": 0.5', 1))
    with_command = digests()
    assert [a == b for a, b in zip(with_image, with_command, strict=True)] == [True, False, True]
    assert all(a != b for a, b in zip(with_command, digests(angle_scale=2.0), strict=True))


BAD = {name: case for cases in (LEADS_OUT, UNWRITTEN, CLAIMS) for name, case in cases.items()}


@pytest.mark.parametrize("name", BAD)
def test_self_contained_written_and_bounded_as_the_import_is(tub: Path, name: str):
    spoil, message = BAD[name]
    spoil(tub)
    with pytest.raises(DataError, match=message) as caught:
        ask(look_at_all, tub)
    assert str(caught.value).startswith(f"{tub}: ")
    assert not isinstance(caught.value, UnreadableNowError)


@pytest.mark.parametrize("seed", range(60))
def test_bounded_whatever_is_wrong(tub: Path, seed: int):
    mutate(tub, seed)
    message = ""
    try:
        assert ask(look_at_all, tub) > 0
    except DataError as error:
        message = str(error)
    assert message.startswith(f"{tub}: ") or not message
    assert "this is a bug" not in message


@pytest.mark.parametrize("name", ["manifest.json", "catalog_1.catalog", "images", "images/7_cam_image_array_.jpg"])
def test_the_cause_is_named_where_permission_is_missing(name: str):
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        Path(place).chmod(0o777)
        tub = write_small_tub(Path(place) / "tub")
        (tub / name).chmod(0)
        with someone_else(), pytest.raises(UnreadableNowError, match=rf"{name}: cannot be read: there is no perm"):
            look_at_all(tub)


def test_tubs_are_found_at_any_depth_and_recognised_by_content(tub: Path, tmp_path: Path):
    write_small_tub(tmp_path / "deep" / "er" / "tub_2")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{}")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    assert [path.name for path in find_tubs(tmp_path)[0]] == ["tub_2", "tub"]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "tub_3").symlink_to(tub)
    assert [path.name for path in find_tubs(tmp_path / "linked")[0]] == ["tub_3"]
    assert is_tub(tub)
    assert not is_tub(tmp_path / "web")
    assert not is_tub(tub / "images")
    with pytest.raises(DataError, match="holds no DonkeyCar tub"):
        source_of(tmp_path / "web").find()
    with pytest.raises(DataError, match="no such folder"):
        source_of(tmp_path / "absent").find()
    fields = [recording.fields for recording in recordings_of(tub)]
    assert fields == [{"session": "22-11-12_0"}]
    scanned = read_recordings(source_of(tmp_path), cache_dir=CACHE, num_workers=1)
    assert [recording.fields["tub"] for recording in scanned.recordings] == ["tub_2"], "the other has the same names"
    assert pickle.loads(pickle.dumps(source_of(tub))) == source_of(tub)


@pytest.mark.parametrize(("name", "num_episodes"), [("donkeycar_test_tub", 5), ("formula_usi_track2", 105)])
def test_a_real_tub_agrees_with_its_files(name: str, num_episodes: int):
    tub = shared(name)
    source = TubSource(folder=tub, options=TubOptions())
    recordings = list(read_recordings(source, cache_dir=CACHE, num_workers=1).recordings)
    assert len(recordings) == num_episodes
    entries = {}
    for catalog in tub.glob("catalog_*.catalog"):
        entries |= {entry["_index"]: entry for entry in map(json.loads, catalog.read_text().splitlines())}
    deleted = set(json.loads((tub / "manifest.json").read_text().splitlines()[4])["deleted_indexes"])
    for recording in recordings:
        rows = [entries[i] for i in range(recording.part["first_index"], recording.part["last_index"] + 1)]
        assert not deleted & {row["_index"] for row in rows}
        expected = [[row["user/throttle"], -row["user/angle"]] for row in rows]
        np.testing.assert_array_equal(recording.actions, np.array(expected, np.float32))
    rng = random.Random(0)
    for recording in rng.sample(recordings, 3):
        images = images_of(recording, source)
        for frame in rng.sample(range(recording.num_frames), 5):
            entry = entries[recording.part["first_index"] + frame]
            picture = np.asarray(Image.open(tub / "images" / entry["cam/image_array"]))
            np.testing.assert_array_equal(images[frame], picture)
