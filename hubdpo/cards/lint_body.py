"""Whether the text of a card is safe to show and leads somewhere: links, pictures, HTML, paths, credentials."""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from collections.abc import Collection, Iterator
from html.parser import HTMLParser
from typing import Any

from hubdpo.cards.finding import Finding
from hubdpo.cards.hub_fields import is_arxiv
from hubdpo.secrets import find_secrets

LOCAL_PATH = re.compile(r"(?<![\w/.:])(?:/(?:home|root|Users|tmp|mnt|work|workspace|content)/|[A-Z]:\\)[\w.~-]+")
PLACEHOLDER = re.compile(r"\[?More Information Needed\]?")
ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/([^\s)#?>\"']+)", re.IGNORECASE)
HARMLESS_TAG = re.compile(
    "a|b|br|blockquote|center|code|dd|del|details|div|dl|dt|em|h[1-6]|hr|i|img|kbd|li|ol|p|pre|s|small|span|strong|sub|"
    "summary|sup|table|tbody|td|th|thead|tr|u|ul"
)
HARMLESS_ATTRIBUTE = re.compile("align|alt|class|colspan|height|href|id|open|rowspan|src|title|width")
QUOTES = "text"
"""Language of the fences in which rows and answers stand; what they quote is not the card's own word."""


def lint_body(front: str, body: str, files: Collection[str]) -> Iterator[Finding]:
    """Give what is wrong with a body, with the front matter looked through for paths and credentials as well."""
    from markdown_it import MarkdownIt

    if secrets := find_secrets(f"{front}\n{body}"):
        yield Finding("body", f"holds a {secrets[0].kind}", "take it out of the card, and revoke it")
    if path := LOCAL_PATH.search(front):
        yield Finding("front matter", f"holds a path of this machine: {path[0]}", "name a repo of the Hub instead")
    reader = MarkdownIt("commonmark").enable("table")
    reader.validateLink = lambda url: True  # type: ignore[method-assign]  # else it hides the links to refuse
    tokens = list(_flat(reader.parse(body)))
    for token in tokens:
        if token.type in ("text", "code_inline", "fence", "code_block") and token.info.strip() != QUOTES:
            if path := LOCAL_PATH.search(token.content):
                yield Finding("body", f"holds a path of this machine: {path[0]}", "take the path out")
            elif token.type == "text" and (empty := PLACEHOLDER.search(token.content)):
                yield Finding("body", f"holds a placeholder: {empty[0]}", "write it, or leave the line out")
    for kind, target in _targets(tokens):
        if problem := _dead_end(target, files):
            yield Finding(kind, f"{problem}: {target}", "name a file beside the card, or an https address")
        elif (paper := ARXIV.search(target)) and not is_arxiv(paper[1].removesuffix(".pdf")):
            yield Finding(kind, f"leads to no paper of arXiv: {target}", "https://arxiv.org/abs/2305.18290")
    yield from _html(tokens, files)


def _flat(tokens: Any) -> Iterator[Any]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def _targets(tokens: list[Any]) -> Iterator[tuple[str, str]]:
    for token in tokens:
        if token.type == "link_open":
            yield "link", str(token.attrs.get("href", ""))
        elif token.type == "image":
            yield "image", str(token.attrs.get("src", ""))


def _dead_end(target: str, files: Collection[str]) -> str | None:
    """Say why an address leads nowhere, or where it should not; None when it is good."""
    parts = urllib.parse.urlsplit(target)
    if parts.scheme in ("https", "http", "mailto") or target.startswith("#"):
        return None
    if parts.scheme or parts.netloc:
        return "leads where no reader should follow"
    if target.startswith("/"):
        return "begins at the root of the site"
    path = posixpath.normpath(urllib.parse.unquote(parts.path))
    if path not in files and not any(name.startswith(f"{path}/") for name in files):
        return "names a file that is not in the release"
    return None


class _Tags(HTMLParser):
    """Collects the tags of a piece of HTML, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def _html(tokens: list[Any], files: Collection[str]) -> Iterator[Finding]:
    for token in tokens:
        if token.type not in ("html_block", "html_inline"):
            continue
        parser = _Tags()
        parser.feed(token.content)
        parser.close()
        for tag, attributes in parser.found:
            if not HARMLESS_TAG.fullmatch(tag):
                yield Finding("html", f"has a tag that the Hub strips or that can do harm: <{tag}>", "use Markdown")
            for name, value in attributes.items():
                if not HARMLESS_ATTRIBUTE.fullmatch(name):
                    yield Finding("html", f"has an attribute that can do harm: {name}", "leave it out")
                elif name in ("href", "src") and (problem := _dead_end(value or "", files)):
                    yield Finding("html", f"{problem}: {value}", "name a file beside the card, or an https address")
