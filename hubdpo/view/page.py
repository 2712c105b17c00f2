"""What a page is asked for, and what it gives back: a template with values, or an answer of another kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from hubdpo.errors import ArtefactError, HubdpoError
from hubdpo.hub.failures import as_hub_error
from hubdpo.loopback.http.wire import Answer
from hubdpo.view.thing import Thing


class PageError(Exception):
    """A page that cannot be shown: an HTTP status, one sentence, and the next step."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint


def known_problem(ref: str, problem: Exception) -> HubdpoError | None:
    """Return what to tell the reader of `ref` about an error, or None for a bug, which keeps its traceback."""
    if isinstance(problem, FileNotFoundError):
        name = Path(str(problem.filename)).name
        return ArtefactError(f"`{name}` is not there any more", hint="put it back, or stop and start hubdpo view")
    return problem if isinstance(problem, HubdpoError) else as_hub_error(ref, problem)


@dataclass(frozen=True)
class Asked:
    """The address of a page: `base` belongs to the thing (`/datasets/me/data`, "" for the only one), `rest` follows.

    `rest` are the unquoted segments below the base, of which the first names the tab; `query` holds the first value of
    each parameter that is not empty.
    """

    base: str
    rest: tuple[str, ...] = ()
    query: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, base: str, rest: tuple[str, ...], query: str) -> Asked:
        values: dict[str, str] = {}
        for name, value in parse_qsl(query, errors="replace"):
            values.setdefault(name, value)
        return cls(base, rest, values)

    def link(self, *parts: str, **query: object) -> str:
        """Return the address of a page of the same thing; parameters that are None or "" are left out."""
        path = "/".join([self.base, *(quote(part, safe="", errors="replace") for part in parts if part)]) or "/"
        given = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return f"{path}?{urlencode(given, errors='replace')}" if given else path

    def here(self, **changed: object) -> str:
        """Return the address of this page with some parameters changed, or left out (None)."""
        return self.link(*self.rest, **{**self.query, **changed})

    def text(self, name: str) -> str:
        return self.query.get(name, "")

    def number(self, name: str, default: int) -> int:
        """Return a parameter as a whole number. Raise PageError 400 for anything else."""
        text = self.query.get(name, str(default))
        if not re.fullmatch("[0-9]{1,12}", text):
            raise PageError(400, f"`{name}` must be a whole number", "leave it out of the address")
        return int(text)

    def rows(self, count: int, size: int) -> tuple[int, str | None, str | None]:
        """Return the first of `count` rows on the page of `from`, and the addresses of the pages before and after."""
        start = min(self.number("from", 0), max(count - 1, 0)) // size * size
        before = self.here(**{"from": start - size or None}) if start else None
        return start, before, self.here(**{"from": start + size}) if start + size < count else None

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Return a parameter that is one of the choices, "" if it is missing. Raise PageError 400 for another."""
        text = self.query.get(name, "")
        if text and text not in choices:
            raise PageError(400, f"`{name}` must be one of: {', '.join(choices)}", "leave it out of the address")
        return text


@dataclass(frozen=True)
class Page:
    """A page: the name of its template, its title, and what the template reads."""

    template: str
    title: str
    values: dict[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True)
class Tab:
    """A tab of a thing: `path` is the first segment of its addresses, `""` in `label` keeps it out of the row of tabs.

    `page` gets the address and the thing; `fits` says whether a thing has the tab.
    """

    path: str
    label: str
    page: Callable[[Asked, Thing], Page | Answer]
    fits: Callable[[Thing], bool] = lambda thing: True
    inside: str = ""
    """The path of the tab that is marked as open, for a page that has no label."""
