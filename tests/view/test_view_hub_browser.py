"""The pages of a Hub in a real browser: hostile texts, private repos, keys, narrow windows, links that open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import CommitOperationAdd

from hubdpo.loopback.api.community import pulls
from tests.view.conftest import WIDTHS, Watched, is_wider_than_its_window
from tests.view.hosting import CAROL, DAVE, Served, served
from tests.view.test_view_card import HOSTILE
from tests.view.test_view_hub import png

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = [
    "<img src=x onerror=hacked=1>.txt",
    "'\";alert(1).md",
    "javascript:alert(1).txt",
    "ünïcödé 漢字.txt",
    "a&b=c#d%2F.txt",
]
LONG = "word" * 100
CARD = (
    "---\nlicense: mit\ntags: ['<script>hacked=1</script>']\n---\n# <script>hacked=1</script>Card\n\n![ours](a.png)\n\n"
)
MARK = "window.hacked !== undefined"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for made in served(tmp_path_factory.mktemp("hub") / "hub"):
        api = made.api
        api.create_repo("carol/x")
        card = CARD + "\n\n".join(HOSTILE).replace("alert(1)", "hacked=1") + f"\n\n|{LONG}|{LONG}|\n|-|-|\n|{LONG}|b|\n"
        adds = [CommitOperationAdd(name, b"<script>hacked=1</script>\n" + LONG.encode()) for name in NAMES]
        adds += [CommitOperationAdd("README.md", card.encode()), CommitOperationAdd("a.png", png())]
        adds += [
            CommitOperationAdd("evil.html", b"<script>hacked=1</script>"),
            CommitOperationAdd("d/e/f.json", b'{"a": [1]}'),
        ]
        adds += [CommitOperationAdd("deep.md", b"<div>" * 20_000), CommitOperationAdd("line.md", b"[" * 1_000_000)]
        adds += [CommitOperationAdd("lists.md", b"".join(b"  " * n + b"- a\n" for n in range(200)))]
        api.create_commit("carol/x", adds, commit_message=f"<script>hacked=1</script> {LONG}")
        api.create_branch("carol/x", branch="feature/<b>hacked=1</b>")
        made.api.create_discussion("carol/x", title="<script>hacked=1</script>", description="\n\n".join(HOSTILE))
        api.create_commit(
            "carol/x", [CommitOperationAdd("new.txt", b"<script>hacked=1</script>")], commit_message="P", create_pr=True
        )
        with pytest.MonkeyPatch.context() as earlier:  # Hubs of earlier versions have such titles
            earlier.setattr(pulls, "LONGEST_TITLE", 10**6)
            long = api.create_discussion("carol/x", title=LONG * 10)
            api.rename_discussion("carol/x", long.num, new_title=LONG * 20)
        api.create_branch("carol/x", branch="b" * 180)
        api.create_repo("carol/" + "n" * 90)
        made.api.create_collection("<script>hacked=1</script>")
        api.create_repo("carol/secret", private=True)
        yield made


def pages_of(hub: Served) -> list[str]:
    sha = hub.api.list_repo_commits("carol/x")[0].commit_id
    (collection,) = hub.api.list_collections(owner="carol")
    return [
        "/", "/models", "/carol", "/collections", f"/collections/{collection.slug}", "/carol/x", "/carol/x/tree/main",
        "/carol/x/tree/main/d/e", "/carol/x/blob/main/d/e/f.json", "/carol/x/blob/main/README.md?plain=1",
        "/carol/x/commits/main", f"/carol/x/commit/{sha}", "/carol/x/discussions", "/carol/x/discussions/1",
        "/carol/x/discussions/2", "/carol/x/versions", "/carol/x/blob/main/a.png",
        "/carol/x/blob/main/lists.md", "/carol/x/discussions/3", f"/carol/x/tree/{'b' * 180}", f"/carol/{'n' * 90}",
        "/carol/x/tree/feature%2F%3Cb%3Ehacked=1%3C%2Fb%3E",
    ]  # fmt: skip


def test_a_long_title_leaves_the_state_on_one_line(hub: Served, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(hub.server.endpoint + "/carol/x/discussions")
    heights = [chip.bounding_box() for chip in page.locator("td .chip").all()]
    assert len(heights) == 3 and all(box and box["height"] < 30 for box in heights)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_no_text_acts_and_no_page_is_wider_than_its_window(hub: Served, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for path in pages_of(hub):
        answer = page.goto(hub.server.endpoint + path)
        assert answer is not None and answer.status == 200, path
        assert not page.evaluate(MARK), path
        assert not is_wider_than_its_window(page), path


@pytest.mark.parametrize("name", ["deep.md", "line.md"])
def test_a_text_that_is_hard_to_format_opens(hub: Served, page: Page, name: str) -> None:
    answer = page.goto(f"{hub.server.endpoint}/carol/x/blob/main/{name}")
    assert answer is not None and answer.status == 200 and not is_wider_than_its_window(page)


def test_a_card_has_no_element_that_acts(hub: Served, page: Page) -> None:
    page.goto(f"{hub.server.endpoint}/carol/x")
    article = page.locator("article.card")
    assert article.locator("script, iframe, form, input, style, base, meta, svg, object, embed, link").count() == 0
    assert article.locator("img").count() == 1 and article.locator("img").evaluate("one => one.naturalWidth") == 4
    named = article.evaluate("one => [...one.querySelectorAll('*')].flatMap(e => e.getAttributeNames())")
    assert set(named) <= {"href", "rel", "src", "alt", "id", "align", "title"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_opens_from_its_folder(hub: Served, page: Page, name: str) -> None:
    page.goto(f"{hub.server.endpoint}/carol/x/tree/main")
    page.get_by_role("link", name=name, exact=True).click()
    assert page.locator(".path b").inner_text() == name
    page.goto(page.url.partition("?")[0] + "?plain=1")
    assert page.locator("table.lines code").first.inner_text() == "<script>hacked=1</script>"
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes().startswith(b"<script>")


def test_a_page_in_the_repo_is_never_run(hub: Served, page: Page) -> None:
    with page.expect_download():  # a browser saves it; opened, it would read what the visitor may read
        page.evaluate("address => { location.href = address }", f"{hub.server.endpoint}/carol/x/resolve/main/evil.html")


def test_a_line_is_marked_by_its_address(hub: Served, page: Page) -> None:
    page.goto(f"{hub.server.endpoint}/carol/x/blob/main/README.md?plain=1#L7")
    assert page.locator("#L7").evaluate("row => row.matches(':target')")


def test_lists_go_by_keys(hub: Served, page: Page) -> None:
    page.goto(f"{hub.server.endpoint}/models")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "search"
    page.keyboard.type("carol/x")
    page.keyboard.press("Enter")
    page.wait_for_url("**/models?search=carol%2Fx")
    page.keyboard.press("j")
    page.keyboard.press("o")
    page.wait_for_url("**/carol/x")
    page.keyboard.press("2")
    page.wait_for_url("**/carol/x/tree")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


def test_a_revision_is_chosen_in_a_list(hub: Served, page: Page) -> None:
    page.goto(f"{hub.server.endpoint}/carol/x/tree/main")
    page.get_by_label("Revision").select_option("feature/<b>hacked=1</b>")
    page.wait_for_url("**/tree?revision=feature*")
    assert page.locator(".name .chip").inner_text() == "feature/<b>hacked=1</b>"


def test_the_browser_asks_for_the_token_of_a_private_repo(hub: Served, browser: Browser) -> None:
    shown = {}
    for name, token in (("owner", CAROL), ("other", DAVE), ("wrong", "hf_wrong")):
        context = browser.new_context(http_credentials={"username": "any", "password": token})
        page = context.new_page()
        answer = page.goto(f"{hub.server.endpoint}/carol/secret")
        shown[name] = (answer and answer.status, page.locator(".chip.warn").count())
        context.close()
    assert shown == {"owner": (200, 1), "other": (404, 0), "wrong": (401, 0)}


def test_signing_in_leads_to_the_lists(hub: Served, browser: Browser) -> None:
    context = browser.new_context(http_credentials={"username": "carol", "password": CAROL})
    page = context.new_page()
    page.goto(hub.server.endpoint)
    assert page.get_by_role("link", name="carol/secret").count() == 0
    page.get_by_role("link", name="Sign in").click()
    page.wait_for_url(f"{hub.server.endpoint}/")
    assert page.get_by_role("link", name="carol/secret").count() == 1
    context.close()


def test_pages_work_in_the_dark_and_without_scripts(hub: Served, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{hub.server.endpoint}/carol/x/discussions?status=open")
    page.get_by_label("Kind").select_option("pull_request")
    page.get_by_role("button", name="Show").click()
    assert "type=pull_request" in page.url and page.locator("tr[data-row]").count() == 1
    context.close()


def test_nothing_is_sent_to_another_host(hub: Served, page: Page, watched: Watched, context: BrowserContext) -> None:
    page.goto(f"{hub.server.endpoint}/carol/x")
    page.wait_for_load_state("networkidle")
    assert watched.outside == [] and context.cookies() == []
