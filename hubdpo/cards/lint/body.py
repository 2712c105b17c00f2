"""Check the body of a card: broken or unsafe links, images and HTML, local paths, credentials, placeholders."""

from __future__ import annotations

import html
import posixpath
import re
import urllib.parse
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from hubdpo.cards.lint.fields import is_arxiv
from hubdpo.cards.lint.finding import Finding
from hubdpo.secrets import find_secrets

if TYPE_CHECKING:
    from markdown_it.token import Token

LOCAL_PATH = re.compile(r"(?<![\w/.:])(?:/(?:home|root|Users|tmp|mnt|work|workspace|content)/|[A-Z]:\\)[\w.~-]+")
PLACEHOLDER = re.compile(r"\[?More Information Needed\]?")
ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/([^\s)#?>\"']+)", re.IGNORECASE)
HARMLESS_TAG = re.compile(
    "a|b|br|blockquote|center|code|dd|del|details|div|dl|dt|em|h[1-6]|hr|i|img|kbd|li|ol|p|pre|s|small|span|strong|sub|"
    "summary|sup|table|tbody|td|th|thead|tr|u|ul"
)
HARMLESS_ATTRIBUTE = re.compile("align|alt|class|colspan|height|href|id|open|rowspan|src|title|width")
MOST_CHARACTERS = 100_000
"""Characters of a body that are checked: parsing hostile Markdown takes quadratic time."""
TAG = re.compile(r"""<([A-Za-z][^\s/>]*+)((?:[^>"']|"[^"]*+"|'[^']*+')*+)""")
ATTRIBUTE = re.compile(r"""([^\s/>="'][^\s/>=]*+)(?:\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s>"']*+))?""")
COMMENT_END = re.compile("--!?>")
TARGETS = {"link_open": ("link", "href"), "image": ("image", "src")}
QUOTES = "text"
"""Language of the fences around samples, whose text is not checked for local paths."""


def lint_body(front: str, body: str, files: Collection[str]) -> Iterator[Finding]:
    """Yield the problems of a body, and paths and credentials in the front matter."""
    from markdown_it import MarkdownIt

    if len(body) > MOST_CHARACTERS:
        yield Finding("body", f"has {len(body):,} characters, of which {MOST_CHARACTERS:,} were checked", "shorten it")
        body = body[:MOST_CHARACTERS]
    if secrets := find_secrets(f"{front}\n{body}"):
        yield Finding("body", f"contains a {secrets[0].kind}", "remove it from the card, and revoke it")
    if path := LOCAL_PATH.search(front):
        yield Finding("front matter", f"contains a local path: {path[0]}", "name a repo on the Hub instead")
    reader = MarkdownIt("commonmark").enable("table")
    reader.validateLink = lambda url: True  # type: ignore[method-assign]  # the default removes the links that must be refused
    tokens = list(_flat(reader.parse(body)))
    for token in tokens:
        own = token.type in ("text", "code_inline", "fence", "code_block") and token.info.strip() != QUOTES
        if own and (path := LOCAL_PATH.search(token.content)):
            yield Finding("body", f"contains a local path: {path[0]}", "remove the path")
    if empty := [match for token in tokens if token.type == "text" and (match := PLACEHOLDER.search(token.content))]:
        times = f", {len(empty)} times" if len(empty) > 1 else ""  # a single finding for PEFT's card template
        yield Finding("body", f"contains a placeholder: {empty[0][0]}{times}", "replace it, or remove the line")
    for token in tokens:
        if token.type not in TARGETS:
            continue
        kind, attribute = TARGETS[token.type]
        target = str(token.attrs.get(attribute, ""))
        if problem := _dead_end(target, files):
            yield Finding(kind, f"{problem}: {target}", "link to a file of the repo, or an https URL")
        elif (paper := ARXIV.search(target)) and not is_arxiv(paper[1].removesuffix(".pdf")):
            yield Finding(kind, f"is not a valid arXiv link: {target}", "https://arxiv.org/abs/2305.18290")
    yield from _html(tokens, files)


def _flat(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def _dead_end(target: str, files: Collection[str]) -> str | None:
    """Return what is wrong with the target of a link, None for a good one."""
    parts = urllib.parse.urlsplit(target)
    if parts.scheme in ("https", "http", "mailto") or target.startswith("#"):
        return None
    if parts.scheme or parts.netloc:
        return "has an unsafe scheme"
    if target.startswith("/"):
        return "starts at the root of the site"
    path = posixpath.normpath(urllib.parse.unquote(parts.path))
    if path not in files and not any(name.startswith(f"{path}/") for name in files):
        return "is not a file of the repo"
    return None


def _tags(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the tags of a piece of HTML with their attributes, in linear time.

    `html.parser` searches for the end of every comment and tag again: 800 kB of `<!--` take it minutes. Text in a
    comment that does not end is parsed as well.
    """
    for tag, attributes in TAG.findall(_without_comments(text)):
        pairs = ATTRIBUTE.findall(attributes)
        yield tag.lower(), [(name.lower(), html.unescape(value.strip("\"'"))) for name, value in pairs]


def _without_comments(text: str) -> str:
    parts, position = [], 0
    while (start := text.find("<!--", position)) >= 0 and (end := COMMENT_END.search(text, start + 2)):
        parts.append(text[position:start])
        position = end.end()
    return " ".join([*parts, text[position:]])


def _html(tokens: list[Token], files: Collection[str]) -> Iterator[Finding]:
    for token in tokens:
        if token.type not in ("html_block", "html_inline"):
            continue
        for tag, attributes in _tags(token.content):
            if not HARMLESS_TAG.fullmatch(tag):
                yield Finding("html", f"has a tag that is unsafe or removed by the Hub: <{tag}>", "use Markdown")
            for name, value in attributes:
                if not HARMLESS_ATTRIBUTE.fullmatch(name):
                    yield Finding("html", f"has an unsafe attribute: {name}", "remove it")
                elif name in ("href", "src") and (problem := _dead_end(value, files)):
                    yield Finding("html", f"{problem}: {value}", "link to a file of the repo, or an https URL")
