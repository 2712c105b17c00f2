"""The pages of one thing: from an address below its base to the tab that answers it."""

from __future__ import annotations

from typing import Any

from hubdpo.errors import HubdpoError
from hubdpo.loopback.http.wire import Answer
from hubdpo.view.dataset.tabs import TABS as DATASET
from hubdpo.view.page import Asked, Page, PageError, Tab
from hubdpo.view.render import html
from hubdpo.view.thing import Thing

TABS: tuple[Tab, ...] = (*DATASET,)


def answer(asked: Asked, thing: Thing) -> Answer:
    """Answer the address of a page of a thing; what cannot be shown becomes a page that says why."""
    try:
        tab = _tab(asked, thing)
        page = tab.page(asked, thing)
    except PageError as problem:
        return html(error_page(problem.status, problem.message, problem.hint), shell(asked, thing))
    except HubdpoError as problem:  # files that are damaged, a Hub that does not answer
        return html(error_page(500, problem.message, problem.hint or ""), shell(asked, thing))
    return page if isinstance(page, Answer) else html(page, shell(asked, thing, tab))


def _tab(asked: Asked, thing: Thing) -> Tab:
    fitting = [tab for tab in TABS if tab.fits(thing)]
    for tab in fitting:
        if not asked.rest or tab.path == asked.rest[0]:
            return tab
    raise PageError(404, "there is no such page", "choose one of the tabs above")


def error_page(status: int, message: str, hint: str = "") -> Page:
    return Page("error.html", "Not shown", {"message": message, "hint": hint}, status)


def shell(asked: Asked, thing: Thing, tab: Tab | None = None) -> dict[str, Any]:
    """Return what base.html reads: the name of the thing, its tabs, and the tab that is open."""
    tabs = [
        {"label": tab.label, "address": asked.link(tab.path, revision=asked.text("revision")), "path": tab.path}
        for tab in TABS
        if tab.label and tab.fits(thing)
    ]
    return {"asked": asked, "thing": thing, "tabs": tabs, "open_tab": tab.path if tab else None}
