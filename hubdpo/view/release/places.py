"""Addresses of files in pages: which revision they are at, where a link of a card leads."""

from __future__ import annotations

import hashlib
import posixpath
import re
from functools import cached_property
from urllib.parse import quote, unquote, urlsplit

from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.markdown import ANCHOR, Formatted, Targets, format_markdown, slug_of
from hubdpo.view.page import Asked
from hubdpo.view.thing import Thing

OUTSIDE = re.compile(r"(https?://|mailto:)", re.IGNORECASE)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
UNSEEN = re.compile(r"[\x00-\x20\x7f]")


def revision_of(thing: Thing) -> str:
    return thing.revision or "main"


def file_link(asked: Asked, thing: Thing, page: str, path: str) -> str:
    """Return the address of a file or folder: `tree`, `blob` or `image` of it."""
    return asked.link(page, revision_of(thing), *path.split("/"))


class Places:
    """Where the links of a text in a folder of the thing lead."""

    def __init__(self, asked: Asked, thing: Thing, folder: str = "") -> None:
        self._asked, self._thing, self._folder = asked, thing, folder

    @cached_property
    def _folders(self) -> set[str]:
        found: set[str] = set()
        for name in self._thing.snapshot.files:
            while (name := posixpath.dirname(name)) and name not in found:
                found.add(name)
        return found

    def link(self, target: str) -> str | None:
        """Return the address of a link: a file or folder of ours, or elsewhere; None for anything else."""
        target = UNSEEN.sub("", target)
        if OUTSIDE.match(target):
            return target
        if target.startswith("#"):
            return f"#{ANCHOR}{slug_of(unquote(target[1:]).removeprefix(ANCHOR))}"
        if target.startswith("/") and not target.startswith(("//", "/\\")) and isinstance(self._thing, Hosted):
            return quote(target, safe="/?#=&%:@,;.~")
        path, fragment = self._inside(target)
        if path is None:
            return None
        page = "tree" if path in self._folders or not path else "blob"
        if fragment:
            fragment = f"#{ANCHOR}{slug_of(fragment)}" if path.lower().endswith(".md") else f"#{quote(fragment)}"
        return file_link(self._asked, self._thing, page, path) + fragment

    def picture(self, source: str) -> str | None:
        """Return the address of a picture among the files of the thing, None for any other."""
        path, _ = self._inside(UNSEEN.sub("", source))
        if path not in self._thing.snapshot.files or not str(path).lower().endswith(PICTURES):
            return None
        return file_link(self._asked, self._thing, "image", str(path))

    def _inside(self, target: str) -> tuple[str | None, str]:
        """Return the path of a relative link below the top, and its fragment; None for any other link."""
        if SCHEME.match(target) or target.startswith(("/", "\\")):
            return None, ""
        try:
            parts = urlsplit(target)
        except ValueError:
            return None, ""
        path = posixpath.normpath(posixpath.join(self._folder, unquote(parts.path)))
        if path.startswith(("..", "/")):
            return None, ""
        return "" if path == "." else path, unquote(parts.fragment)


def formatted(asked: Asked, thing: Thing, text: str, folder: str = "") -> Formatted:
    """Return a Markdown text in a folder of the thing as HTML, made once: some texts take seconds."""
    places = Places(asked, thing, folder)
    targets = Targets(places.link, places.picture)
    if thing.snapshot.commit is None:  # the pictures in a folder come and go
        return format_markdown(text, targets)
    at = "\0".join((asked.base, thing.revision or "", thing.snapshot.commit, folder, text))
    name = hashlib.sha256(at.encode("utf-8", "surrogatepass")).hexdigest()
    return thing.keep_text(name, lambda: format_markdown(text, targets))
