"""The pages of a dataset in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hubdpo import prepare
from hubdpo.artefacts.manifests.prepare import Source
from hubdpo.view.dataset import viewer
from tests.view.ask import served
from tests.view.conftest import WIDTHS, is_wider_than_its_window
from tests.view.made_datasets import HOSTILE, made_up, pair, thing_of, write_dataset

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
ELEMENTS = "[...document.querySelectorAll('*')].map(element => element.localName)"
MANY = 20_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browser") / "preferences"
    sources = [
        Source(name="forum.jsonl", sha256="1" * 64, size=1, pairs={"train": 60}),
        Source(name="support.csv", sha256="2" * 64, size=1, pairs={"train": 60, "test": 9}),
    ]
    dropped = [{"source": "forum.jsonl", "line": line, "reason": "tie"} for line in range(230)]
    rows = {"train": made_up(120), "test": made_up(9, 1)}
    with served(thing_of(write_dataset(folder, rows, sources=sources, dropped=dropped))) as served_at:
        yield served_at


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dataset of `hubdpo prepare`, with statistics."""
    folder = tmp_path_factory.mktemp("prepared")
    raw = Path(__file__).parents[2] / "hubdpo" / "demo" / "data" / "preferences.jsonl"
    prepare(source=[str(raw)], output_dir=folder / "d", test_size=0.2)
    with served(thing_of(folder / "d")) as served_at:
        yield served_at


def rows_of(page: Page) -> list[str]:
    return page.locator("article.pair > header > a").all_inner_texts()


def test_searching_and_filtering(page: Page, address: str) -> None:
    page.goto(address)
    assert len(rows_of(page)) == 20
    page.get_by_role("searchbox").fill("quokka")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=quokka**")
    assert page.locator("mark.found").first.inner_text() == "quokka"
    assert "least" not in page.url  # an empty field stays out of the address
    page.get_by_label("Source").select_option("support.csv")
    page.wait_for_url("**source=support.csv**")
    assert all(int(name.split()[1]) >= 60 for name in rows_of(page))
    page.get_by_label("Split").select_option("test")
    page.wait_for_url("**split=test**")
    assert all(name.startswith("test") for name in rows_of(page))
    page.get_by_role("link", name="Clear").click()
    assert page.get_by_role("searchbox").input_value() == ""


def test_everything_can_be_done_by_keyboard(page: Page, address: str) -> None:
    page.goto(address)
    page.keyboard.press("/")
    page.keyboard.type("tea")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=tea**")
    page.keyboard.press("n")
    page.wait_for_url("**from=**")
    page.keyboard.press("p")
    page.wait_for_url("**before=**")
    page.goto(address)
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.id") == "row-1"
    page.keyboard.press("o")
    page.wait_for_url("**row=1**")
    page.keyboard.press("n")
    page.wait_for_url("**row=2**")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    page.keyboard.press("2")
    page.wait_for_url("**/dropped**")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_a_key_in_a_field_is_a_letter(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("searchbox").focus()
    page.keyboard.type("jn?2/")
    assert page.get_by_role("searchbox").input_value() == "jn?2/" and page.url.rstrip("/") == address


def test_dropped_rows(page: Page, address: str) -> None:
    page.goto(address + "/dropped")
    assert page.locator("tr[data-row]").count() == 100
    page.get_by_role("link", name="Next").click()
    assert page.locator("tr[data-row]").first.inner_text().split()[1] == "100"
    page.get_by_role("link", name="tie").click()
    page.wait_for_url("**reason=tie**")


def test_numbers_and_their_plots(page: Page, prepared: str) -> None:
    page.goto(prepared + "/numbers")
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("figure img").count() == 2
    page.get_by_text("Counted again from the rows just now").wait_for()  # without a reload by the reader


@pytest.mark.parametrize("path", ["/", "/viewer?row=0", "/dropped", "/numbers", "/nothing"])
def test_pages_fit_phones_and_wide_screens(page: Page, watched: object, prepared: str, path: str) -> None:
    for width in WIDTHS.values():
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(prepared + path)
        assert not is_wider_than_its_window(page), width
    watched.errors.clear()  # type: ignore[attr-defined]  # Chromium reports the 404 of /nothing


def test_pages_work_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("searchbox").fill("tea")
    page.get_by_role("button", name="Filter").click()
    assert "q=tea" in page.url and page.locator("mark.found").count() > 0
    context.close()


def test_hostile_texts_never_become_elements(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "ROWS", 500)
    rows = range(MANY // 4)
    plain = [pair(f"{number} question", "good answer", "bad answer", note="a note") for number in rows]
    texts = [HOSTILE[number % len(HOSTILE)] for number in rows]
    hostile = [pair(f"{text} {i}", text * 2, f"{i}{texts[-1 - i]}", note=f"{text}{i}") for i, text in enumerate(texts)]
    elements = []
    for name, rows in (("plain", plain), ("hostile", hostile)):
        folder = write_dataset(tmp_path / name, {"train": rows}, rows_per_group=1000, rows_per_shard=5000)
        with served(thing_of(folder)) as address:
            kinds: set[str] = set()
            for start in range(0, len(rows), viewer.ROWS):
                page.goto(f"{address}/?from={start}")
                kinds |= {*page.evaluate(ELEMENTS)}
                assert page.locator("article.pair").count() == viewer.ROWS
            page.goto(f"{address}/viewer?row=3")
            kinds |= {*page.evaluate(ELEMENTS)}
            elements.append(kinds - {"mark"})
    assert elements[1] <= elements[0]
    assert page.evaluate("window.hurt") is None
