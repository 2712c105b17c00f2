"""The pages of a run in a real browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hubdpo import train
from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, Answered, Said, Verdict, to_lines
from hubdpo.view.open import open_thing
from tests.view.ask import served
from tests.view.conftest import WIDTHS, is_wider_than_its_window
from tests.view.made_datasets import HOSTILE, made_up, pair, thing_of, write_dataset
from tests.view.made_runs import PAIRS, line, report, worked_in, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
LOADED = "[...document.images].map(image => image.complete && image.naturalWidth > 100)"
ALL_LOADED = f"{LOADED}.every(Boolean)"
ELEMENTS = "[...document.querySelectorAll('main *')].map(element => element.localName)"
LAST_ROW = """many => {
  const facts = document.querySelector('.facts');
  facts.replaceChildren(...Array.from({length: many}, () => facts.firstElementChild.cloneNode(true)));
  return [...facts.children].filter(fact => fact.offsetTop === facts.lastElementChild.offsetTop).length;
}"""
LONG_NAME = "a-run-" + "x" * 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs whose pairs, answers and options hold texts that try to be markup."""
    folder = tmp_path_factory.mktemp("runs")
    texts = [HOSTILE[row % len(HOSTILE)] for row in range(PAIRS)]
    rows = [pair(f"question {row} {text}", f"good {text}", f"bad {text}") for row, text in enumerate(texts)]
    data = write_dataset(folder / "data", {"train": made_up(3), "test": rows})
    samples = [(text, f"base {text}", f"adapter {text}") for text in HOSTILE]
    for name, beta in (("one", 0.1), (LONG_NAME, 0.3)):
        write_run(
            folder / name, steps=120, planned=120, data=data, evaluated=report(samples), options={"beta": beta},
            stock_forward=HOSTILE[0], device=HOSTILE[1],
        )  # fmt: skip
    answered = [
        Answered(
            row=row, prompt=[{"role": text, "content": text}], tools=[{"name": text}], language="en",
            base=Said(text=f"base {text}", tokens=3, ended=False, refuses=True, language=text),
            adapter=Said(text=f"adapter {text}", tokens=3, ended=True),
            verdict=Verdict(outcome="order", base_first=text, adapter_first=text),
        )
        for row, text in enumerate(HOSTILE)
    ]  # fmt: skip
    (folder / "one" / ANSWERED_FILE).parent.mkdir()
    (folder / "one" / ANSWERED_FILE).write_bytes(to_lines(answered))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(thing_of(folder / "one")) as served_at:
        yield served_at


@pytest.fixture(scope="module")
def both(folder: Path) -> Iterator[str]:
    with served(open_thing([str(folder / "one"), str(folder / LONG_NAME)])) as served_at:
        yield served_at


def test_the_curves_are_pictures_that_load(page: Page, address: str) -> None:
    page.goto(address, wait_until="networkidle")
    assert page.evaluate(LOADED) == [True] * 7
    assert page.evaluate("document.images[0].currentSrc").count("theme=light") == 1
    with page.expect_response("**/curves/speed?theme=dark**"):
        page.emulate_media(color_scheme="dark")
    page.wait_for_function(ALL_LOADED)  # the network has been idle once, which is all that a load state tells
    assert page.evaluate("[...document.images].map(image => image.currentSrc.includes('theme=dark'))") == [True] * 7


def test_the_last_of_many_facts_is_not_alone_in_its_row(page: Page, address: str) -> None:
    page.goto(address)
    for width in (1024, 1280, WIDTHS["desk"]):
        page.set_viewport_size({"width": width, "height": 800})
        assert [page.evaluate(LAST_ROW, many) for many in range(7, 14)] == [3, 4, 4, 2, 3, 4, 3], width


def test_a_run_grows_in_an_open_page(page: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="running", steps=3, planned=200)
    with served(thing_of(run)) as at, worked_in(run):
        page.goto(at, wait_until="networkidle")
        first = page.locator(".facts b").first
        assert first.inner_text() == "3 of 200"
        page.evaluate("window.stayed = true")
        picture = page.evaluate("document.images[0].currentSrc")
        for step in range(4, 8):
            with (run / "metrics.jsonl").open("a") as stream:
                stream.write(json.dumps(line(step)) + "\n")
        page.locator(".facts b", has_text="7 of 200").wait_for()
        page.locator("#log tbody tr:first-child td:first-child", has_text="7").wait_for()
        assert page.evaluate("document.images[0].currentSrc") != picture
        assert all(page.evaluate(LOADED)), "a picture takes the place of the one before when it is there"
        write_run(tmp_path / "done", steps=7, planned=7)
        (run / "run.json").write_bytes((tmp_path / "done" / "run.json").read_bytes())
        page.locator("h1", has_text="complete").wait_for()
        assert page.evaluate("window.stayed"), "nothing was loaded anew"
        page.locator("[data-live]").first.wait_for(state="detached")


def test_a_real_training_is_followed_to_its_end(page: Page, tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = {
        "model_name_or_path": str(tiny_base), "dataset": str(dataset_dir), "output_dir": run, "max_steps": 40,
        "max_length": 128, "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "eval_steps": 20,
    }  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(lambda: train(**options))
        while not (run / "metrics.jsonl").exists():
            assert not training.done(), training.result()
            time.sleep(0.01)
        with served(thing_of(run)) as at:
            page.goto(at)
            page.locator("h1", has_text="complete").wait_for(timeout=120_000)
            page.locator(".facts b", has_text="40 of 40").wait_for()
            page.locator("figure").nth(6).wait_for()  # the speed too is logged
            assert page.locator("figure").count() == 7
            page.goto(f"{at}/pairs")
            assert page.locator("article.pair").count() == 10
            page.goto(f"{at}/options")
            assert "training from step 0" in page.locator(".warned").inner_text()
        assert training.result().status == "complete"


def test_pairs_are_filtered_sorted_and_opened_by_keyboard(page: Page, address: str) -> None:
    page.goto(f"{address}/pairs")
    page.get_by_label("Outcome").select_option("only-adapter")
    page.wait_for_url("**outcome=only-adapter**")
    assert page.locator("article header > a").all_inner_texts() == ["test 3", "test 9", "test 15", "test 21"]
    page.get_by_label("Order").select_option("highest")
    page.wait_for_url("**order=highest**")
    assert page.locator("article header > a").first.inner_text() == "test 21"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "row-15"
    page.keyboard.press("o")
    page.wait_for_url("**row=15**")
    page.keyboard.press("4")
    page.wait_for_url("**/options")
    page.keyboard.press("2")
    page.wait_for_url("**/pairs")
    page.keyboard.press("n")
    page.wait_for_url("**from=10**")
    page.keyboard.press("/")
    page.keyboard.type("question 7 ")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=question**")
    assert page.locator("article.pair").count() == 1


def test_the_log_is_scrolled_and_paged_by_keyboard(page: Page, address: str) -> None:
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 800})
    page.goto(address)
    box = page.get_by_role("region", name="Log")
    box.focus()
    page.keyboard.press("ArrowRight")
    until = time.monotonic() + 20
    while not box.evaluate("element => element.scrollLeft"):
        assert time.monotonic() < until
    page.keyboard.press("n")
    page.wait_for_url("**from=20**")
    assert page.locator("#log tbody td").first.inner_text() == "100"


def test_texts_never_become_elements(page: Page, address: str, both: str) -> None:
    allowed = {
        "a", "article", "b", "button", "code", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "form", "h1",
        "h2", "h3", "header", "img", "input", "label", "li", "mark", "nav", "option", "p", "picture", "pre", "section",
        "select", "source", "span", "summary", "table", "tbody", "td", "th", "thead", "tr", "ul",
    }  # fmt: skip
    seen = 0
    for place in (
        f"{address}/answers", f"{address}/options", *(f"{address}/pairs?from={at}" for at in (0, 10, 20)), both,
        f"{both}/pairs?row=1&run=2", f"{address}/answers?row=1",
    ):  # fmt: skip
        page.goto(place)
        elements = page.evaluate(ELEMENTS)
        seen += len(elements)
        assert set(elements) <= allowed, place
        pictures = page.locator("main img")
        assert all("/curves/" in (pictures.nth(at).get_attribute("src") or "") for at in range(pictures.count()))
        assert page.evaluate("window.hurt") is None
    assert seen > 2_000
    page.goto(f"{address}/answers")
    answers = page.locator("section[aria-label=adapter] .said").all_inner_texts()
    assert [answer.split() for answer in answers][:5] == [f"adapter {text}".split() for text in HOSTILE[:5]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways(browser: Browser, address: str, both: str, width: str, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": WIDTHS[width], "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = context.new_page()
    for place in (
        address, f"{address}/pairs", f"{address}/answers", f"{address}/answers?row=1", f"{address}/options", both,
        f"{both}/pairs?run=2",
    ):  # fmt: skip
        page.goto(place)
        for details in page.locator("details").all():
            details.evaluate("element => element.open = true")
        assert not is_wider_than_its_window(page), place
    context.close()
