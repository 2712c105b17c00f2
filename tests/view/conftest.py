"""A real browser for the pages: headless Chromium, in which an error in the console or a request to elsewhere fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--font-render-hinting=none",
]  # fmt: skip
WIDTHS = {"phone": 360, "tablet": 820, "desk": 1600}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Skip without one, but not in CI."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium for the browser tests; install the package `chromium`")
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """What went wrong in the pages of a context."""

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.outside: list[str] = []
        context.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        context.on("weberror", lambda problem: self.errors.append(str(problem.error)))
        context.on("request", lambda sent: self._note(sent.url))

    def _note(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:", "about:")):
            self.outside.append(url)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": WIDTHS["desk"], "height": 900})
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def watched(context: BrowserContext) -> Iterator[Watched]:
    """Errors and outside requests of the test's pages; a test that expects an error clears `errors`."""
    watched = Watched(context)
    yield watched
    assert watched.errors == [] and watched.outside == []


@pytest.fixture
def page(context: BrowserContext, watched: Watched) -> Page:
    return context.new_page()


def is_wider_than_its_window(page: Page) -> bool:
    """Tell whether the page itself scrolls sideways; a table may scroll inside its own box."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
