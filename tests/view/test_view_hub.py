"""The pages of a Hub: every address that push, cards and clients print is a page, and the API stays as it is."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from dulwich.repo import Repo as GitRepo
from huggingface_hub import CommitOperationAdd
from PIL import Image
from safetensors.numpy import save

from hubdpo.loopback.storage.store import Repo, Store
from tests.loopback.ask import ask
from tests.view.hosting import CAROL, DAVE, Served, broken_links, served

CARD = b"---\nlicense: mit\n---\n# The card\n\n[code](src/a.py) ![plot](plots/a.png)\n"


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A Hub with a model of several commits, branches with slashes, a tag, a pull request, and a dataset."""
    for made in served(tmp_path_factory.mktemp("hub") / "hub"):
        api = made.api
        api.create_repo("carol/x")
        weights = save({"w": np.zeros((2, 3), np.float32)})
        files = {"README.md": CARD, "src/a.py": b"x = 1\n", "plots/a.png": png(), "w.safetensors": weights}
        adds = [CommitOperationAdd(name, data) for name, data in files.items()]
        api.create_commit("carol/x", adds, commit_message="Add files")
        api.create_tag("carol/x", tag="v0.1.0", tag_message="a tag")
        api.create_branch("carol/x", branch="feature/ä#b")
        api.upload_file(
            repo_id="carol/x", path_in_repo="README.md", path_or_fileobj=b"---\nlicense: mit\n---\n# Later\n"
        )
        api.create_repo("carol/pairs", repo_type="dataset")
        yield made


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "carol/x"), ("/carol", "carol/pairs"), ("/models", "carol/x"), ("/datasets", "carol/pairs"),
        ("/carol/x", "Later"), ("/carol/x/", "Later"), ("/carol/x?revision=v0.1.0", "The card"),
        ("/carol/x/tree/main", "w.safetensors"), ("/carol/x/tree/v0.1.0", "w.safetensors"),
        ("/carol/x/tree/feature%2F%C3%A4%23b/src", "a.py"), ("/carol/x/blob/feature%2F%C3%A4%23b/src/a.py", "x = 1"),
        ("/carol/x/blob/main/w.safetensors", "2 × 3"), ("/datasets/carol/pairs", "No card"),
        ("/datasets/carol/pairs/tree/main", ".gitattributes"),
    ],
)  # fmt: skip
def test_a_page_shows(hub: Served, path: str, words: str) -> None:
    assert words in hub.text(path)


def test_the_hub_names_lfs_and_the_last_commit_of_a_file(hub: Served) -> None:
    text = hub.text("/carol/x/tree/main")
    assert "LFS" in text and "/carol/x/commit/" in text


def test_a_link_of_a_card_keeps_its_revision(hub: Served) -> None:
    text = hub.text("/carol/x?revision=v0.1.0")
    assert '"/carol/x/blob/v0.1.0/src/a.py"' in text and '"/carol/x/image/v0.1.0/plots/a.png"' in text
    assert '"/carol/x/tree?revision=v0.1.0"' in text
    assert hub.get("/carol/x/image/v0.1.0/plots/a.png").headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "path",
    ["/carol/x/nope", "/carol/x/tree/nope", "/carol/x/blob/main/nope", "/carol/x?revision=nope", "/nobody",
     "/carol/x/tree/main/no", "/carol/nope", "/carol/x/blob/main/src", "/carol/x/commit/nope", "/datasets/nope",
     "/a/b/c/d"],
)  # fmt: skip
def test_a_page_that_is_not_there_is_a_404_for_a_known_visitor(hub: Served, path: str) -> None:
    answer = hub.get(path, DAVE)
    assert answer.status == 404 and answer.headers["content-type"].startswith("text/html")
    assert b"Traceback" not in answer.body and answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/models/carol/x"), ("GET", "/api/models/carol/nope"), ("GET", "/carol/x/resolve/main/README.md"),
        ("HEAD", "/carol/x/resolve/main/w.safetensors"), ("GET", "/carol/x/raw/main/README.md"), ("POST", "/carol/x"),
        ("GET", "/carol/nope/resolve/main/README.md"), ("GET", "/x/resolve/main/a"), ("DELETE", "/carol"), ("PUT", "/"),
        ("GET", "/datasets/carol/pairs/resolve/main/.gitattributes"), ("GET", "/api"), ("GET", "/api/nope"),
        ("GET", "/carol/x.git/info/refs"), ("GET", "/_cdn/x"),
    ],
)  # fmt: skip
def test_the_api_answers_as_without_pages(hub: Served, method: str, path: str) -> None:
    with_pages = ask(hub.server, method, path)
    pages, hub.server._routes._pages = hub.server._routes._pages, None
    try:
        without = ask(hub.server, method, path)
    finally:
        hub.server._routes._pages = pages
    for headers in (with_pages.headers, without.headers):
        for changing in ("date", "x-request-id", "location"):
            headers.pop(changing, None)
    assert with_pages == without and not with_pages.headers.get("content-type", "").startswith("text/html")


def test_every_address_that_a_client_gives_is_a_page(hub: Served) -> None:
    api = hub.api
    url = api.create_repo("carol/y", repo_type="dataset")
    done = api.upload_file(repo_id="carol/y", repo_type="dataset", path_in_repo="a.txt", path_or_fileobj=b"1")
    add = CommitOperationAdd("b.txt", b"2")
    proposed = api.create_commit("carol/y", [add], repo_type="dataset", commit_message="Propose", create_pr=True)
    discussion = api.create_discussion("carol/y", repo_type="dataset", title="A question")
    collection = api.create_collection("Some things")
    addresses = [
        str(url), str(done.repo_url), done.commit_url, str(done), proposed.commit_url, proposed.pr_url, discussion.url,
        collection.url, f"{url}/tree/refs/pr/{proposed.pr_num}", f"{url}/blob/{proposed.oid}/b.txt",
    ]  # fmt: skip
    for address in addresses:
        assert address and hub.text(address.removeprefix(hub.server.endpoint)), address


def test_a_program_gets_the_page_too(hub: Served) -> None:
    assert hub.get("/carol/x", Accept="*/*").headers["content-type"] == "text/html; charset=utf-8"
    assert ask(hub.server, "HEAD", "/carol/x").status == 200


def test_a_page_of_another_host_is_refused(hub: Served) -> None:
    assert hub.get("/carol/x", Host="evil.example").status == 421


def test_the_style_is_there_and_nothing_beside_it(hub: Served) -> None:
    assert hub.get("/-/view.css").status == 200
    assert hub.get("/-/../view.css").status == 404 and hub.get("/-/base.html").status == 404


def test_signing_in_asks_for_the_token_as_a_password(hub: Served) -> None:
    answer = hub.get("/login")
    assert answer.status == 401 and answer.headers["www-authenticate"].startswith("Basic ")
    assert hub.get("/login", CAROL).headers["location"] == "/"
    assert hub.get("/", "hf_wrong").headers["www-authenticate"].startswith("Basic ")
    assert ">carol</a>" in hub.text("/", CAROL)


def test_a_client_that_sends_people_for_a_token_is_answered(hub: Served) -> None:
    answer = hub.get("/settings/tokens")
    assert answer.status == 404 and b"hubdpo serve-hub DIR --token" in answer.body


@pytest.mark.parametrize("token", ["", CAROL])
def test_every_link_of_every_page_leads_somewhere(hub: Served, token: str) -> None:
    assert broken_links(lambda address: hub.get(address, token), "/") == []


@pytest.mark.parametrize("path", ["/carol/gone", "/carol/gone/tree/main", "/carol/gone/commits"])
def test_a_repo_that_is_deleted_while_its_page_is_made_is_missing(
    hub: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    hub.api.create_repo("carol/gone")
    git = Store.git

    def late(store: Store, repo: Repo) -> GitRepo:
        monkeypatch.undo()
        hub.api.delete_repo("carol/gone")
        return git(store, repo)

    monkeypatch.setattr(Store, "git", late)
    assert ask(hub.server, "GET", path).status == 404
