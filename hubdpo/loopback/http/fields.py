"""JSON request bodies, with typed access to their fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeVar

from hubdpo.loopback.http.wire import JSON, Refusal, Request
from hubdpo.loopback.limits import DEEPEST_JSON, LARGEST_JSON

Value = TypeVar("Value")


class Fields:
    """A JSON object. A field that is missing or null gets its default; a field of another type is refused with 400."""

    def __init__(self, values: object) -> None:
        if not isinstance(values, dict):
            raise Refusal(400, "not a JSON object")
        self.values: JSON = values

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str:
        return self._typed(name, str, "text", "")

    def flag(self, name: str) -> bool:
        return self._typed(name, bool, "true or false", False)

    def count(self, name: str, default: int = 0) -> int:
        """Return a whole number of zero or more."""
        value = self._typed(name, int, "a whole number", default)
        if isinstance(value, bool) or value < 0:
            raise Refusal(400, f"`{name}` must be a whole number")
        return value

    def items(self, name: str) -> list[object]:
        return self._typed(name, list, "a list", [])

    def texts(self, name: str) -> list[str]:
        texts = [value for value in self.items(name) if isinstance(value, str)]
        if len(texts) < len(self.items(name)):
            raise Refusal(400, f"`{name}` must be a list of texts")
        return texts

    def object(self, name: str) -> Fields:
        return Fields(self._typed(name, dict, "an object", {}))

    def _typed(self, name: str, kind: type[Value], words: str, default: Value) -> Value:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise Refusal(400, f"`{name}` must be {words}")
        return value


def sent_fields(request: Request) -> Fields:
    """Parse the body as a JSON object; an empty body has no fields. Raise Refusal for any other body."""
    return Fields(parse(b"".join(sent_json_parts(request, LARGEST_JSON)) or b"{}"))


def sent_json_parts(request: Request, limit: int) -> Iterator[bytes]:
    """Yield the parts of a JSON body. Raise Refusal 415 for another content type, such as that of an HTML form."""
    for part in request.parts(limit):
        if "json" not in request.headers.get("content-type", "").lower():
            raise Refusal(415, "the Content-Type of JSON is application/json")
        yield part


def parse(data: bytes) -> object:
    """Parse JSON. Raise Refusal 400 if it is malformed, too deeply nested, or holds text that UTF-8 cannot encode."""
    try:
        value = json.loads(data)
        if b"\\ud" in data or b"\\uD" in data:  # a lone surrogate is valid JSON, but not text
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON") from None
    if _depth(value) > DEEPEST_JSON:
        raise Refusal(400, f"the JSON has more than {DEEPEST_JSON} levels")
    return value


def _depth(value: object) -> int:
    """Count the nesting levels of a value without recursion."""
    level, depth = [value], 0
    while level := [node for node in level if isinstance(node, (dict, list))]:
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
        depth += 1
    return depth
