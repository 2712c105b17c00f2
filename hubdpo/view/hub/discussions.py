"""Discussions and pull requests of a repo on a Hub."""

from __future__ import annotations

from typing import Any

from hubdpo.loopback.http.wire import shortened
from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.release.changes import lines_of_diff
from hubdpo.view.release.places import formatted
from hubdpo.view.thing import Thing

MOST_FORMATTED, MOST_PLAIN, SHORT = 50_000, 1_000_000, 1_000
"""Characters of the comments on a page that are formatted, then of those shown as they are; then, of each comment."""
STATES, TYPES = ("open", "closed"), ("pull_request", "discussion")


def discussions(asked: Asked, thing: Thing) -> Page:
    """Return the list, or the discussion whose number follows."""
    assert isinstance(thing, Hosted)
    match asked.rest[1:]:
        case ():
            return _listed(asked, thing)
        case (number,) if number.isascii() and number.isdigit():
            return _one(asked, thing, number)
    raise PageError(404, "there is no such discussion", "open it from the list of discussions")


def _listed(asked: Asked, thing: Hosted) -> Page:
    page = asked.number("p", 0)
    chosen = {"status": asked.choice("status", STATES), "type": asked.choice("type", TYPES)}
    read = thing.get("discussions", p=page, author=asked.text("author"), **chosen).value
    end = read["start"] + len(read["discussions"])
    return Page(
        "discussions.html", "Discussions",
        {
            "discussions": read["discussions"], "count": read["count"], "states": STATES, "types": TYPES,
            "next": asked.here(p=page + 1) if end < read["count"] and read["discussions"] else None,
            "previous": asked.here(p=page - 1 or None) if page else None,
        },
    )  # fmt: skip


def _one(asked: Asked, thing: Hosted, number: str) -> Page:
    read = thing.get("discussions", number, diff="1").value
    events = _with_texts(asked, thing, read["events"])
    values: dict[str, Any] = {
        "discussion": read, "events": events, "diff": lines_of_diff(read.get("diff") or ""), "ref": f"refs/pr/{number}",
        "conflicts": read.get("filesWithConflicts") or [], "merge": (read.get("changes") or {}).get("mergeCommitId"),
    }  # fmt: skip
    return Page("discussion.html", read["title"], values)


def _with_texts(asked: Asked, thing: Hosted, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events with `html` of a comment, or its `plain` text after MOST_FORMATTED; neither if it is hidden."""
    left, found = MOST_FORMATTED, []
    for event in events:
        data = event.get("data") or {}
        if event["type"] != "comment" or data.get("hidden"):
            found.append({**event, "html": None, "plain": None})
            continue
        text = str((data.get("latest") or {}).get("raw") or "")
        left -= len(text)
        if left < 0:
            plain = shortened(text, SHORT) if left < -MOST_PLAIN else text
            found.append({**event, "html": None, "plain": plain, "is_cut": plain != text})
        else:
            found.append({**event, "html": formatted(asked, thing, text).html, "plain": None})
    return found
