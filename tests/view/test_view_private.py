"""Private repos: shown to their owner, and to nobody else does anything tell that they exist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.view.hosting import CAROL, DAVE, Served, served

PAGES = ["", "/tree/main", "/blob/main/README.md", "/image/main/a.png", "?revision=main", "/nope"]


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
