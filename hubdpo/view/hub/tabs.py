"""The tabs of a repo on a Hub that a folder does not have."""

from __future__ import annotations

from hubdpo.view.hub.discussions import discussions
from hubdpo.view.hub.history import commit, commits
from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.page import Tab
from hubdpo.view.thing import Thing


def is_hosted(thing: Thing) -> bool:
    return isinstance(thing, Hosted)


TABS: tuple[Tab, ...] = (
    Tab("commits", "Commits", commits, is_hosted),
    Tab("commit", "", commit, is_hosted, "commits"),
    Tab("discussions", "Discussions", discussions, is_hosted),
)
