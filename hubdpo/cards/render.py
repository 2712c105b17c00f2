"""Render cards: YAML front matter, and a body from a Jinja template in `templates/`."""

from __future__ import annotations

import functools
import re
from typing import Any

import jinja2
import yaml

from hubdpo.cards.results import percent
from hubdpo.console import counted
from hubdpo.hub.transport import hub_address

Front = dict[str, Any]
"""The front matter of a card, by field."""
FENCE = re.compile("`{3,}")


def render(name: str, front: Front, /, **values: object) -> str:
    """Return the card with this front matter, and the template `name` filled with `values`."""
    body = _without_gaps(template(name).render(**values))
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{body}"


def _without_gaps(body: str) -> str:
    """Leave one empty line of several outside code, where templates leave parts out."""
    lines: list[str] = []
    opened = ""
    for line in body.split("\n"):
        if (ticks := FENCE.match(line)) and (not opened or line.rstrip() == opened):
            opened = "" if opened else ticks[0]
        if line.strip() or opened or not lines or lines[-1]:
            lines.append(line if line.strip() or opened else "")
    return "\n".join(lines)


@functools.cache
def template(name: str) -> jinja2.Template:
    """Compile a template at its first use; `prepare` calls this while its workers write."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hubdpo.cards"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
        # the output is Markdown: untrusted text is fenced, every other value is an id or a number
        autoescape=False,
    )  # fmt: skip
    environment.filters |= {"percent": percent, "thousands": "{:,}".format, "counted": counted}
    environment.globals["hub"] = hub_address
    return environment.get_template(name)
