"""Laws of reading a recording, for DonkeyCar tubs; the tests have the names of those for HDF5 episodes."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_tubs import FAULTS
from mutated_tubs import NUM_FRAMES, write_small_tub
from PIL import Image
from tiny_disks import mounted

from mobile_vla.data.importers.donkeycar import import_tub
from mobile_vla.data.importers.import_report import ImportReport
from mobile_vla.data.sources.tubs.split import TubOptions
from mobile_vla.errors import UserError
from mobile_vla.storage.disk import unreadable


@pytest.fixture
def tub(tmp_path: Path) -> Path:
    """A whole tub of 30 frames, frame 0 deleted, beside a folder ``outside`` with an image and a catalog."""
    return write_small_tub(tmp_path / "tub")


def imported(tub: Path, **options: Any) -> ImportReport:
    return import_tub(tub, tub.parent / "out", TubOptions(min_frames=1, **options))


def image(tub: Path, i: int) -> Path:
    return tub / "images" / f"{i}_cam_image_array_.jpg"


def change(tub: Path, key: str, text: str, *, line: int = 3) -> None:
    """Put the JSON ``text`` at ``key`` of a record of the second catalog, or of the manifest's state (line 4)."""
    path = tub / ("manifest.json" if key in ("paths", "deleted_indexes", "current_index") else "catalog_1.catalog")
    lines = path.read_text().split("\n")
    at = 4 if path.name == "manifest.json" else line
    lines[at] = json.dumps({**json.loads(lines[at]), key: "@"}).replace('"@"', text)
    path.write_text("\n".join(lines))


def move_out(path: Path) -> None:
    """Put ``path`` into the folder ``outside`` and a link to it in its place."""
    outside = next(parent for parent in path.parents if parent.name == "tub").parent / "outside" / path.name
    path.rename(outside)
    path.symlink_to(outside)


LEADS_OUT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "catalog above": (lambda tub: change(tub, "paths", '["../outside/secret.catalog"]'), "lies outside of it"),
    "catalog by path": (lambda tub: change(tub, "paths", '["/etc/passwd"]'), "'/etc/passwd', which lies outside of it"),
    "catalog of NUL": (lambda tub: change(tub, "paths", '["a\\u0000b"]'), "is no file name"),
    "image above": (
        lambda tub: change(tub, "cam/image_array", '"../../outside/secret.jpg"'),
        "catalog_1.* line 4: `cam",
    ),
    "image by path": (
        lambda tub: change(tub, "cam/image_array", '"/dev/zero"'),
        "line 4: `cam/image_array` is '/dev/z",
    ),
    "linked catalog": (
        lambda tub: move_out(tub / "catalog_1.catalog"),
        "'catalog_1.catalog', which lies outside of it",
    ),
    "linked image": (lambda tub: move_out(image(tub, 7)), "'images/7_cam_image_array_.jpg', which lies outside of it"),
    "linked images": (lambda tub: move_out(tub / "images"), "'images', which lies outside of it"),
    "linked manifest": (lambda tub: move_out(tub / "manifest.json"), "'manifest.json', which lies outside of it"),
}


@pytest.mark.parametrize("name", LEADS_OUT)
def test_self_contained(tub: Path, name: str):
    spoil, message = LEADS_OUT[name]
    spoil(tub)
    with pytest.raises(UserError, match=message):
        imported(tub)
    assert not (tub.parent / "out").exists()


def test_a_link_to_a_tub_and_links_inside_it_are_followed(tub: Path):
    (tub / "disk").mkdir()
    image(tub, 7).rename(tub / "disk" / "7.jpg")
    image(tub, 7).symlink_to(tub / "disk" / "7.jpg")
    link = tub.parent / "link"
    link.symlink_to(tub)
    assert imported(link).num_frames == NUM_FRAMES - 1


def fill_with_zeros(path: Path, first: int, last: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[first:last] = bytes(len(content[first:last]))
    path.write_bytes(content)


def enlarge(tub: Path) -> Path:
    """Give every frame a picture of many blocks, and return that of frame 7."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    for i in range(NUM_FRAMES):
        Image.fromarray(noise).save(image(tub, i), "JPEG")
    return image(tub, 7)


UNWRITTEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty image": (lambda tub: os.truncate(image(tub, 7), 0), r"/7_cam.* is empty \(0 bytes\): it was never written"),
    "image of zeros": (lambda tub: fill_with_zeros(image(tub, 7), 0), r"/7_cam.* zero bytes: it was never written"),
    "image that ends in zeros": (lambda tub: fill_with_zeros(image(tub, 7), 700), r"/7_cam.*truncated"),
    "image without its end": (lambda tub: fill_with_zeros(enlarge(tub), -3000), r"/7_cam.*it has no end: .*written"),
    "image with a hole": (lambda tub: fill_with_zeros(enlarge(tub), 8192, 16384), r"/7_cam.*4 KiB of it are zeros"),
    "empty catalog": (lambda tub: os.truncate(tub / "catalog_1.catalog", 0), r"catalog_1\.catalog holds no record"),
    "catalog of zeros": (
        lambda tub: fill_with_zeros(tub / "catalog_1.catalog", 0),
        r"catalog_1.* line 1 .* zero bytes",
    ),
    "empty manifest": (lambda tub: os.truncate(tub / "manifest.json", 0), r"manifest\.json is empty"),
}


@pytest.mark.parametrize("name", UNWRITTEN)
def test_written(tub: Path, name: str):
    spoil, message = UNWRITTEN[name]
    spoil(tub)
    with pytest.raises(UserError, match=message):
        imported(tub)


def png_of(tub: Path, size: tuple[int, int]) -> None:
    """Make all images grey ones of ``size``: few bytes, many pixels."""
    Image.new("RGB", size, "grey").save(image(tub, 0), "PNG")
    for i in range(1, NUM_FRAMES):
        image(tub, i).write_bytes(image(tub, 0).read_bytes())


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def replace_by(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


CLAIMS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "infinite deletion": (lambda tub: change(tub, "deleted_indexes", "[1e400]"), r"line 5 is no .* holds inf"),
    "objects for numbers": (
        lambda tub: change(tub, "deleted_indexes", '[{"a": 1}]'),
        r"line 5 is no .* holds \{'a': 1\}",
    ),
    "a nested manifest": (lambda tub: change(tub, "paths", "[" * 10**6), r"manifest\.json .* nested too deeply"),
    "a catalog named twice": (lambda tub: change(tub, "paths", '["catalog_1.catalog", "catalog_1.catalog"]'), "twice"),
    "a nested record": (lambda tub: change(tub, "user/mode", "[" * 10**5), r"catalog_1.* line 4: is nested too deeply"),
    "a huge integer": (lambda tub: change(tub, "_index", "9" * 4000), r"line 4: `_index` is 9+\.\.\.9+, expected"),
    "too many digits": (lambda tub: change(tub, "_index", "9" * 5000), r"line 4: is not JSON"),
    "infinity": (lambda tub: change(tub, "user/angle", "1e400"), r"line 4: `user/angle` is inf, expected -1 to 1"),
    "a list": (
        lambda tub: change(tub, "_timestamp_ms", '[{"a": []}]'),
        r"line 4: `_timestamp_ms` is \[\{'a': \[\]\}\]",
    ),
    "a long session": (lambda tub: change(tub, "_session_id", json.dumps("x" * 9**5)), r"line 4: `_session_id` is 'xx"),
    "a long line": (
        lambda tub: append(tub / "catalog_1.catalog", b"[" + b"{}," * 10**6),
        r"catalog_1.* line 11 is longer",
    ),
    "a long manifest": (lambda tub: os.truncate(tub / "manifest.json", 2**40), r"manifest\.json: is larger than 8 MiB"),
    "a long image": (lambda tub: os.truncate(image(tub, 7), 2**40), r"/7_cam.* larger than 64 MiB"),
    "many pixels": (lambda tub: png_of(tub, (4097, 1001)), r"/1_cam.* claims 4097x1001 px; expected at most"),
    "a pipe": (lambda tub: replace_by(image(tub, 7), os.mkfifo), r"7_cam.*: is a named pipe, not a file"),
    "a folder": (lambda tub: replace_by(image(tub, 7), Path.mkdir), r"7_cam.*: is a folder, not a file"),
    "a catalog that is a pipe": (
        lambda tub: replace_by(tub / "catalog_1.catalog", os.mkfifo),
        r"catalog_1.* named pipe",
    ),
    "another format": (lambda tub: Image.new("RGB", (32, 24)).save(image(tub, 7), "TIFF"), r"/7_cam.*no JPEG or PNG"),
    "an image named twice": (
        lambda tub: change(tub, "cam/image_array", '"7_cam_image_array_.jpg"'),
        r"named by frame 7 and by frame 13",
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_bounded(tub: Path, name: str):
    spoil, message = CLAIMS[name]
    spoil(tub)
    with pytest.raises(UserError, match=message) as caught:
        imported(tub)
    assert len(str(caught.value)) < 1000


def test_bounded_length_of_an_episode(tub: Path):
    entry = json.loads((tub / "catalog_2.catalog").read_text().splitlines()[-1])
    for i in range(NUM_FRAMES, 200):
        later = {"_index": i, "_timestamp_ms": entry["_timestamp_ms"] + i, "cam/image_array": image(tub, i).name}
        append(tub / "catalog_2.catalog", json.dumps(entry | later).encode() + b"\n")
        image(tub, i).touch()
    png_of(tub, (2560, 1600))
    with pytest.raises(
        UserError, match=r"199 images, 2\.3 GiB in all; expected at most 2\.0 GiB .* Give max_frames 174 or"
    ):
        imported(tub)


def test_bounded_memory_whatever_the_length_of_an_episode(tub: Path):
    png_of(tub, (1600, 1200))  # 167 MB as one array
    tracemalloc.start()
    try:
        imported(tub, max_frames=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 110e6  # of which 67e6 are asked for by `read_limited` and not used


def test_bounded_whatever_is_wrong(tmp_path: Path):
    tests = Path(__file__).parents[1]
    command = [sys.executable, str(tests / "judged_tubs.py"), str(tmp_path), "0", "40"]
    environment = os.environ | {"PYTHONPATH": str(tests.parent)}  # this package, whichever one is installed
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
    judged = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(judged) == 40
    assert [result for result in judged if result["verdict"] in FAULTS] == []
    assert {result["verdict"] for result in judged} == {"imported", "refused"}


def test_everything_is_counted(tub: Path):
    (tub / "images" / "._7_cam_image_array_.jpg").touch()
    (tub / "images" / "99_cam_image_array_.jpg").touch()
    (tub / "images" / "old").mkdir()
    (tub / "catalog_9.catalog").touch()
    (tub / "._catalog_0.catalog").touch()
    report = imported(tub)
    assert report.left_aside == {
        "hidden files in images": 1,
        "images that no record names": 1,
        "folders in images": 1,
        "images of deleted frames": 1,
        "catalogs that manifest.json does not name (._catalog_0.catalog and catalog_9.catalog)": 2,
    }
    assert "images that no record names: 1" in str(report)
    unnamed = [text for text in report.warnings if "does not name" in text]
    assert len(unnamed) == 1
    assert unnamed[0].startswith("catalog_9.catalog: not read")


def test_everything_is_counted_that_the_manifest_counts(tub: Path):
    os.truncate(tub / "catalog_2.catalog", 0)
    report = imported(tub)
    assert (report.num_records, report.num_deleted, report.num_frames) == (20, 1, 19)
    assert any("counts 30 records and the catalogs hold 20" in text for text in report.warnings)
    assert any("catalog_2.catalog holds no record" in text for text in report.warnings)


CAUSES = ["EACCES", "EPERM", "EIO", "ESTALE", "EMFILE", "ENFILE", "ENOENT", "ENAMETOOLONG", "ENODEV", "ELOOP", "ENOMEM"]


def test_the_cause_is_named():
    sentences = {str(unreadable(Path("a"), OSError(getattr(errno, name), name))) for name in CAUSES}
    assert len(sentences) == len(CAUSES)
    assert all(sentence.startswith("a: cannot be read: ") for sentence in sentences)
    assert not any("opy it again" in sentence or "orrupt" in sentence for sentence in sentences)


@contextmanager
def someone_else() -> Iterator[None]:
    """Run the block without the rights of root, which may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("name", ["manifest.json", "catalog_1.catalog", "images", "images/7_cam_image_array_.jpg"])
def test_the_cause_is_named_where_permission_is_missing(name: str):
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        Path(place).chmod(0o777)
        tub = write_small_tub(Path(place) / "tub")
        (tub / name).chmod(0)
        with someone_else(), pytest.raises(UserError, match=rf"{name}: cannot be read: there is no permission.*chmod"):
            imported(tub)


def test_the_cause_is_named_where_too_many_files_are_open(tub: Path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        with pytest.raises(UserError, match=r"manifest\.json: cannot be read: .* too many files open.*ulimit -n"):
            imported(tub)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("name", ["catalog_1.catalog", "images/7_cam_image_array_.jpg"])
def test_the_cause_is_named_where_a_disk_fails(tub: Path, name: str):
    memory = f"/proc/{os.getpid()}/mem"  # reading its first byte is an input/output error
    with mounted(tub / name, "--bind", memory), pytest.raises(UserError, match=rf"{name}: .* input/output error"):
        imported(tub)
