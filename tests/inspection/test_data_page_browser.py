"""The data page works in a real headless Chromium: it plays, follows keys and clicks, and fits a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chromium import DESKTOP, PHONE, Shown, launched, needs_chromium, shown, sync_api
from data_pages import moving_images, wandering, write_hostile_set, write_page_of, write_recording

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_chromium

NUM_FRAMES = 60
NUM_JOINTS = 26


@dataclass
class Opened(Shown):
    """The page, and what is read off it."""

    def frame(self) -> int:
        """Return the number of the frame that is shown."""
        return int(self.page.locator(".where").inner_text().split()[1])

    def cursor(self) -> float:
        """Return the place of the cursor in the first chart, 0 to 1."""
        return self.page.locator(".cursor").first.evaluate(
            "line => (line.getBoundingClientRect().left - line.parentElement.getBoundingClientRect().left)"
            " / line.parentElement.getBoundingClientRect().width"
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of recordings with 26 joints and of hostile ones."""
    folder = tmp_path_factory.mktemp("sets") / "joints"
    folder.mkdir()
    for index in range(6):
        images = moving_images(NUM_FRAMES, seed=index)
        if index == 3:
            images[20:23] = 0
        joints = wandering(NUM_FRAMES, NUM_JOINTS, seed=index)
        still = np.concatenate([joints, np.ones((NUM_FRAMES, 1), np.float32)], axis=1)
        write_recording(folder / f"run_{index}.h5", images_FYXC=images, actions_FA=joints, qpos_FS=still)
    hostile = write_hostile_set(folder.parent / "hostile")
    return {"joints": write_page_of(folder), "hostile": write_page_of(hostile)}


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Opened]:
    name, size, scheme = getattr(request, "param", ("joints", DESKTOP, "light"))
    with shown(Opened, pages[name], browser, size=size, scheme=scheme) as opened:
        yield opened


@pytest.mark.parametrize(
    "opened",
    [(name, size, scheme) for name in ("joints", "hostile") for size, scheme in ((DESKTOP, "light"), (PHONE, "dark"))],
    indirect=True,
    ids=["joints desktop", "joints phone", "hostile desktop", "hostile phone"],
)
def test_page_shows_everything_without_error_request_or_overflow(opened: Opened) -> None:
    page = opened.page
    page.locator("img").evaluate_all("images => images.forEach(image => { image.loading = 'eager'; })")
    page.evaluate("Promise.all([...document.images].map(image => image.decode()))")
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert opened.errors == []
    asked = [url for url in opened.requests if not url.startswith("data:")]
    assert len(asked) == 1, "the page itself"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = """[...document.querySelectorAll('main *')].filter((part) =>
        part.getBoundingClientRect().right > innerWidth + 1 && !part.closest('svg')).map((part) => part.outerHTML)"""
    assert page.evaluate(outside) == []
    assert page.evaluate("window.hacked") is None
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (sum(map(int, paper.strip("rgb()").split(","))) < 200) == is_dark


@pytest.mark.parametrize("opened", [("hostile", DESKTOP, "light")], indirect=True)
def test_names_and_instructions_of_somebody_else_are_texts(opened: Opened) -> None:
    page = opened.page
    assert page.locator("img[src=x], main script, main b b").count() == 0
    assert page.locator("figcaption").get_by_text("<script>window.hacked = 1</script>").count() > 0
    for index in range(page.locator("select.episode option").count()):
        page.locator("select.episode").select_option(str(index))
        assert len(page.locator(".said").inner_text()) < 600
    assert page.evaluate("window.hacked") is None
    assert opened.errors == []


def test_playing_goes_on_with_picture_cursor_and_values_until_it_is_paused(opened: Opened) -> None:
    page, picture = opened.page, opened.page.locator(".cameras img")
    before = picture.get_attribute("src"), page.locator(".charts output").first.inner_text(), opened.cursor()
    page.get_by_role("button", name="Play", exact=True).last.click()
    sync_api.expect(page.locator(".where")).to_have_text(re.compile(r"^frame ([3-9]|\d\d) "))
    page.get_by_role("button", name="Pause").click()
    frame = opened.frame()
    assert 3 <= frame < NUM_FRAMES
    after = picture.get_attribute("src"), page.locator(".charts output").first.inner_text(), opened.cursor()
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert opened.cursor() == pytest.approx((frame + 0.5) / NUM_FRAMES, abs=0.02)
    page.wait_for_timeout(300)
    assert opened.frame() == frame
    assert str(frame) in (page.locator("input.frame").get_attribute("aria-valuetext") or "")


def test_playing_follows_the_clock_and_ends_at_the_last_frame(opened: Opened) -> None:
    page = opened.page
    page.locator("select.speed").select_option("4")
    started = page.evaluate("performance.now()")
    page.locator(".play").click()
    sync_api.expect(page.locator(".where")).to_have_text(re.compile(f"^frame {NUM_FRAMES - 1} "))
    seconds = (page.evaluate("performance.now()") - started) / 1000
    assert (NUM_FRAMES - 1) / 40 - 0.2 < seconds < (NUM_FRAMES - 1) / 10, "10 frames a second, four times as fast"
    sync_api.expect(page.locator(".play")).to_have_text("Play")
    page.locator(".play").click()
    assert opened.frame() < NUM_FRAMES - 1, "it begins again"


def test_keys_play_pause_and_step(opened: Opened) -> None:
    page = opened.page
    page.locator(".player").focus()
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", NUM_FRAMES - 1), ("Home", 0)):
        page.keyboard.press(key)
        assert opened.frame() == frame
    page.locator("input.frame").focus()
    page.keyboard.press("ArrowRight")
    assert opened.frame() == 1, "the slider's own keys"
    page.keyboard.press("Space")
    sync_api.expect(page.locator(".play")).to_have_text("Pause")
    page.keyboard.press("Space")
    sync_api.expect(page.locator(".play")).to_have_text("Play")


def test_every_joint_has_one_chart_of_command_and_what_was_measured(opened: Opened) -> None:
    page = opened.page
    assert page.locator(".chart").count() == 2 * NUM_JOINTS
    assert page.locator(".drawn .note").get_by_text(f"qpos_{NUM_JOINTS} = 1").count() == 1, "it never changes"
    assert page.locator(".histograms figure").count() == 2 * NUM_JOINTS
    assert page.locator("svg[role=img]:not([aria-label])").count() == 0


def test_a_click_into_a_chart_goes_to_its_time(opened: Opened) -> None:
    plot = opened.page.locator(".chart .plot").nth(5)
    box = plot.bounding_box()
    assert box is not None
    plot.click(position={"x": 0.75 * box["width"], "y": 10})
    assert opened.frame() == pytest.approx(0.75 * NUM_FRAMES, abs=1.5)


def test_what_is_odd_and_the_sheet_lead_to_the_player(opened: Opened) -> None:
    page = opened.page
    finding = page.locator(".finding", has_text="3 black frames")
    finding.get_by_role("button", name="frame 20").click()
    assert opened.frame() == 20
    assert "run_3" in page.locator("select.episode option:checked").inner_text()
    page.locator(".card", has_text="run_5").get_by_role("button").click()
    assert opened.frame() == 0
    assert "run_5" in page.locator("select.episode option:checked").inner_text()
    page.get_by_role("button", name="next episode").click()
    assert "run_0" in page.locator("select.episode option:checked").inner_text()
