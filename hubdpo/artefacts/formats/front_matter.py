"""The YAML before a card's text, parted as the Hub does it: blank lines, a BOM and CRLF may come before and in it.

The rule is that of `huggingface_hub.RepoCard`, which a test holds it against; `prepare` does without that import.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from hubdpo.artefacts.formats.bounded import MOST_DIGITS, shortened

MOST_CHARACTERS = 1_000_000
"""Of front matter. A model card with all results of a large benchmark has 400,000."""
MOST_VALUES = 100_000
MOST_NESTED = 50
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


class FrontLoader(yaml.SafeLoader):
    """A safe loader that stops at a limit before anything is made of the YAML.

    An alias counts as what it stands for: nine of them in each of nine levels are 300 bytes, and 400 million values.
    """

    def __init__(self, front: str) -> None:
        if len(front) > MOST_CHARACTERS:
            raise ValueError(f"it has {len(front):,} characters, and at most {MOST_CHARACTERS:,} are read")
        super().__init__(front)
        self._values = self._depth = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before, anchor = self._values, event.anchor
        if isinstance(event, yaml.AliasEvent):
            self._values += self._sizes.get(anchor, MOST_VALUES)  # what it is inside of has no size yet
        else:
            self._values += 1 + len(getattr(event, "value", "")) // 100  # a long text counts as several
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise ValueError(f"it is nested more than {MOST_NESTED} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if self._values > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values, with its aliases written out")
        if anchor and not isinstance(event, yaml.AliasEvent):
            self._sizes[anchor] = self._values - before
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MOST_DIGITS:  # in sixties, `1:59:59`, it takes time with the square of the length
            raise ValueError(f"it has a number of {len(node.value):,} characters")
        return super().construct_yaml_int(node)


FrontLoader.add_constructor("tag:yaml.org,2002:int", FrontLoader.construct_yaml_int)


def read_yaml(front: str, loader: type[FrontLoader] = FrontLoader) -> Any:
    """Read YAML within limits. Raise ValueError, in one line, whatever is wrong with it."""
    try:
        return yaml.load(front, loader)  # a SafeLoader
    except Exception as problem:  # for a value of another kind than its tag PyYAML raises KeyError, IndexError and more
        raise ValueError(shortened(" ".join(str(problem).split()), 300)) from None


def fields(text: str) -> dict[str, Any]:
    """Return the fields of a card; none where it has no front matter or one that cannot be read."""
    front = part(text).front
    try:
        found = read_yaml(front) if front is not None else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
