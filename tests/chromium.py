"""A real headless Chromium for the tests of pages, and what went wrong on a page."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    warnings.warn("NO CHROMIUM: no page is tested in a browser; install chromium", stacklevel=1)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="NO CHROMIUM: no page is tested in a browser")

sync_api = pytest.importorskip("playwright.sync_api")

DESKTOP = sync_api.ViewportSize(width=1400, height=900)
PHONE = sync_api.ViewportSize(width=390, height=844)


@dataclass
class Shown:
    """A page in the browser, with what went wrong on it and what it asked for."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


AnyShown = TypeVar("AnyShown", bound=Shown)


@contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser, and close it."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def shown(kind: type[AnyShown], file: Path, browser: Browser, *, size: ViewportSize, scheme: str) -> Iterator[AnyShown]:
    """Open ``file`` at ``size`` in the colour scheme ``light`` or ``dark``, and close it."""
    is_phone = size is PHONE
    context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=is_phone, is_mobile=is_phone)  # pyright: ignore[reportArgumentType]
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = kind(page=context.new_page())
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    found.page.on("console", lambda message: found.errors.extend([message.text] * (message.type == "error")))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.goto(file.as_uri())
    yield found
    context.close()
