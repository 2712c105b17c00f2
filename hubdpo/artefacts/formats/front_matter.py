"""Split the YAML front matter of a card from its body, as the Hub does, and read it within limits.

Blank lines, a BOM and CRLF are accepted. The rule is that of `huggingface_hub.RepoCard`, which takes half a second to
import; a test compares the two.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from hubdpo.artefacts.formats.bounded import MAX_DIGITS, JsonObject, shortened

MAX_LENGTH = 1_000_000
"""Characters of front matter. A model card with all results of a large benchmark has 400,000."""
MAX_VALUES = 100_000
MAX_DEPTH = 50
BOM = "\ufeff"
_BREAK = r"(?:\r\n|\r|\n)"
_BLOCK = re.compile(rf"{BOM}?\s*---{_BREAK}(.*?){_BREAK}---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class Parted(NamedTuple):
    """A card in two parts: `front` is YAML, or None."""

    front: str | None
    body: str


def part(text: str) -> Parted:
    """Split a card into front matter and body."""
    match = _BLOCK.match(text)
    return Parted(match[1], text[match.end() :]) if match else Parted(None, text.removeprefix(BOM))


def lines_of_front(text: str) -> int:
    """Return the number of lines up to the end of the front matter."""
    match = _BLOCK.match(text)
    if match is None:
        return 0
    head = text[: match.end()]
    return head.count("\n") + (not head.endswith("\n"))


class FrontLoader(yaml.SafeLoader):
    """A safe loader that checks limits before values are built.

    An alias counts as the values that it stands for: nine aliases on each of nine levels are 300 bytes of YAML, but 400
    million values.
    """

    def __init__(self, front: str) -> None:
        if len(front) > MAX_LENGTH:
            raise ValueError(f"it has {len(front):,} characters, more than the limit of {MAX_LENGTH:,}")
        super().__init__(front)
        self._values = self._depth = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before, anchor = self._values, event.anchor
        if isinstance(event, yaml.AliasEvent):
            self._values += self._sizes.get(anchor, MAX_VALUES)  # an anchor that contains its own alias has no size yet
        else:
            self._values += 1 + len(getattr(event, "value", "")) // 100  # a long text counts as several values
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if self._values > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values, with aliases expanded")
        if anchor and not isinstance(event, yaml.AliasEvent):
            self._sizes[anchor] = self._values - before
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:  # parsing base 60, `1:59:59`, takes time with the square of the length
            raise ValueError(f"it has a number with {len(node.value):,} characters")
        return super().construct_yaml_int(node)


FrontLoader.add_constructor("tag:yaml.org,2002:int", FrontLoader.construct_yaml_int)


def read_yaml(front: str, loader: type[FrontLoader] = FrontLoader) -> Any:
    """Parse YAML within limits. Raise ValueError, in one line, for any problem."""
    try:
        return yaml.load(front, loader)  # a SafeLoader
    except Exception as problem:  # a value that does not fit its tag raises KeyError, IndexError and more
        raise ValueError(shortened(" ".join(str(problem).split()), 300)) from None


def fields(text: str) -> JsonObject:
    """Return the fields of a card; none without front matter that can be read."""
    front = part(text).front
    try:
        values = read_yaml(front) if front is not None else None
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
