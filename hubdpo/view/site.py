"""The pages of one thing: its tabs, and from an address below its base to the tab that answers it."""

from __future__ import annotations

from typing import Any

from hubdpo.loopback.http.wire import Answer
from hubdpo.view.dataset.dropped import dropped
from hubdpo.view.dataset.numbers import numbers
from hubdpo.view.dataset.viewer import viewer
from hubdpo.view.hub.discussions import discussions
from hubdpo.view.hub.history import commit, commits
from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.page import Asked, Page, PageError, Tab, known_problem
from hubdpo.view.release.card import card
from hubdpo.view.release.comparison import comparison
from hubdpo.view.release.files import blob, download, picture, tree
from hubdpo.view.release.sources import has_versions
from hubdpo.view.release.versions import versions
from hubdpo.view.render import html
from hubdpo.view.run.answers import answers
from hubdpo.view.run.curves import curves
from hubdpo.view.run.options import options
from hubdpo.view.run.pairs import pairs
from hubdpo.view.thing import Thing

CARD = "card"


def is_dataset(thing: Thing) -> bool:
    return thing.kind == "dataset"


def is_run(thing: Thing) -> bool:
    return thing.kind == "run"


def is_hosted(thing: Thing) -> bool:
    return isinstance(thing, Hosted)


TABS = (
    Tab("viewer", "Pairs", viewer, is_dataset),
    Tab("dropped", "Dropped rows", dropped, is_dataset),
    Tab("numbers", "Numbers", numbers, is_dataset),
    Tab("curves", "Curves", curves, is_run),
    Tab("pairs", "Held-out pairs", pairs, is_run),
    Tab("answers", "Answers", answers, is_run),
    Tab("options", "Options and warnings", options, is_run),
    Tab(CARD, "Card", card, lambda thing: thing.has_card or is_hosted(thing)),
    Tab("tree", "Files", tree),
    Tab("blob", "", blob, inside="tree"),
    Tab("versions", "Versions", versions, has_versions),
    Tab("compare", "", comparison, has_versions, "versions"),
    Tab("image", "", picture),
    Tab("download", "", download, lambda thing: not is_hosted(thing)),
    Tab("commits", "Commits", commits, is_hosted),
    Tab("commit", "", commit, is_hosted, "commits"),
    Tab("discussions", "Discussions", discussions, is_hosted),
)
FRAME: dict[str, Any] = {
    "tabs": [], "open_tab": None, "crumbs": [], "revision": None, "account": None, "is_private": False,
}  # fmt: skip
"""What base.html reads, for a page that leaves it out; `account` is "" for a visitor of a Hub without a token."""


def answer(asked: Asked, thing: Thing) -> Answer:
    """Answer the address of a page of a thing; what cannot be shown becomes a page that says why."""
    try:
        tab = _tab(asked, thing)
        page = tab.page(asked, thing)
    except PageError as problem:
        return html(error_page(problem.status, problem.message, problem.hint), shell(asked, thing))
    except Exception as problem:  # files that are gone or damaged, a Hub that does not answer
        known = known_problem(thing.snapshot.ref, problem)
        if known is None:
            raise
        status = 404 if isinstance(problem, FileNotFoundError) else 500
        return html(error_page(status, known.message, known.hint or ""), shell(asked, thing))
    return page if isinstance(page, Answer) else html(page, shell(asked, thing, tab))


def tabs_of(asked: Asked, thing: Thing) -> list[Tab]:
    """Return the tabs that a thing has, the first of which is also its address alone: on a Hub, the card."""
    fitting = [tab for tab in TABS if tab.fits(thing)]
    return sorted(fitting, key=lambda tab: tab.path != CARD) if asked.base else fitting


def _tab(asked: Asked, thing: Thing) -> Tab:
    for tab in tabs_of(asked, thing):
        if not asked.rest or tab.path == asked.rest[0]:
            return tab
    raise PageError(404, "there is no such page", "choose one of the tabs above")


def error_page(status: int, message: str, hint: str = "") -> Page:
    return Page("error.html", "Not shown", {"message": message, "hint": hint}, status)


def shell(asked: Asked, thing: Thing, tab: Tab | None = None) -> dict[str, Any]:
    """Return what base.html reads: where the page is, the tabs of the thing, and the tab that is open."""
    revision = thing.revision if asked.base else None  # a server of one thing has one revision
    tabs = [
        {"label": one.label, "address": asked.link(one.path if place else "", revision=revision), "path": one.path}
        for place, one in enumerate(tabs_of(asked, thing))
        if one.label
    ]
    return {
        **FRAME, **thing.frame(asked), "asked": asked, "thing": thing, "tabs": tabs,
        "open_tab": tab and (tab.inside or tab.path),
    }  # fmt: skip
