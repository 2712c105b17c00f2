"""Whether the text of a card is safe to show and leads somewhere: links, pictures, HTML, paths, credentials."""

from __future__ import annotations

import html
import posixpath
import re
import urllib.parse
from collections.abc import Collection, Iterator
from typing import Any

from hubdpo.cards.lint.finding import Finding
from hubdpo.cards.lint.hub_fields import is_arxiv
from hubdpo.secrets import find_secrets

LOCAL_PATH = re.compile(r"(?<![\w/.:])(?:/(?:home|root|Users|tmp|mnt|work|workspace|content)/|[A-Z]:\\)[\w.~-]+")
PLACEHOLDER = re.compile(r"\[?More Information Needed\]?")
ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/([^\s)#?>\"']+)", re.IGNORECASE)
HARMLESS_TAG = re.compile(
    "a|b|br|blockquote|center|code|dd|del|details|div|dl|dt|em|h[1-6]|hr|i|img|kbd|li|ol|p|pre|s|small|span|strong|sub|"
    "summary|sup|table|tbody|td|th|thead|tr|u|ul"
)
HARMLESS_ATTRIBUTE = re.compile("align|alt|class|colspan|height|href|id|open|rowspan|src|title|width")
MOST_CHARACTERS = 100_000
"""Of a body that are looked at: Markdown can be written so that reading it takes the square of its length."""
TAG = re.compile(r"""<([A-Za-z][^\s/>]*+)((?:[^>"']|"[^"]*+"|'[^']*+')*+)""")
ATTRIBUTE = re.compile(r"""([^\s/>="'][^\s/>=]*+)(?:\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s>"']*+))?""")
COMMENT_END = re.compile("--!?>")
QUOTES = "text"
"""Language of the fences in which rows and answers stand; what they quote is not the card's own word."""


def lint_body(front: str, body: str, files: Collection[str]) -> Iterator[Finding]:
    """Give what is wrong with a body, with the front matter looked through for paths and credentials as well."""
    from markdown_it import MarkdownIt

    if len(body) > MOST_CHARACTERS:
        yield Finding("body", f"has {len(body):,} characters; {MOST_CHARACTERS:,} of them were looked at", "part it")
        body = body[:MOST_CHARACTERS]
    if secrets := find_secrets(f"{front}\n{body}"):
        yield Finding("body", f"holds a {secrets[0].kind}", "take it out of the card, and revoke it")
    if path := LOCAL_PATH.search(front):
        yield Finding("front matter", f"holds a path of this machine: {path[0]}", "name a repo of the Hub instead")
    reader = MarkdownIt("commonmark").enable("table")
    reader.validateLink = lambda url: True  # type: ignore[method-assign]  # else it hides the links to refuse
    tokens = list(_flat(reader.parse(body)))
    for token in tokens:
        own = token.type in ("text", "code_inline", "fence", "code_block") and token.info.strip() != QUOTES
        if own and (path := LOCAL_PATH.search(token.content)):
            yield Finding("body", f"holds a path of this machine: {path[0]}", "take the path out")
    if empty := [found for token in tokens if token.type == "text" and (found := PLACEHOLDER.search(token.content))]:
        times = f", {len(empty)} times" if len(empty) > 1 else ""  # most of PEFT's own card, and one thing to do
        yield Finding("body", f"holds a placeholder: {empty[0][0]}{times}", "write it, or leave the line out")
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


def _tags(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Give the tags that begin in a piece of HTML, with their attributes, in time that grows with its length alone.

    `html.parser` looks for the end of every comment and every tag anew: 800 kB of `<!--` take it minutes. What is in a
    comment that never ends is looked at too.
    """
    for tag, attributes in TAG.findall(_without_comments(text)):
        pairs = ATTRIBUTE.findall(attributes)
        yield tag.lower(), [(name.lower(), html.unescape(value.strip("\"'"))) for name, value in pairs]


def _without_comments(text: str) -> str:
    parts, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := COMMENT_END.search(text, start + 2)):
        parts.append(text[at:start])
        at = end.end()
    return " ".join([*parts, text[at:]])


def _html(tokens: list[Any], files: Collection[str]) -> Iterator[Finding]:
    for token in tokens:
        if token.type not in ("html_block", "html_inline"):
            continue
        for tag, attributes in _tags(token.content):
            if not HARMLESS_TAG.fullmatch(tag):
                yield Finding("html", f"has a tag that the Hub strips or that can do harm: <{tag}>", "use Markdown")
            for name, value in attributes:
                if not HARMLESS_ATTRIBUTE.fullmatch(name):
                    yield Finding("html", f"has an attribute that can do harm: {name}", "leave it out")
                elif name in ("href", "src") and (problem := _dead_end(value, files)):
                    yield Finding("html", f"{problem}: {value}", "name a file beside the card, or an https address")
