"""The data page holds what the recordings hold, finds what is odd in them, and stays small."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from data_pages import MARKUP, inspected, moving_images, wandering, write_hostile_set, write_page_of, write_recording
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law, made_episode
from PIL import Image
from shared_data import shared
from tiny_runs import every

from mobile_vla.commands.cli import main
from mobile_vla.inspection.page.choice import spread
from mobile_vla.inspection.page.decoding import looks_of
from mobile_vla.inspection.page.histograms import histogram_of, values_of
from mobile_vla.inspection.page.oddities import copies, odd_pictures, odd_states
from mobile_vla.inspection.page.pictures import MAX_PAGE_BYTES
from mobile_vla.inspection.page.signals import charts_of, lines_of


def data_of(page: Path) -> dict[str, Any]:
    """Return what the player gets."""
    match = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def picture(text: str) -> np.ndarray:
    """Return the image [Y, X, 3] of a JPEG in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))), np.int16)


def titles_of(images_FYXC: np.ndarray, actions_FA: np.ndarray) -> str:
    """Return the titles of what is odd in one episode."""
    episode = made_episode(0, num_frames=len(images_FYXC), actions=actions_FA)
    found = odd_pictures({episode.name: {"front": looks_of(images_FYXC)}}, {episode.name: episode})
    return "; ".join(finding.title for finding in found)


def test_a_sound_recording_has_nothing_odd() -> None:
    assert titles_of(moving_images(40), wandering(40)) == ""


def test_black_and_flat_frames_are_found() -> None:
    images = moving_images(40)
    images[3:5], images[20] = 6, 180
    assert "2 black frames" in titles_of(images, wandering(40))
    assert "1 frame of one colour" in titles_of(images, wandering(40))


@pytest.mark.parametrize(("length", "is_found"), [(6, False), (15, True)])
def test_a_long_frozen_picture_is_found_while_the_actions_change(length: int, is_found: bool) -> None:
    images = moving_images(60)
    images[30 : 30 + length] = images[30]
    assert ("frozen" in titles_of(images, wandering(60))) == is_found
    still = wandering(60)
    still[29 : 31 + length] = still[30]
    assert "frozen" not in titles_of(images, still), "a robot at rest sees the same"


@pytest.mark.parametrize(("repeats", "is_found"), [(1, False), (2, True), (3, True)])
def test_a_camera_slower_than_the_recording_is_found(repeats: int, is_found: bool) -> None:
    images = np.repeat(moving_images(60 // repeats), repeats, axis=0)
    assert ("repeat the one before" in titles_of(images, wandering(60))) == is_found


def test_a_cut_is_found_where_it_is() -> None:
    images = moving_images(60)
    images[25:] //= 3
    episode = made_episode(0, num_frames=60, actions=wandering(60))
    [finding] = odd_pictures({episode.name: {"front": looks_of(images)}}, {episode.name: episode})
    assert [place.frame for place in finding.places] == [25]


def test_copies_and_values_far_away_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for index in range(4):
        qpos = wandering(20, seed=index)
        if index == 2:
            qpos[7, 1] = 10_000
        write_recording(
            folder / f"run_{index}.h5",
            images_FYXC=moving_images(20, seed=index),
            actions_FA=wandering(20, seed=max(index, 1)),
            qpos_FS=qpos,
        )
    (folder / "run_9.h5").write_bytes((folder / "run_3.h5").read_bytes())
    known = inspected(folder)
    same, same_actions = copies(known.scan, list(known.data.episodes.values()))
    assert same.title == "1 copied episode"
    assert "run_3 and run_9" in same.text
    assert "run_0 and run_1" in same_actions.text
    [warning] = odd_states(known.scan, list(known.data.episodes.values()))
    assert "qpos_1" in warning
    assert "frame 7" in warning


@law
@given(groups=st.lists(st.integers(1, 30), min_size=1, max_size=8), limit=st.integers(1, 40))
def test_shown_episodes_are_spread_over_all_scenarios(groups: list[int], limit: int) -> None:
    names = [f"scenario_{index}" for index, size in enumerate(groups) for _ in range(size)]
    episodes = [made_episode(index, num_frames=2, scenario=name) for index, name in enumerate(names)]
    shown = spread(episodes, limit)
    assert len({episode.name for episode in shown}) == min(limit, len(episodes))
    assert [episode.name for episode in shown] == sorted(episode.name for episode in shown)
    assert len({episode.scenario for episode in shown}) == min(limit, len(groups))


def test_the_player_has_the_frames_and_the_values_of_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for index in range(5):
        images, actions = moving_images(30, seed=index), wandering(30, seed=index)
        write_recording(folder / f"run_{index}.h5", images_FYXC=images, actions_FA=actions, qpos_FS=actions + 3)
    data = data_of(write_page_of(folder))
    names = [chart["name"] for chart in data["charts"]]
    for episode in data["episodes"]:
        with h5py.File(folder / f"{episode['name']}.h5") as file:
            images, actions = file["observations/images/front"], file["action"]
            assert isinstance(images, h5py.Dataset)
            assert isinstance(actions, h5py.Dataset)
            [camera] = episode["cameras"]
            for row, frame in zip(episode["rows"], camera["frames"], strict=True):
                assert np.abs(picture(frame) - images[row].astype(np.int16)).mean() < 6, "a JPEG of this frame"
            drawn = episode["lines"]["actions"][names.index("action_1")]
            assert episode["lines"]["rows"] == list(range(30))
            np.testing.assert_allclose(drawn, actions[:, 1], rtol=1e-3)


def test_red_and_blue_are_shown_in_both_orders(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    images = np.tile(np.array([200, 90, 20], np.uint8), (12, 32, 32, 1))
    for index in range(4):
        write_recording(folder / f"run_{index}.h5", images_FYXC=images, actions_FA=wandering(12, seed=index))
    pair = re.search(r'class="pair">.*?base64,(.*?)".*?base64,(.*?)"', write_page_of(folder).read_text(), re.DOTALL)
    assert pair is not None
    for text, colour in zip(pair.groups(), ([200, 90, 20], [20, 90, 200]), strict=True):
        assert np.abs(picture(text).mean((0, 1)) - colour).max() < 6
    text = write_page_of(folder, "dataset.channel_order=bgr").read_text()
    first = re.search(r'class="three">.*?base64,(.*?)"', text, re.DOTALL)
    assert first is not None
    assert np.abs(picture(first[1]).mean((0, 1)) - [20, 90, 200]).max() < 6, "as the policy gets it"


def test_a_spike_of_one_frame_is_drawn_of_a_long_episode(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for index in range(4):
        actions = wandering(3000, seed=index) * 0 + np.linspace(0, 1, 3000, dtype=np.float32)[:, None]
        actions[1111] = -50
        images = np.full((3000, 4, 4, 3), 90, np.uint8)
        write_recording(folder / f"run_{index}.h5", images_FYXC=images, actions_FA=actions)
    known = inspected(folder)
    charts = charts_of(known.contents)
    recording = next(iter(known.scan.recordings.values()))
    lines = lines_of(recording, charts, num_episodes=4)
    assert len(lines["rows"]) <= 400
    assert min(lines["actions"][0]) == -50
    entry = known.contents.actions[0]
    found = histogram_of(values_of(list(known.scan.recordings.values()), entry.signal.name, of_state=False), entry)
    assert sum(found.counts) + found.num_below + found.num_above == 4 * 3000
    assert (found.num_below, found.num_above) == (4, 0), "the others are not squeezed into one bin"


def test_noise_that_no_codec_makes_small_stays_within_the_size(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 120, 160, 3), dtype=np.uint8)
    for index in range(13):
        write_recording(folder / f"run_{index}.h5", images_FYXC=noise, actions_FA=wandering(60, seed=index))
    page = write_page_of(folder)
    assert MAX_PAGE_BYTES / 3 < page.stat().st_size < MAX_PAGE_BYTES
    [episode, *_] = data_of(page)["episodes"]
    assert 1 < len(episode["rows"]) < 60
    assert "not all frames are in this page" in page.read_text()


def test_an_episode_that_cannot_be_decoded_is_named_in_its_place(tmp_path: Path) -> None:
    folder = write_hostile_set(tmp_path / "set")
    known = inspected(folder)
    broken = folder / "broken_9.h5"
    images, actions = moving_images(20), wandering(20)
    write_recording(broken, images_FYXC=images, actions_FA=actions, qpos_FS=wandering(20, 3))
    with h5py.File(broken, "r+") as file:
        del file["observations/images/front"]
        rows = file.create_dataset("observations/images/front", (20,), h5py.vlen_dtype(np.uint8))
        for row in range(20):
            content = io.BytesIO()
            Image.fromarray(images[row]).save(content, "JPEG")
            cut = content.getvalue() if row != 11 else content.getvalue()[:200]
            rows[row] = np.frombuffer(cut, np.uint8)
    page = write_page_of(folder).read_text()
    assert len(known.data.episodes) == 5
    assert re.search(r'<p class="absent"><bdi>front</bdi>: <bdi>[^<]*broken_9\.h5', page)


def test_pixels_are_counted_by_how_many_were_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    images = moving_images(12)
    for index in range(30):
        write_recording(folder / f"run_{index:02d}.h5", images_FYXC=images, actions_FA=wandering(12, seed=index))
    assert "288 of 360 frames were decoded for this page" in write_page_of(folder).read_text()
    assert "All 360 frames were looked at" in write_page_of(folder, with_pixels=True).read_text()


def test_texts_of_somebody_else_are_escaped_and_cut(tmp_path: Path) -> None:
    page = write_page_of(write_hostile_set(tmp_path / "set")).read_text()
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<img src=x" not in page
    assert html.escape(MARKUP[:20]) in outside
    assert "(5," in outside, "the number of characters of a long text"
    assert max(map(len, re.findall(r"<bdi>(.*?)</bdi>", outside))) < 3000
    assert "\u202e" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


@pytest.mark.parametrize("place", ["", "missing/page.html", "episode.h5"])
def test_a_place_where_no_page_can_be_is_refused_before_anything_is_read(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["inspect", str(tmp_path / "nothing"), "--html", str(tmp_path / place)])
    assert "--html" in f"{end.value.code} {capsys.readouterr().err}"


@pytest.mark.parametrize("name", every(3, ["aloha", "robomimic", "lerobot_v30_video", "lerobot_v30_image", "minari"]))
def test_recordings_of_other_tools_have_a_page(tmp_path: Path, name: str) -> None:
    source = shared(f"formats/{name}")
    (tmp_path / "set").symlink_to(source)
    data = data_of(write_page_of(tmp_path / "set"))
    assert all(len(camera["frames"]) == len(e["rows"]) > 1 for e in data["episodes"] for camera in e["cameras"])
    assert all(episode["cameras"] for episode in data["episodes"])


def test_a_scenario_that_was_made_of_the_instruction_is_shown_once(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for index in range(4):
        write_recording(
            folder / f"run_{index}.h5",
            images_FYXC=moving_images(20, seed=index),
            actions_FA=wandering(20, seed=index),
            instruction=("Pick up the cup.", "Wipe the table.")[index % 2],
        )
    page = write_page_of(folder, "dataset.scenario=[instruction]")
    assert [episode["scenario"] for episode in data_of(page)["episodes"]] == [""] * 4
    text = page.read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert sum("Pick up the cup." in caption for caption in captions) == 2
    assert not any("Pick_up_the_cup" in caption for caption in captions)
    assert "Episodes by instruction" in text
    assert "Episodes by scenario" not in text
    named = write_page_of(folder, "dataset.scenario=[name]", r"dataset.grammars.own='run_(?P<scenario>\d)'")
    assert {episode["scenario"] for episode in data_of(named)["episodes"]} == {"0", "1", "2", "3"}
    assert "Episodes by scenario" in named.read_text()
