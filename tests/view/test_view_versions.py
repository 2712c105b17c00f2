"""Versions of a repo and what differs between two of them: rows, options, weights, figures, files."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi

import hubdpo
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import Snapshot
from hubdpo.loopback.server import LoopbackHub
from hubdpo.release.diff.rows import find_rows
from hubdpo.view import site
from hubdpo.view.kept import Kept
from hubdpo.view.page import Asked
from hubdpo.view.release import comparison
from hubdpo.view.thing import Thing
from tests.loopback.ask import ask
from tests.release.made import made_base, made_run, scale_adapter
from tests.view.conftest import WIDTHS, is_wider_than_its_window
from tests.view.hosting import broken_links

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.conftest import Hub

ROWS = [{"prompt": f"Prompt {n}", "chosen": f"good answer {n}", "rejected": f"bad {n}"} for n in range(6)]


def prepared(folder: Path, rows: list[dict[str, str]]) -> Path:
    folder.mkdir(parents=True)
    raw = folder / "raw.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    hubdpo.prepare(source=[str(raw)], output_dir=folder / "data", test_size=0, license="mit")
    return folder / "data"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> str:
    """Two versions of a dataset on the Hub: a row changed, one was removed and one added."""
    folder, name = tmp_path_factory.mktemp("versions"), "alice/versions"
    changed = [*ROWS[:2], {**ROWS[2], "chosen": "better <b>answer</b> 2"}, *ROWS[4:]]
    changed.append({"prompt": "Prompt new", "chosen": "new good", "rejected": "new bad"})
    hubdpo.push(folder=prepared(folder / "1", ROWS), repo=name, version="0.1.0")
    hubdpo.push(folder=prepared(folder / "2", changed), repo=name, version="0.2.0")
    return name


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> str:
    folder, name = tmp_path_factory.mktemp("adapters"), "alice/version-adapter"
    base = made_base("alice/version-base")
    run = made_run(folder / "run", base, megabytes=0.05)
    hubdpo.push(folder=run, repo=name, version="0.1.0", check="hashes")
    scale_adapter(run, 2)
    hubdpo.push(folder=run, repo=name, version="0.2.0", check="hashes")
    return name


def page_of(server: LoopbackHub, path: str) -> str:
    answer = ask(server, "GET", path)
    assert answer.status == 200, answer
    return answer.body.decode()


def viewed(thing: Thing, tab: str, query: str = "") -> str:
    answer = site.answer(Asked.parse("", (tab,), query), thing)
    assert answer.status == 200, answer.content.decode()
    return answer.content.decode()


@pytest.fixture(params=["on serve-hub", "through the API"])
def shown(request: pytest.FixtureRequest, hub: Hub, dataset: str) -> dict[str, str]:
    """The pages of versions and comparison, of a Hub itself and of `hubdpo view`."""
    query = "before=v0.1.0&after=v0.2.0"
    if request.param == "on serve-hub":
        base = f"/datasets/{dataset}"
        return {
            "versions": page_of(hub.server, f"{base}/versions"),
            "compare": page_of(hub.server, f"{base}/compare?{query}"),
        }
    thing = Thing(open_snapshot(f"datasets/{dataset}@v0.1.0"), dataset, "v0.1.0")
    return {"versions": viewed(thing, "versions"), "compare": viewed(thing, "compare", query)}


def test_versions_tell_date_kind_size_and_changes(shown: dict[str, str]) -> None:
    text = shown["versions"].partition("<tbody>")[2]
    assert text.index("v0.2.0") < text.rindex("v0.1.0") and "first release" in text and ">dataset<" in text
    assert re.search(r"\d{4}-\d\d-\d\d</td>", text) and "before=v0.1.0&amp;after=v0.2.0" in text and " kB" in text


def test_rows_that_differ_stand_side_by_side(shown: dict[str, str]) -> None:
    text = shown["compare"]
    articles = re.findall(r'<article class="pair".*?</article>', text, re.DOTALL)
    assert [re.search(r">(changed|removed|added)</span>", one)[1] for one in articles] == [
        "changed",
        "removed",
        "added",
    ]  # type: ignore[index]
    assert "good answer 2" in re.sub("<.?mark[^>]*>", "", articles[0]) and "&lt;b&gt;" in articles[0]
    assert "Prompt 3" in articles[1] and "Prompt new" in articles[2] and "<b>answer" not in text


def test_files_and_metadata_that_differ_are_named(shown: dict[str, str]) -> None:
    assert "prepare.json" in shown["compare"] and "Data</h2>" in shown["compare"] and "README.md" in shown["compare"]


def test_every_row_that_differs_is_found_where_it_is(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    first, second = prepared(tmp_path / "1", ROWS), prepared(tmp_path / "2", [*ROWS[::-2], *ROWS[:1], ROWS[0]])
    files = [sorted((folder / "data").glob("*.parquet")) for folder in (first, second)]
    places = find_rows({"train": files[1], "test": files[0]}, {"train": files[1]})
    assert places is not None and not len(places.added) and not len(places.changed)
    rows = [row for file in files[0] for row in pq.read_table(file).to_pylist()]
    gone = [places.before.place(int(row)) for row in places.removed]
    assert {split for split, _ in gone} == {"test"}
    assert {rows[number]["prompt"][0]["content"] for _, number in gone} == {"Prompt 2", "Prompt 4"}


def test_weights_are_compared_by_module(hub: Hub, adapter: str) -> None:
    text = page_of(hub.server, f"/{adapter}/compare?before=v0.1.0&after=v0.2.0")
    assert text.count("<meter") == 4 and "100.0 % of the norm before" in text and "q_proj" in text
    assert "The weights are identical." in page_of(hub.server, f"/{adapter}/compare?before=v0.1.0&after=v0.1.0")


def test_too_much_is_said_and_not_compared(hub: Hub, adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "LARGEST", {".safetensors": 10})
    text = page_of(hub.server, f"/{adapter}/compare?before=v0.2.0&after=v0.1.0")
    assert "too much for a page" in text and f"hubdpo diff {adapter}@v0.2.0 {adapter}@v0.1.0" in text
    assert "<meter" not in text and "identical" not in text


def test_two_commits_are_compared_once_whatever_revision_is_open(
    hub: Hub, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, real = [], comparison._compared
    monkeypatch.setattr(comparison, "_compared", lambda old, new: compared.append(new) or real(old, new))
    monkeypatch.setattr(hub.server._routes._pages._shelf, "few", Kept(2))  # type: ignore[union-attr]
    query = "before=v0.1.0&after=v0.2.0"
    for revision in ("main", "v0.1.0", "v0.2.0"):
        page_of(hub.server, f"/datasets/{dataset}/compare?{query}&revision={revision}")
    assert len(compared) == 1
    assert not list(hub.server._store.incoming.glob("pages-*"))


def test_pages_of_a_commit_do_not_wait_for_a_comparison(
    hub: Hub, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, real = threading.Event(), threading.Event(), comparison._compared

    def slow(old: Snapshot, new: Snapshot) -> comparison.Compared:
        begun.set()
        assert go.wait(60)
        return real(old, new)

    monkeypatch.setattr(comparison, "_compared", slow)
    monkeypatch.setattr(hub.server._routes._pages._shelf, "few", Kept(2))  # type: ignore[union-attr]
    base = f"/datasets/{dataset}"
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(page_of, hub.server, f"{base}/compare?before=v0.2.0&after=v0.1.0")
        assert begun.wait(60)
        try:
            assert "Prompt 0" in page_of(hub.server, f"{base}/viewer")
        finally:
            go.set()
        assert "Rows</h2>" in waits.result()


def test_every_file_that_is_read_counts(hub: Hub, dataset: str) -> None:
    """Also identical ones beside one that differs, and those beyond the files that are shown."""
    old, new = (open_snapshot(f"datasets/{dataset}@{tag}") for tag in ("v0.1.0", "v0.2.0"))
    sizes = [sum(size for name, size in one.files.items() if name.endswith(".parquet")) for one in (old, new)]
    assert comparison._bytes_compared(old, new, ".parquet") == max(sizes)
    assert comparison._bytes_compared(old, old, ".parquet") == 0


def test_rows_that_differ_come_in_pages(hub: Hub, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "ROWS", 2)
    address = f"/datasets/{dataset}/compare?before=v0.1.0&after=v0.2.0"
    first, second = page_of(hub.server, address), page_of(hub.server, f"{address}&p=1")
    assert (first.count('<article class="pair"'), second.count('<article class="pair"')) == (2, 1)
    assert 'rel="next"' in first and 'rel="prev"' in second and "Prompt new" in second


def test_releases_of_two_kinds_are_compared_by_files(hub: Hub, adapter: str, dataset: str, tmp_path: Path) -> None:
    old = open_snapshot(f"{adapter}@v0.1.0")
    new = open_snapshot(f"datasets/{dataset}@v0.1.0")
    found = comparison._compared(old, new)
    assert found.diff is None and "little to compare" in found.note and found.changes.count > 5


def test_versions_that_hubdpo_did_not_make_are_compared_by_files(hub: Hub, repo_id: str) -> None:
    api = HfApi()
    api.create_repo(repo_id)
    api.upload_file(repo_id=repo_id, path_in_repo="a.txt", path_or_fileobj=b"one\n")
    api.create_tag(repo_id, tag="v1.0.0")
    api.upload_file(repo_id=repo_id, path_in_repo="a.txt", path_or_fileobj=b"two\n")
    text = page_of(hub.server, f"/{repo_id}/compare?before=v1.0.0&after=main")
    assert "<code>+two</code>" in text and "1 file changed" in text
    assert "not by hubdpo" in page_of(hub.server, f"/{repo_id}/versions")


@pytest.mark.parametrize("query", ["", "before=v0.1.0", "before=nope&after=v0.1.0", "before=v0.1.0&after=../x"])
def test_a_comparison_needs_two_versions_that_exist(hub: Hub, dataset: str, query: str) -> None:
    assert ask(hub.server, "GET", f"/datasets/{dataset}/compare?{query}", Authorization="").status in (400, 404)


def test_every_address_that_push_prints_is_a_page(hub: Hub, dataset: str, tmp_path: Path) -> None:
    done = hubdpo.push(
        folder=prepared(tmp_path / "3", ROWS[:3]), repo=dataset, version="0.3.0", collection="Printed things"
    )
    assert "v0.3.0" in page_of(hub.server, done.url.removeprefix(hub.endpoint))
    card = page_of(hub.server, f"/datasets/{dataset}/raw/v0.3.0/README.md")
    for address in set(re.findall(rf"{hub.endpoint}(/[^\s)\"'`>]*)", card)):
        assert ask(hub.server, "GET", address).status == 200, address


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_comparisons_fit_any_window(hub: Hub, dataset: str, adapter: str, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for base in (f"/datasets/{dataset}", f"/{adapter}"):
        for tab in ("versions", "compare?before=v0.1.0&after=v0.2.0", "compare?before=v0.1.0&after=main"):
            page.goto(f"{hub.endpoint}{base}/{tab}")
            assert not is_wider_than_its_window(page), (base, tab)


def test_two_versions_are_chosen_and_their_rows_opened(hub: Hub, dataset: str, page: Page) -> None:
    page.goto(f"{hub.endpoint}/datasets/{dataset}/versions")
    page.get_by_label("Before").select_option("v0.2.0")
    page.get_by_label("After").select_option("v0.1.0")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?before=v0.2.0&after=v0.1.0")
    assert page.locator("article.pair").count() == 3
    page.locator("summary", has_text="README.md").locator("..").get_by_role("link", name="Open the file").click()
    page.wait_for_url("**/blob/v0.1.0/README.md")
    assert page.locator("article.card").count() == 1


def test_every_link_of_a_dataset_leads_somewhere(hub: Hub, dataset: str) -> None:
    base = f"/datasets/{dataset}"
    assert broken_links(lambda address: ask(hub.server, "GET", address), base, (base,)) == []
