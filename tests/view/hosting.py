"""A Hub with pages and two users, for the tests of its pages."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

from huggingface_hub import HfApi

from hubdpo.loopback.server import LoopbackHub
from hubdpo.view.hub.pages import HubPages
from tests.loopback.ask import Answered, ask

CAROL, DAVE = "hf_carol", "hf_dave"


class Served(NamedTuple):
    server: LoopbackHub
    api: HfApi
    """The client of carol."""

    def get(self, path: str, token: str = "", **headers: str) -> Answered:
        """Return a page as a browser asks for it, with the token as the password."""
        if token:
            headers["Authorization"] = "Basic " + base64.b64encode(f"me:{token}".encode()).decode()
        return ask(self.server, "GET", path, **headers)

    def text(self, path: str, token: str = "") -> str:
        answer = self.get(path, token)
        assert answer.status == 200, answer
        return answer.body.decode()


def served(folder: Path) -> Iterator[Served]:
    tokens = [f"carol:{CAROL}", f"dave:{DAVE}"]
    with LoopbackHub(folder, tokens=tokens, pages=HubPages()) as server:
        yield Served(server, HfApi(endpoint=server.endpoint, token=CAROL))


def broken_links(get: Callable[[str], Answered], first: str, within: tuple[str, ...] = ("/",)) -> list[tuple[int, str]]:
    """Follow every link and picture from a page on, below some addresses; return those that answer with an error."""
    seen: set[str] = set()
    left, broken = [first], []
    while left:
        address = left.pop()
        if address in seen or not address.startswith(within) or address == "/login":
            continue
        seen.add(address)
        answer = get(address)
        if answer.status >= 400:
            broken.append((answer.status, address))
        if answer.headers.get("content-type", "").startswith("text/html"):
            for link in re.findall(r'(?:href|src)="([^"#][^"]*)"', answer.body.decode()):
                left.append(urljoin(address, html.unescape(link)).partition("#")[0])
    return broken
