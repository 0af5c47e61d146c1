"""Check that every layout of the real collections reads alike, and where its instruction comes from."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import NAME, actions, h5_dataset, images, law, read_h5, read_images, write_h5

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.labels.instruction import Instruction
from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.hdf5.episode_files import find_episode_files
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.schema import Episode
from mobile_vla.spec import Camera, Spec, known_signal

BARE = "episode_20251204_101000"
KNOWN = ("linear_x", "linear_y", "angular_z")
TEMPLATE = "Go {side} past the {boxes}"


def read(path: Path, *, layout: str = "flat") -> Recording:
    [recording] = read_h5(path, layout=layout)
    assert isinstance(recording, Recording)
    return recording


def episode_of(path: Path, *, order: str = "file,template,constant") -> Episode:
    """Return the episode of the only file beside ``path``, as a data set reads it."""
    overrides = [
        f"dataset.instruction.order=[{order}]",
        f"dataset.instruction.template='{TEMPLATE}'",
        "dataset.instruction.constant='Go to the target'",
    ]
    [episode] = h5_dataset(path.parent, *overrides).scan().episodes
    return episode


def test_flat_and_nested_layouts_give_the_same_episode(tmp_path: Path) -> None:
    flat = write_h5(tmp_path / f"{NAME}.h5", images=images(), actions=actions(), language_instruction=[b"go"])
    nested_folder = tmp_path / "nested"
    nested_folder.mkdir()
    nested = write_h5(
        nested_folder / flat.name, observations__images=images(), actions=actions(), language_instruction=[b"go"]
    )
    for path, layout in ((flat, "flat"), (nested, "flat"), (nested, "nested")):
        recording = read(path, layout=layout)
        assert (recording.name, recording.path, recording.num_frames, recording.texts.key) == (NAME, path, 4, "go")
        assert (recording.part, recording.fields, recording.state.shape) == ({}, {}, (4, 0))
        assert recording.spec == Spec(
            actions=tuple(map(known_signal, ("linear_x", "linear_y", "angular_z"))),
            cameras=(Camera(name="camera", rows=6, columns=8),),
        )
        assert recording.actions.dtype == np.float32
        np.testing.assert_array_equal(recording.actions, actions())
        np.testing.assert_array_equal(read_images(path, layout=layout), images())
    for path in (flat, nested):
        episode = h5_dataset(path).scan().episodes[0]
        assert (episode.fields["boxes"], episode.fields["side"], episode.image_sizes) == ("1box", "left", ((6, 8),))


@law
@given(
    num_frames=st.integers(2, 5),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    num_columns=st.integers(1, 9),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64]),
    is_compressed=st.booleans(),
)
def test_any_size_length_and_type_of_numbers_reads(
    tmp_path_factory: pytest.TempPathFactory,
    num_frames: int,
    size: tuple[int, int],
    num_columns: int,
    dtype: type,
    is_compressed: bool,
) -> None:
    path = tmp_path_factory.mktemp("any") / f"{BARE}.h5"
    frames = images(num_frames, size=size)
    written = actions(num_frames, num_columns=num_columns).astype(dtype)
    with h5py.File(path, "w") as file:  # nothing but the two keys that must be there
        file.create_dataset("images", data=frames, compression="gzip" if is_compressed else None)
        file.create_dataset("actions", data=written)
    recording = read(path)
    assert recording.spec.cameras == (Camera(name="camera", rows=size[0], columns=size[1]),)
    numbered = tuple(f"action_{index}" for index in range(num_columns))
    assert recording.spec.action_names == {2: KNOWN[:2], 3: KNOWN}.get(num_columns, numbered)
    np.testing.assert_array_equal(recording.actions, written.astype(np.float32))
    np.testing.assert_array_equal(read_images(path), frames)


def test_a_written_episode_reads_back_and_has_the_same_bytes_twice(tmp_path: Path) -> None:
    paths = [tmp_path / folder / f"{NAME}.h5" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        write_episode(
            path, images_FYXC=images(), actions_FA=actions(), instruction="왼쪽으로 가세요", attributes={"hz": 10}
        )
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert read(paths[0]).texts.key == "왼쪽으로 가세요"
    assert read(paths[0]).fields == {"episode_name": NAME, "num_frames": "4", "hz": "10"}
    np.testing.assert_array_equal(read(paths[0]).actions, actions())
    np.testing.assert_array_equal(read_images(paths[0]), images())
    with h5py.File(paths[0]) as file:
        assert file["action_event_types"].asstr()[0] == "episode_start"
        assert dict(file.attrs) == {"episode_name": NAME, "num_frames": 4, "hz": 10}


@pytest.mark.parametrize(
    "written",
    [
        np.array([b"go left"], "S256"),
        np.bytes_(b"go left"),
        "go left",
        ["go left"],
        np.array(["  go left "], h5py.string_dtype("utf-8")),
        np.array([["go left"]], h5py.string_dtype("ascii")),
        ["go left"] * 4,
        np.array([b"go left"] * 5000, "S256"),
    ],
    ids=["S256", "scalar bytes", "scalar str", "str list", "spaces", "2-d", "every frame", "in blocks"],
)
def test_an_instruction_in_the_file_may_be_text_of_any_kind(tmp_path: Path, written: object) -> None:
    path = write_h5(tmp_path / f"{NAME}.h5", images=images(), actions=actions(), language_instruction=written)
    assert read(path).texts.key == "go left"


@pytest.mark.parametrize(
    ("order", "name", "in_file", "expected"),
    [
        (["file", "template", "constant"], NAME, "from the file", "from the file"),
        (["file", "template", "constant"], NAME, "", "Go left past the 1box"),
        (["file", "template", "constant"], NAME, None, "Go left past the 1box"),
        (["file", "template", "constant"], BARE, None, "Go to the target"),
        (["template", "file"], NAME, "from the file", "Go left past the 1box"),
        (["template", "file"], BARE, "from the file", "from the file"),
        (["constant", "file"], NAME, "from the file", "Go to the target"),
    ],
)
def test_the_first_source_that_has_an_instruction_gives_it(
    tmp_path: Path, order: list, name: str, in_file: str | None, expected: str
) -> None:
    path = tmp_path / "episodes" / f"{name}.h5"
    path.parent.mkdir()
    write_episode(path, images_FYXC=images(), actions_FA=actions(), instruction=in_file)
    assert episode_of(path, order=",".join(order)).instruction == expected


@pytest.mark.parametrize(
    "template", ["go {side", "go {}", "go {0}", "go {side.name}", "go }", "{side:>999999999}", "{side!r:{side}}"]
)
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"dataset.instruction.template: {template!r}")):
        Instruction(order=["template"], template=template, constant="")


def test_an_odd_instruction_key_does_not_matter_where_the_file_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "episodes").mkdir()
    path = tmp_path / "episodes" / f"{NAME}.h5"
    write_h5(path, images=images(), actions=actions(), language_instruction=[7])
    assert episode_of(path, order="constant").instruction == "Go to the target"


def test_files_are_found_in_subfolders_in_order_of_their_names(tmp_path: Path) -> None:
    for place in ("b/episode_2.h5", "a/episode_3.H5", "episode_1.hdf5", "a/notes.txt", "c/folder.h5/episode_0.h5"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    found = find_episode_files(tmp_path)
    assert [p.stem for p in found.paths] == ["episode_0", "episode_1", "episode_2", "episode_3"]
    assert (found.problems, found.warnings) == ([], [])
    assert find_episode_files(tmp_path / "b" / "episode_2.h5").paths == [tmp_path / "b" / "episode_2.h5"]


def test_missing_and_empty_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path}/gone: no such folder. Give dataset.path"):
        find_episode_files(tmp_path / "gone")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=rf"^{tmp_path}: holds no episode file \(\*\.h5, \*\.hdf5\)\. Give the folder"):
        find_episode_files(tmp_path)
