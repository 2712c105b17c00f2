"""The YAML before a card's text, parted as the Hub does it: blank lines, a BOM and CRLF may come before and in it.

The rule is that of `huggingface_hub.RepoCard`, which a test holds it against; `prepare` does without that import.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

BOM = "\ufeff"
_BREAK = r"(?:\r\n|\r|\n)"
_BLOCK = re.compile(rf"{BOM}?\s*---{_BREAK}(.*?){_BREAK}---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class Parted(NamedTuple):
    """A card in two: `front` is YAML, None where there is none."""

    front: str | None
    body: str


def part(text: str) -> Parted:
    """Part the front matter from the body."""
    found = _BLOCK.match(text)
    return Parted(found[1], text[found.end() :]) if found else Parted(None, text.removeprefix(BOM))


def lines_of_front(text: str) -> int:
    """Return how many lines the front matter takes, those before and around it included."""
    found = _BLOCK.match(text)
    if found is None:
        return 0
    head = text[: found.end()]
    return head.count("\n") + (not head.endswith("\n"))


def read_yaml(front: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read YAML. Raise ValueError, in one line, whatever is wrong with it."""
    try:
        return yaml.load(front, loader)  # a SafeLoader
    except Exception as problem:  # for a value of another kind than its tag PyYAML raises KeyError, IndexError and more
        raise ValueError(" ".join(str(problem).split())) from None


def fields(text: str) -> dict[str, Any]:
    """Return the fields of a card; none where it has no front matter or one that cannot be read."""
    front = part(text).front
    try:
        found = read_yaml(front) if front is not None else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
