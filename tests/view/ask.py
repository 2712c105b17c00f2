"""Ask for pages without a server, and serve things to a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hubdpo.loopback.http.wire import Answer, Request
from hubdpo.view import site
from hubdpo.view.page import Asked
from hubdpo.view.server import ViewServer
from hubdpo.view.thing import Thing


def ask(thing: Thing, address: str = "/", base: str = "") -> Answer:
    """Return the answer to an address below the base."""
    path, _, query = address.partition("?")
    rest = Request("GET", path, query, {}, body=None).segments  # type: ignore[arg-type]  # pages read no body
    return site.answer(Asked.parse(base, tuple(part for part in rest if part), query), thing)


def page(thing: Thing, address: str = "/") -> str:
    answer = ask(thing, address)
    assert answer.status == 200, answer.content
    return answer.content.decode()


def words(html: str) -> str:
    """Return the text of a page, without its tags, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


@contextmanager
def served(thing: Thing) -> Iterator[str]:
    """Serve a thing; yield the address of its first page, without the slash at the end."""
    server = ViewServer(thing)
    server.start()
    try:
        yield server.address.rstrip("/")
    finally:
        server.close()
