"""Lists of what a visitor may read: repos of all kinds or of an owner, and collections."""

from __future__ import annotations

from typing import Any, NamedTuple

from hubdpo.loopback.http.wire import User
from hubdpo.loopback.reading import Reading
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.release.files import next_cursor

PAGE, FIRST = 50, 20
"""Repos on a page of one kind, and on a page of all kinds."""
KINDS = {"models": "Models", "datasets": "Datasets", "spaces": "Spaces"}
SORTS = {"": "name", "lastModified": "last change", "createdAt": "age"}


class Section(NamedTuple):
    """Repos of a kind, and the address of those that follow."""

    label: str
    repos: list[dict[str, Any]]
    more: str | None


def front(asked: Asked, hub: Reading, user: User | None) -> Page:
    """Return the repos of all kinds, the first of each, and collections."""
    sections = [_section(asked, hub, user, kinds, FIRST) for kinds in KINDS]
    collected = [] if asked.text("search") else hub.get(user, "collections").value
    return _page(asked, "Hub", sections, collected)


def of_kind(asked: Asked, hub: Reading, user: User | None) -> Page:
    return _page(asked, KINDS[asked.rest[0]], [_section(asked, hub, user, asked.rest[0], PAGE)], [])


def owner(asked: Asked, hub: Reading, user: User | None, name: str) -> Page:
    sections = [_section(asked, hub, user, kinds, FIRST, name) for kinds in KINDS]
    collected = hub.get(user, "collections", owner=name).value
    is_known = any(section.repos for section in sections) or collected or asked.text("search")
    if not is_known and not (user and name in (user.name, *user.orgs)):
        raise PageError(404, f"there is nothing of `{name}` that you may read")
    return _page(asked, name, sections, collected)


def collections(asked: Asked, hub: Reading, user: User | None) -> Page:
    match asked.rest[1:]:
        case ():
            listed = hub.get(user, "collections", owner=asked.text("owner")).value
            return Page("collections.html", "Collections", {"collections": listed})
        case (owner, slug):
            found = hub.get(user, "collections", owner, slug).value
            items = [{**item, "address": _address(f"{item['type']}s", item["id"])} for item in found["items"]]
            return Page("collection.html", found["title"], {"collection": found, "items": items})
    raise PageError(404, "there is no such collection", "open it from the list of collections")


def _page(asked: Asked, title: str, sections: list[Section], collected: list[dict[str, Any]]) -> Page:
    values = {"sections": [one for one in sections if one.repos], "collections": collected, "sorts": SORTS}
    return Page("hub.html", title, {**values, "asked": asked})


def _section(
    asked: Asked, hub: Reading, user: User | None, kinds: str, most: int, author: str | None = None
) -> Section:
    author = author or asked.text("author")
    query = {"search": asked.text("search"), "sort": asked.choice("sort", tuple(SORTS)), "author": author}
    is_all = asked.rest == (kinds,)
    read = hub.get(user, kinds, **query, limit=most, cursor=asked.text("cursor") if is_all else None)
    repos = [{**repo, "address": _address(kinds, repo["id"])} for repo in read.value]
    cursor = next_cursor(read.headers)
    more = Asked("").link(kinds, **query, cursor=cursor) if cursor else None
    return Section(KINDS[kinds], repos, more)


def _address(kinds: str, repo_id: str) -> str:
    return f"/{repo_id}" if kinds == "models" else f"/{kinds}/{repo_id}"
