"""Check that each bad file is one clear error: file, key, what was found, what to do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import NAME, actions, h5_dataset, images, law, read_h5, read_images, write_h5

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.sources.contract import Recording
from mobile_vla.errors import DataError


def read(path: Path) -> Recording:
    [recording] = read_h5(path)
    assert isinstance(recording, Recording)
    return recording


BAD_CONTENT: dict[str, tuple[dict, str]] = {
    "no images": (
        {"actions": actions()},
        "has no key 'images' or 'observations/images'; found actions [4, 3] float32. Name the keys that hold them: "
        "dataset.layout.images.front=KEY dataset.layout.actions=actions",
    ),
    "misspelt images": (
        {"image": images(), "actions": actions()},
        "has no key 'images' or 'observations/images'; found actions [4, 3] float32, image [4, 6, 8, 3] uint8. Did the "
        "collector mean 'image'? Name the keys that hold them: dataset.layout.images.image=image "
        "dataset.layout.actions=actions",
    ),
    "misplaced images": (
        {"observation__images": images(), "actions": actions()},
        "found actions [4, 3] float32, observation, observation/images [4, 6, 8, 3] uint8. Did the collector mean "
        "'observation/images'? Name the keys that hold them: dataset.layout.images.images=observation/images",
    ),
    "keys of another robot": (
        {"observations__cam_front": images(), "observations__qpos": actions(), "action": actions()},
        "Name the keys that hold them: dataset.layout.images.cam_front=observations/cam_front "
        "dataset.layout.actions=action",
    ),
    "many episodes of another tool": (
        {f"runs__traj_{i}__{key}": value for i in (0, 1) for key, value in (("cam", images()), ("cmd", actions()))},
        "found runs, runs/traj_0, runs/traj_0/cam [4, 6, 8, 3] uint8, runs/traj_0/cmd [4, 3] float32. Name the keys "
        "that hold them: \"dataset.layout.episodes='runs/traj_*'\" dataset.layout.images.cam=cam "
        "dataset.layout.actions=cmd",
    ),
    "images twice": (
        {"images": images(), "observations__images": images(), "actions": actions()},
        "holds both keys 'images' and 'observations/images'. Keep one of them, or name the one to read: "
        "dataset.layout.images.camera=images.",
    ),
    "no actions": (
        {"images": images()},
        "has no key 'actions'; found images [4, 6, 8, 3] uint8. Name the keys that hold them: "
        "dataset.layout.images.images=images dataset.layout.actions=KEY",
    ),
    "misspelt actions": (
        {"images": images(), "action": actions()},
        "has no key 'actions'; found action [4, 3] float32, images [4, 6, 8, 3] uint8. Did the collector mean "
        "'action'? Name the keys that hold them: dataset.layout.images.images=images dataset.layout.actions=action",
    ),
    "nothing at all": ({}, "has no key 'images' or 'observations/images'; found no key at all."),
    "images a group": (
        {"images": None, "actions": actions()},
        "key 'images' is a group, not a data set of images; found actions [4, 3] float32, images. Name the keys",
    ),
    "grey images": (
        {"images": images()[..., 0], "actions": actions()},
        "key 'images' is [4, 6, 8] uint8; expected [frames, rows, columns, 3] uint8. Convert",
    ),
    "channels first": (
        {"images": np.moveaxis(images(), -1, 1), "actions": actions()},
        "key 'images' is [4, 3, 6, 8] uint8; expected [frames, rows, columns, 3] uint8.",
    ),
    "float images": (
        {"observations__images": images().astype(np.float32), "actions": actions()},
        "key 'observations/images' is [4, 6, 8, 3] float32; expected [frames, rows, columns, 3] uint8.",
    ),
    "images without pixels": (
        {"images": images(size=(0, 8)), "actions": actions()},
        "key 'images' is [4, 0, 8, 3] uint8; expected",
    ),
    "empty data set": ({"images": h5py.Empty("u1"), "actions": actions()}, "key 'images' is empty uint8; expected"),
    "actions a group": (
        {"images": images(), "actions": None},
        "key 'actions' is a group, not a data set; expected [frames, columns] of real numbers. Name the data set that "
        "holds them: dataset.layout.actions=KEY.",
    ),
    "no action column": (
        {"images": images(), "actions": actions()[:, :0]},
        "key 'actions' is [4, 0] float32; expected [frames, columns] of real numbers.",
    ),
    "flat actions": ({"images": images(), "actions": actions()[:, 0]}, "key 'actions' is [4] float32; expected"),
    "discrete actions": (
        {"images": images(), "actions": np.arange(4)},
        "key 'actions' is [4] int64; expected [frames, columns] of real numbers. Discrete actions (the number of a "
        "choice)",
    ),
    "integers that float32 cannot hold": (
        {"images": images(), "actions": np.array([[1, 2], [3, 2**24 + 1], [0, 0], [0, 0]])},
        "key 'actions' holds integers beyond 16,777,216, which float32 cannot hold, first in frame 1.",
    ),
    "complex actions": ({"images": images(), "actions": actions() * 1j}, "key 'actions' is [4, 3] complex64; expected"),
    "fewer actions": (
        {"images": images(), "actions": actions(3)},
        "key 'actions' has 3 rows but 'images' has 4 frames; expected one action a frame. Record",
    ),
    "more actions": (
        {"observations__images": images(3), "actions": actions()},
        "key 'actions' has 4 rows but 'observations/images' has 3 frames; expected one action a frame.",
    ),
    "one frame": (
        {"images": images(1), "actions": actions(1)},
        "key 'images' holds 1 frame(s); expected 2 or more. Remove the file.",
    ),
    "no frame": ({"images": images(0), "actions": actions(0)}, "key 'images' holds 0 frame(s); expected 2 or more."),
    "number for instruction": (
        {"images": images(), "actions": actions(), "language_instruction": [7]},
        "key 'language_instruction' is [1] int64; expected one text, such as [1] S256. Write it so, or leave 'file'",
    ),
    "two instructions": (
        {"images": images(), "actions": actions(), "language_instruction": [b"one", b"two"]},
        "key 'language_instruction' is [2] text; expected one text, and it holds 2 different ones, such as 'one' and",
    ),
    "a text too long": (
        {"images": images(), "actions": actions(), "language_instruction": np.array([b"go" * 40_000])},
        "key 'language_instruction' is [1] text; expected one text of at most 65536 bytes.",
    ),
    "a long text of unknown length": (
        {"images": images(), "actions": actions(), "language_instruction": "go" * 40_000},
        "key 'language_instruction' holds 80000 bytes; expected one text of at most 65536.",
    ),
    "instruction a group": (
        {"images": images(), "actions": actions(), "language_instruction": None},
        "key 'language_instruction' is a group, not a data set; expected one text",
    ),
    "instruction not UTF-8": (
        {"images": images(), "actions": actions(), "language_instruction": np.array([b"\xff\xfe left"])},
        "key 'language_instruction' is not UTF-8 (",
    ),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_bad_content_is_told_by_file_key_finding_and_remedy(tmp_path: Path, case: str) -> None:
    datasets, message = BAD_CONTENT[case]
    path = write_h5(tmp_path / f"{NAME}.h5", **datasets)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: ')}.*{re.escape(message)}"):
        read(path)


@law
@given(
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e300]),
    rows=st.sets(st.integers(0, 3), min_size=1),
    column=st.integers(0, 2),
)
def test_actions_that_are_not_finite_are_told_by_frame(
    tmp_path_factory: pytest.TempPathFactory, bad: float, rows: set[int], column: int
) -> None:
    spoilt = actions().astype(np.float64)
    spoilt[sorted(rows), column] = bad
    path = write_h5(tmp_path_factory.mktemp("bad") / f"{NAME}.h5", images=images(), actions=spoilt)
    with pytest.raises(DataError) as refused:
        read(path)
    expected = f"{path}: key 'actions' holds NaN or infinity in {len(rows)} row(s), first in frame {min(rows)}. Remove"
    assert str(refused.value).startswith(expected)


def test_an_instruction_that_nothing_gives_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    write_h5(folder / f"{NAME}.h5", images=images(), actions=actions())
    dataset = h5_dataset(
        folder, "dataset.instruction.order=[file,template]", "dataset.instruction.template='{unknown}'"
    )
    [problem] = dataset.scan().problems
    assert re.search(r"no instruction is recorded, .* Add 'constant' to dataset.instruction.order", str(problem))


def lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 18600000\n")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def bad_header(path: Path) -> None:
    """Spoil the version byte of the first object header."""
    with h5py.File(path) as file:
        offset = h5py.h5o.get_info(file["images"].id).addr
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


BAD_FILES: list[tuple[Callable[[Path], object], str]] = [
    (lfs_pointer, "is a Git LFS pointer, not the episode. Run `git lfs pull`"),
    (truncated, "is truncated, corrupt or not HDF5 (Unable to synchronously open file (truncated file: "),
    (
        bad_header,
        "key 'images' cannot be read (Unable to synchronously open object (bad object header version number))",
    ),
    (lambda path: path.write_bytes(b""), "is truncated, corrupt or not HDF5 ("),
    (lambda path: path.write_text("time,linear_x\n0,1.15\n"), "is truncated, corrupt or not HDF5 ("),
    (lambda path: (path.unlink(), path.symlink_to("gone.h5")), "is a link to gone.h5, which leads to no file. Remove"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_FILES)
def test_a_damaged_file_is_told_by_its_damage(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    path = write_h5(tmp_path / f"{NAME}.h5", images=images(), actions=actions())
    spoil(path)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {message}')}"):
        read(path)


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / f"{NAME}.h5"
    write_episode(path, images_FYXC=images(), actions_FA=actions(), instruction="go")
    return path.read_bytes()


@law
@given(data=st.data(), flipped=st.integers(1, 255))
def test_no_damage_escapes_as_anything_but_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, good_bytes: bytes, data: st.DataObject, flipped: int
) -> None:
    content = bytearray(good_bytes)
    content[data.draw(st.integers(0, 2000) | st.integers(0, len(content) - 1))] ^= flipped
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    path.write_bytes(content)
    try:
        recording = read(path)
        frames = read_images(path)
    except DataError as problem:
        outcome = str(problem)
    else:
        outcome = f"{path}: reads"
        [camera] = recording.spec.cameras
        assert frames.shape == (recording.num_frames, camera.rows, camera.columns, 3)
    assert outcome.startswith(f"{path}: ")


def test_all_bad_files_of_a_folder_are_listed_at_once(tmp_path: Path, good_bytes: bytes) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    (folder / "good.h5").write_bytes(good_bytes)
    shutil.copy(folder / "good.h5", folder / "good.hdf5")
    lfs_pointer(folder / "pointer.h5")
    write_h5(folder / "one.h5", images=images(1), actions=actions(1))
    write_h5(folder / "two_columns.h5", images=images(), actions=actions(num_columns=2))
    scan = h5_dataset(folder, "dataset.actions=[linear_x,angular_z]").scan()
    assert [e.path for e in scan.episodes] == [folder / "good.h5"]
    texts = sorted(str(problem) for problem in scan.problems)
    assert len(texts) == 4
    assert texts[0].startswith(f"{folder}/good.hdf5: has the same name as {folder}/good.h5, 'good'. Names identify")
    assert texts[1].startswith(f"{folder}/one.h5: key 'images' holds 1 frame(s)")
    assert texts[2].startswith(f"{folder}/pointer.h5: is a Git LFS pointer")
    assert texts[3].startswith(
        f"{folder}/two_columns.h5: records the actions linear_x, linear_y, but dataset.actions asks"
    )
