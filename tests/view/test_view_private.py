"""Private repos: shown to their owner, and to nobody else does anything tell that they exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hubdpo.loopback.server import LoopbackHub
from hubdpo.view.hub.pages import HubPages
from tests.view.hosting import CAROL, DAVE, Served, served

PAGES = [
    "", "/tree/main", "/blob/main/README.md", "/image/main/a.png", "?revision=main", "/nope", "/card", "/versions",
    "/compare?before=main&after=main", "/commits/main", "/commit/main", "/discussions", "/discussions/1", "/viewer",
    "/viewer?row=0", "/dropped", "/numbers", "/download/main/README.md",
]  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for made in served(tmp_path_factory.mktemp("hub") / "hub"):
        made.api.create_repo("carol/secret", private=True)
        made.api.create_repo("carol/secret", private=True, repo_type="dataset")
        made.api.upload_file(
            repo_id="carol/secret",
            path_in_repo="README.md",
            path_or_fileobj=b"---\nlicense: mit\n---\n# Hidden words\n",
        )
        made.api.create_discussion("carol/secret", title="Hidden talk")
        yield made


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("token", ["", DAVE, "hf_wrong"])
@pytest.mark.parametrize("kind", ["", "/datasets"])
def test_a_private_repo_looks_like_a_missing_one(hub: Served, page: str, token: str, kind: str) -> None:
    hidden, missing = (hub.get(f"{kind}/carol/{name}{page}", token) for name in ("secret", "absent"))
    assert (hidden.status, hidden.body) == (missing.status, missing.body)
    assert hidden.status == (404 if token == DAVE else 401)
    for headers in (hidden.headers, missing.headers):
        for changing in ("date", "x-request-id"):
            del headers[changing]
    assert hidden.headers == missing.headers
    assert token == DAVE or hidden.headers["www-authenticate"].startswith("Basic ")


def test_the_owner_sees_it_and_no_cache_keeps_it(hub: Served) -> None:
    answer = hub.get("/carol/secret", CAROL)
    assert answer.status == 200 and b"Hidden words" in answer.body and b">private<" in answer.body
    assert answer.headers["cache-control"] == "no-store" and answer.headers["vary"] == "Authorization"


@pytest.mark.parametrize("path", ["/", "/models", "/datasets", "/?search=secret", "/carol"])
@pytest.mark.parametrize("token", ["", DAVE])
def test_no_list_names_it(hub: Served, path: str, token: str) -> None:
    assert b"carol/secret" not in hub.get(path, token).body
    assert b"carol/secret" in hub.get(path, CAROL).body


def test_a_user_with_private_repos_alone_looks_like_nobody(hub: Served) -> None:
    assert hub.get("/carol", DAVE).status == hub.get("/nobody", DAVE).status == 404
    assert hub.get("/carol", DAVE).body.replace(b"carol", b"") == hub.get("/nobody", DAVE).body.replace(b"nobody", b"")


def test_a_card_does_not_tell_which_names_are_private_repos(hub: Served) -> None:
    card = b"---\nlicense: mit\nbase_model: [carol/secret, carol/absent, carol/shown]\ndatasets: carol/secret\n---\n"
    hub.api.create_repo("carol/shown")
    hub.api.upload_file(repo_id="carol/shown", path_in_repo="README.md", path_or_fileobj=card)
    links = {token: hub.text("/carol/shown", token).count('</span> <a href="/') for token in ("", DAVE, CAROL)}
    assert links == {"": 1, DAVE: 1, CAROL: 2}  # each name is a tag once
    hub.api.delete_repo("carol/shown")


def test_members_of_an_organisation_see_what_others_do_not(tmp_path: Path) -> None:
    tokens = [f"carol:{CAROL}", f"dave:{DAVE}", "eve:hf_eve"]
    with LoopbackHub(tmp_path / "hub", tokens=tokens, orgs=["team:carol,dave"], pages=HubPages()) as server:
        hub = Served(server, HfApi(endpoint=server.endpoint, token=CAROL))
        hub.api.create_repo("team/ours", private=True)
        for path in ("/team", "/team/ours", "/team/ours/tree/main"):
            assert [hub.get(path, token).status for token in (CAROL, DAVE)] == [200, 200], path
        assert hub.get("/team/ours", "hf_eve").status == hub.get("/team", "hf_eve").status == 404
        assert "team/ours" in hub.text("/", DAVE) and "team/ours" not in hub.text("/", "hf_eve")


def test_pages_of_a_revoked_token_end(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=[f"carol:{CAROL}"], pages=HubPages()) as server:
        hub = Served(server, HfApi(endpoint=server.endpoint, token=CAROL))
        hub.api.create_repo("carol/secret", private=True)
        assert hub.get("/carol/secret", CAROL).status == 200
        server._store.accounts.revoke("carol")
        assert hub.get("/carol/secret", CAROL).status == 401
