"""The history of a repo on a Hub: commits of a revision, and what one of them changed."""

from __future__ import annotations

from typing import Any

from hubdpo.view.hub.hosted import Hosted, StoredSnapshot, refs
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.release.changes import changes_between
from hubdpo.view.release.places import revision_of
from hubdpo.view.thing import Thing

PAGE = 50


def commits(asked: Asked, thing: Thing) -> Page:
    assert isinstance(thing, Hosted)
    number = asked.number("p", 0)
    read = thing.get("commits", str(thing.snapshot.commit), p=number, limit=PAGE)
    count = int(read.headers.get("X-Total-Count", len(read.value)))
    return Page(
        "commits.html", f"Commits of {revision_of(thing)}",
        {
            "commits": read.value, "count": count, "revision_of": revision_of(thing), "refs": refs(thing),
            "next": asked.here(p=number + 1) if (number + 1) * PAGE < count else None,
            "previous": asked.here(p=number - 1 or None) if number else None,
        },
    )  # fmt: skip


def commit(asked: Asked, thing: Thing) -> Page:
    assert isinstance(thing, Hosted)
    if len(asked.rest) != 2:
        raise PageError(404, "a commit is named by its id", "open it from the list of commits")
    new = thing.at(asked.rest[1])
    sha = str(new.commit)
    parents = thing.hub.parents(thing.repo, sha)
    old = StoredSnapshot(thing.hub, thing.repo, parents[0]) if parents else None
    facts: dict[str, Any] = thing.get("commits", sha, limit=1).value[0]
    changes = thing.keep_few(f"changes of {sha}", lambda: changes_between(old, new))
    values = {"commit": facts, "parents": parents, "changes": changes, "sha": sha}
    return Page(
        "commit.html", facts["title"], {**values, "link": lambda path: asked.link("blob", sha, *path.split("/"))}
    )
