"""The versions of a repo, newest first, with what changed in each."""

from __future__ import annotations

from hubdpo.hub.versions import newest_first
from hubdpo.release.changelog import rows_in_card
from hubdpo.release.list import listed
from hubdpo.release.remote import Refs
from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.page import Asked, Page
from hubdpo.view.release.sources import Source, names_of
from hubdpo.view.thing import Thing

PAGE = 30
"""Versions on a page: for each of them, its commit is read."""


def versions(asked: Asked, thing: Thing) -> Page:
    source = Source(thing)
    refs = source.refs()
    tags = newest_first(refs.tags)
    start = asked.number("p", 0) * PAGE
    shown = tags[start : start + PAGE]
    told = rows_in_card(source.at(refs.tags[tags[0]], tags[0])) if tags else {}
    main = source.at(refs.main, "main").bundle if refs.main else None
    newest = f"v{main.version}" if main else None
    rows = []
    for place, tag in enumerate(shown, start):
        commit = refs.tags[tag]
        release = listed(source.at(commit, tag), tag, source.day(commit), on_main=tag == newest)
        before = tags[place + 1] if place + 1 < len(tags) else None
        change = told[tag].change if tag in told else ""
        compared = asked.link("compare", before=before, after=tag) if before else None
        rows.append({"release": release, "change": change, "compare": compared})
    return Page(
        "versions.html", "Versions",
        {
            "rows": rows, "names": names_of(refs), **_first_choice(refs, tags),
            "has_pages": isinstance(thing, Hosted), "count": len(tags),
            "next": asked.here(p=asked.number("p", 0) + 1) if start + PAGE < len(tags) else None,
        },
    )  # fmt: skip


def _first_choice(refs: Refs, tags: list[str]) -> dict[str, str]:
    """Return the newest version and what to compare it with, "" where nothing differs from it."""
    commits = refs.branches | refs.tags
    after, *others = dict.fromkeys([*tags, *names_of(refs), ""])
    before = next((name for name in others if name and commits[name] != commits[after]), "")
    return {"before": before, "after": after}
