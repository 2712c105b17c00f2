"""Turn pages into HTML in which every value is escaped, with headers that let a browser load nothing from elsewhere."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from typing import Any

import jinja2

from hubdpo.console import counted
from hubdpo.loopback.http.wire import Answer
from hubdpo.machine.refusals import in_units
from hubdpo.version import __version__
from hubdpo.view.page import Page

STATIC = "-"
"""First segment of the addresses of style sheet and script: no user or repo can have this name."""
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
SAFE_HEADERS = {
    # no inline script or style, nothing from another host, and no other page may embed these
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}  # fmt: skip


def html(page: Page, shell: Mapping[str, Any]) -> Answer:
    """Render a page inside the shell that all pages share (base.html says what it reads)."""
    text = environment().get_template(page.template).render(**shell, **page.values, title=page.title)
    return Answer(
        page.status, {**SAFE_HEADERS, "Content-Type": "text/html; charset=utf-8"}, text.encode(errors="replace")
    )


def image(content: bytes, media_type: str) -> Answer:
    """Return a picture that was drawn or checked here; a script in it would not run."""
    headers = {**SAFE_HEADERS, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Answer(200, {**headers, "Content-Type": media_type}, content)


def static(name: str) -> Answer | None:
    """Return the style sheet or the script, None for any other name."""
    files = {path.name: path for path in (importlib.resources.files("hubdpo.view") / "static").iterdir()}
    if name not in files:
        return None
    return Answer(200, {**SAFE_HEADERS, "Content-Type": TYPES[name.rpartition(".")[2]]}, files[name].read_bytes())


@functools.cache
def environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("hubdpo.view"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, autoescape=True,
    )  # fmt: skip
    made.filters |= {"thousands": "{:,}".format, "counted": counted, "bytes": in_units}
    made.globals |= {"static": f"/{STATIC}", "version": __version__}
    return made
