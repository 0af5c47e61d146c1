"""The page works in a real headless Chromium: nothing outside is asked for, tables sort and filter, CSV is right."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import DESKTOP, PHONE, Shown, launched, needs_chromium, shown, sync_api
from written_page import SAMPLERS, write_full_run, write_page_study, write_wide_study
from written_runs import write_failed

from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.page.page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

pytestmark = needs_chromium
DRAW_ALL = "Object.keys(page.figures).forEach(draw)"
INKS = """() => [["low", "high"], ["better", "low"], ["low", "worse"]].flatMap((names) => {
    const [from, to] = names.map(theme());
    return Array.from({ length: 21 }, (_, at) => [from, to, at / 20, inkOn(from, to, at / 20)]);
})"""
"""What the maps write their digits in, on 21 colours between two: the two, the share of the second, and the ink."""


@dataclass
class Opened(Shown):
    """The page, and what is read off it."""

    def labels(self) -> list[str]:
        """The samplers of the results table that are shown, from the top."""
        rows = self.page.locator("[data-table=results] tbody tr:visible th")
        return [text.removesuffix("baseline").removesuffix("1 failed").strip() for text in rows.all_inner_texts()]

    def copied(self, block: str) -> list[dict[str, str]]:
        """Press a block's button and read the clipboard."""
        self.page.locator(f"[data-copy={block}]").click()
        self.page.get_by_text("Copied").wait_for()
        text = self.page.evaluate("navigator.clipboard.readText()")
        return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    write_page_study(root)
    write_failed(root, "hard_negative", 0, error="no")
    write_page(compare_runs(load_runs(root)), root / "report.html")
    return root / "report.html"


@pytest.fixture
def opened(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    size, scheme = getattr(request, "param", (DESKTOP, "light"))
    with shown(Opened, report, browser, size=size, scheme=scheme) as opened:
        yield opened


@pytest.mark.parametrize(
    "opened",
    [
        (DESKTOP, "light"),
        (PHONE, "dark"),
        *(pytest.param(case, marks=pytest.mark.slow) for case in ((DESKTOP, "dark"), (PHONE, "light"))),
    ],
    indirect=True,
    ids=["desktop light", "phone dark", "desktop dark", "phone light"],
)
def test_page_draws_everything_in_its_scheme_without_error_request_or_overflow(opened: Opened, report: Path) -> None:
    page = opened.page
    page.evaluate(DRAW_ALL)
    plots = page.locator("[data-plot]")
    assert plots.count() == 9
    assert page.locator("[data-plot] .main-svg").count() >= plots.count()
    assert page.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")
    assert opened.errors == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (sum(map(int, paper.strip("rgb()").split(","))) < 200) == is_dark
    plotted = page.locator("[data-plot] .main-svg:first-of-type").evaluate_all(
        "plots => plots.map(plot => plot.style.background)"
    )
    assert set(plotted) == {paper}
    assert all(contrast(*ink) > 4.5 for ink in page.evaluate(INKS)), "WCAG 2.2, 1.4.3"


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wide")
    write_wide_study(root, num_actions=26)
    write_page(compare_runs(load_runs(root)), root / "report.html")
    return root / "report.html"


@pytest.mark.parametrize("size", [PHONE, sync_api.ViewportSize(width=500, height=900), DESKTOP], ids=str)
def test_many_signals_and_long_names_fit_the_page(browser: Browser, wide_report: Path, size: ViewportSize) -> None:
    context = browser.new_context(viewport=size, has_touch=size is PHONE, is_mobile=size is PHONE)
    page = context.new_page()
    page.goto(wide_report.as_uri())
    page.evaluate(DRAW_ALL)
    # A phone zooms out where a page is wider, and then its `innerWidth` is that of the page.
    assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [size["width"]] * 2
    outside = """[...document.querySelectorAll('main *')].filter((part) => !part.closest('.scroll')
        && !part.closest('[clip-path]') && [part.getBoundingClientRect()].some((box) => box.width > 0
        && (box.right > document.documentElement.clientWidth + 1 || box.left < -1))).map((part) => part.outerHTML)"""
    assert page.evaluate(outside) == []
    assert page.locator(".actions").first.locator("svg").count() == 26
    widths = page.locator(".actions").first.locator("svg").evaluate_all("all => all.map(one => one.clientWidth)")
    assert min(widths) >= 60
    shown = page.locator(".samplers").evaluate("list => [list.scrollWidth, list.clientWidth]")
    assert shown[0] <= shown[1], "the legend is not cut at the right"
    labels = page.locator("[data-plot=scenario] .ytick text").all_text_contents()
    assert len(set(labels)) == len(labels) == 6
    context.close()


def contrast(first: str, second: str, share: float, ink: str) -> float:
    """Return the contrast ratio (WCAG 2.2) of ``ink``, black or white, on the colour at ``share`` between two."""
    ends = [[int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] for colour in (first, second)]
    mixed = [(one + (other - one) * share) for one, other in zip(*ends, strict=True)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in mixed]
    luminance = sum(part * value for part, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return (luminance + 0.05) / 0.05 if ink == "#000" else 1.05 / (luminance + 0.05)


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_success_is_drawn_between_0_and_100_percent(opened: Opened, share: float) -> None:
    rows = [
        {"suite": "seen", "sampler": "shuffled", "seed": seed, "value": share, "low": low, "high": high}
        for seed, low, high in ((0, None, None), (None, share - 0.1, share + 0.1))
    ]
    options = {"zero": False, "metrics": {"seen": {"unit": "%", "scale": 100, "better": "more"}}}
    low, high = opened.page.evaluate(
        "([rows, options]) => intervals(rows, { suite: 'seen' }, options).layout.xaxis.range", [rows, options]
    )
    assert -1 <= low < 100 * share < high <= 101


def test_plots_follow_a_change_of_scheme(opened: Opened) -> None:
    opened.page.evaluate("draw('differences')")
    plot = opened.page.locator("[data-plot=differences] .main-svg").first
    before = plot.evaluate("plot => plot.style.background")
    opened.page.emulate_media(color_scheme="dark")
    sync_api.expect(plot).not_to_have_css("background-color", before)


def test_table_sorts_both_ways_and_keeps_what_is_missing_last(opened: Opened) -> None:
    best_first = sorted(SAMPLERS, key=lambda name: SAMPLERS[name])
    header = opened.page.locator("[data-table=results] thead th", has_text="val/rmse").first
    header.click()
    assert opened.labels() == [*best_first, "hard_negative"]
    assert header.get_attribute("aria-sort") == "ascending"
    header.click()
    assert opened.labels() == [*best_first[::-1], "hard_negative"]
    opened.page.locator("[data-table=results] thead th").first.click()
    assert opened.labels() == sorted([*SAMPLERS, "hard_negative"])


def test_an_unchecked_sampler_leaves_every_table_and_plot(opened: Opened) -> None:
    opened.page.evaluate(DRAW_ALL)
    shown = "name => JSON.stringify([...document.querySelectorAll('[data-plot]')].map(p => p.data)).includes(name)"
    assert opened.page.evaluate(shown, "sequential")
    opened.page.locator(".sampler", has_text="sequential").click()
    assert not opened.page.evaluate(shown, "sequential")
    assert "sequential" not in opened.labels()
    assert opened.page.locator("[data-table=runs] tbody tr:visible", has_text="sequential").count() == 0
    assert {row["sampler"] for row in opened.copied("learning")} == {"shuffled", "stratified"}


def test_text_filters_by_any_of_its_parts(opened: Opened) -> None:
    opened.page.locator("#needle").fill("SHUF, strat,")
    assert set(opened.labels()) == {"shuffled", "stratified"}
    opened.page.locator("#needle").fill("no such sampler")
    assert opened.labels() == []
    opened.page.locator("#needle").fill("")
    assert len(opened.labels()) == 4
    assert opened.errors == []


def test_csv_says_what_the_table_says_in_its_order(opened: Opened) -> None:
    opened.page.locator("[data-table=results] thead th", has_text="sampler").first.click()
    rows = opened.copied("results")
    assert [row["sampler"] for row in rows] == opened.labels()
    cells = opened.page.locator("[data-table=results] tbody tr:visible td:nth-child(3)").all_inner_texts()
    for row, cell in zip(rows, cells, strict=True):
        mean = cell.split(" ± ")[0]
        assert (f"{float(row['val/rmse']):.4f}" if row["val/rmse"] else "—") == mean


def test_switches_change_what_is_drawn(opened: Opened) -> None:
    opened.page.evaluate("draw('learning')")
    read = "Math.max(...document.querySelector('[data-plot=learning]').data.at(-1).x)"
    assert opened.page.evaluate(read) == 300
    opened.page.locator("#learning").get_by_text("samples seen", exact=True).click()
    assert opened.page.evaluate(read) == 9600
    opened.page.locator("#scenario").get_by_text("difference to baseline").click()
    values = opened.page.evaluate("document.querySelector('[data-plot=scenario]').data[0].z.flat()")
    assert sorted({round(value, 6) for value in values}) == [-0.03, 0, 0.06]


def test_a_plot_is_saved_by_its_own_button_and_there_is_no_other_way_out(opened: Opened) -> None:
    opened.page.evaluate("draw('differences')")
    bar = opened.page.locator("[data-plot=differences] .modebar-btn")
    assert bar.evaluate_all("buttons => buttons.map(b => b.dataset.title)") == ["Download plot", "Reset axes"]
    with opened.page.expect_download() as download:
        bar.first.click()
    assert download.value.suggested_filename.endswith("differences.svg")


def test_a_label_that_a_spreadsheet_would_compute_is_a_text_there(browser: Browser, tmp_path: Path) -> None:
    labels = ("shuffled", '=HYPERLINK("https://evil.example", 1)', "-1+1", "@SUM(1)")
    for sampler in labels:
        for seed in range(2):
            write_full_run(tmp_path, sampler, seed, 0.3)
    write_page(compare_runs(load_runs(tmp_path)), tmp_path / "report.html")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    rows = list(csv.DictReader(io.StringIO(page.evaluate("csvOf('results')"))))
    assert {row["sampler"] for row in rows} == {labels[0], *(f"'{label}" for label in labels[1:])}
    assert not any(cell.startswith("'") for row in rows for name, cell in row.items() if name != "sampler")
    page.close()


def test_labels_of_somebody_else_are_texts_in_the_plots_too(browser: Browser, tmp_path: Path) -> None:
    evil = '<a href="https://evil.example">x</a><img src=x onerror="window.hacked = 1"><b>%{x}'
    for sampler, rmse in (("shuffled", 0.3), (evil, 0.2)):
        for seed in range(2):
            write_full_run(tmp_path, sampler, seed, rmse + 0.01 * seed)
    write_page(compare_runs(load_runs(tmp_path)), tmp_path / "report.html")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate(DRAW_ALL)
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.locator("a[href*=evil], a[*|href*=evil], img[src=x]").count() == 0
    assert page.locator("svg").get_by_text('<a href="https://evil.example">x').count() > 0
    page.close()
