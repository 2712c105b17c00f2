"""Lists of what a visitor may read: repos of all kinds or of an owner."""

from __future__ import annotations

from typing import Any

from hubdpo.loopback.http.wire import User
from hubdpo.loopback.reading import Reading
from hubdpo.view.page import Asked, Page, PageError

PAGE = 50
KINDS = {"models": "Models", "datasets": "Datasets", "spaces": "Spaces"}


def repos(asked: Asked, hub: Reading, user: User | None) -> Page:
    kinds = asked.rest[0] if asked.rest else None
    found = {kind: _listed(asked, hub, user, kind) for kind in KINDS if kinds in (None, kind)}
    return Page("hub_repos.html", KINDS.get(kinds or "", "Hub"), {"found": found, "names": KINDS, "asked": asked})


def owner(asked: Asked, hub: Reading, user: User | None, name: str) -> Page:
    found = {kind: _listed(asked, hub, user, kind, author=name) for kind in KINDS}
    if not any(found.values()) and (user is None or user.name != name):
        raise PageError(404, f"there is nothing of `{name}` that you may read")
    return Page("hub_repos.html", name, {"found": found, "names": KINDS, "asked": asked})


def _listed(asked: Asked, hub: Reading, user: User | None, kinds: str, **query: object) -> list[dict[str, Any]]:
    listed = hub.get(user, kinds, search=asked.text("search"), **query).value
    prefix = "" if kinds == "models" else f"/{kinds}"
    return [{"name": one["id"], "address": f"{prefix}/{one['id']}", **one} for one in listed]
