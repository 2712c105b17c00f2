"""Collections change: titles and with them slugs, places, themes, items that are collections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from huggingface_hub import Collection, HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.loopback.ask import ask

if TYPE_CHECKING:
    from tests.conftest import Hub


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(hub.endpoint, token=hub.token)


@pytest.fixture
def made(api: HfApi, repo_id: str) -> Iterator[Collection]:
    collection = api.create_collection(f"Of {repo_id}"[:50])
    yield collection
    api.delete_collection(collection.slug)


@pytest.fixture
def repos(api: HfApi, repo_id: str) -> list[str]:
    return [api.create_repo(f"{repo_id}-{number}").repo_id for number in range(3)]


def items(api: HfApi, slug: str) -> list[str]:
    return [item.item_id for item in api.get_collection(slug).items]


def test_a_new_title_makes_a_new_slug_and_the_old_one_still_works(api: HfApi, made: Collection) -> None:
    changed = api.update_collection_metadata(made.slug, title="Other Things", description="All", theme="pink")
    assert (changed.title, changed.description, changed.theme) == ("Other Things", "All", "pink")
    assert changed.slug.startswith("alice/other-things-")
    assert api.get_collection(made.slug).slug == api.get_collection(changed.slug).slug == changed.slug


def test_a_title_that_was_given_up_names_another_collection(api: HfApi, made: Collection) -> None:
    api.update_collection_metadata(made.slug, title="Another")
    again = api.create_collection(made.title)
    try:
        assert api.get_collection(again.slug).title == made.title
        assert api.get_collection(made.slug).title == "Another"
    finally:
        api.delete_collection(again.slug)


def test_a_private_collection_can_be_opened(api: HfApi, hub: Hub, made: Collection) -> None:
    bob = HfApi(hub.endpoint, token=hub.other_token)
    api.update_collection_metadata(made.slug, private=True)
    with pytest.raises(HfHubHTTPError):
        bob.get_collection(made.slug)
    with pytest.raises(HfHubHTTPError):
        bob.update_collection_metadata(made.slug, private=False)
    api.update_collection_metadata(made.slug, private=False)
    assert bob.get_collection(made.slug).title == made.title


@pytest.mark.parametrize("token", ["other_token", "read_token"])
def test_nobody_else_changes_it(hub: Hub, made: Collection, token: str) -> None:
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi(hub.endpoint, token=getattr(hub, token)).update_collection_metadata(made.slug, title="Mine")
    assert problem.value.response.status_code == 403


def test_an_unknown_theme_or_an_empty_title_is_refused(hub: Hub, made: Collection) -> None:
    for change in ({"theme": "black"}, {"title": " "}, {"title": "x" * 61}, {"position": -1}, {"private": "yes"}):
        answer = ask(hub.server, "PATCH", f"/api/collections/{made.slug}", change, token=hub.token)
        assert answer.status == 400, change


def test_a_collection_moves_in_the_list_of_its_owner(api: HfApi, hub: Hub, made: Collection) -> None:
    last = api.create_collection(f"Last {made.title}"[:50])
    try:
        api.update_collection_metadata(last.slug, position=0)
        assert next(iter(api.list_collections(owner=hub.user))).slug == last.slug
        assert api.get_collection(last.slug).position == 0
    finally:
        api.delete_collection(last.slug)


def test_items_move_and_their_notes_change(api: HfApi, made: Collection, repos: list[str]) -> None:
    for repo in repos:
        api.add_collection_item(made.slug, repo, "model")
    first = api.get_collection(made.slug).items[0]
    api.update_collection_item(made.slug, first.item_object_id, note="now second", position=1)
    found = api.get_collection(made.slug).items
    assert [item.item_id for item in found] == [repos[1], repos[0], repos[2]]
    assert [item.position for item in found] == [0, 1, 2]
    assert found[1].note == "now second"
    api.delete_collection_item(made.slug, found[0].item_object_id)
    assert [item.position for item in api.get_collection(made.slug).items] == [0, 1]


def test_a_collection_in_a_collection_follows_its_title(api: HfApi, made: Collection) -> None:
    inner = api.create_collection(f"In {made.title}"[:50])
    api.add_collection_item(made.slug, inner.slug, "collection")
    with pytest.raises(HfHubHTTPError, match="already"):
        api.add_collection_item(made.slug, inner.slug, "collection")
    renamed = api.update_collection_metadata(inner.slug, title="Renamed")
    assert items(api, made.slug) == [renamed.slug]
    api.delete_collection(inner.slug)
    assert items(api, made.slug) == []


def test_a_private_collection_in_another_is_not_shown(api: HfApi, hub: Hub, made: Collection) -> None:
    inner = api.create_collection(f"In {made.title}"[:50], private=True)
    try:
        api.add_collection_item(made.slug, inner.slug, "collection")
        assert items(api, made.slug) == [inner.slug]
        assert items(HfApi(hub.endpoint, token=hub.other_token), made.slug) == []
    finally:
        api.delete_collection(inner.slug)


def test_a_collection_is_not_in_itself(api: HfApi, made: Collection) -> None:
    with pytest.raises(HfHubHTTPError, match="cannot be in itself"):
        api.add_collection_item(made.slug, made.slug, "collection")


def test_papers_are_refused_by_name(api: HfApi, made: Collection) -> None:
    with pytest.raises(HfHubHTTPError, match="this Hub has no papers") as problem:
        api.add_collection_item(made.slug, "2305.18290", "paper")
    assert problem.value.response.status_code == 501


def test_collections_are_found_by_item_and_words(api: HfApi, hub: Hub, made: Collection, repos: list[str]) -> None:
    api.add_collection_item(made.slug, repos[0], "model")
    assert [one.slug for one in api.list_collections(item=f"models/{repos[0]}")] == [made.slug]
    found = json.loads(ask(hub.server, "GET", f"/api/collections?q={quote(made.title.upper())}").body)
    assert [one["slug"] for one in found] == [made.slug]
    assert len(list(api.list_collections(limit=1))) == 1
