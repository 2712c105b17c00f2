"""What clients send as JSON, each field read with the type that it must have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from hubdpo.loopback.limits import DEEPEST_JSON, LARGEST_JSON
from hubdpo.loopback.wire import Refusal, Request


class Fields:
    """A JSON object. A field that is missing or null has its default; one of another type is refused with 400."""

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise Refusal(400, "not a JSON object")
        self.values: dict[str, Any] = values

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        return cast(str, self._typed(name, str, "text", default))

    def flag(self, name: str) -> bool:
        return cast(bool, self._typed(name, bool, "true or false", False))

    def count(self, name: str, default: int = 0) -> int:
        """Return a whole number that is not negative."""
        value = cast(int, self._typed(name, int, "a whole number", default))
        if isinstance(value, bool) or value < 0:
            raise Refusal(400, f"`{name}` must be a whole number")
        return value

    def items(self, name: str) -> list[Any]:
        return cast(list[Any], self._typed(name, list, "a list", []))

    def texts(self, name: str) -> list[str]:
        if not all(isinstance(value, str) for value in self.items(name)):
            raise Refusal(400, f"`{name}` must be a list of texts")
        return self.items(name)

    def object(self, name: str) -> Fields:
        return Fields(self._typed(name, dict, "an object", {}))

    def _typed(self, name: str, kind: type, words: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise Refusal(400, f"`{name}` must be {words}")
        return value


def sent_fields(request: Request) -> Fields:
    """Return the body of a request, no fields when it is empty. Raise Refusal unless it is a JSON object."""
    return Fields(parse(b"".join(sent_json_parts(request, LARGEST_JSON)) or b"{}"))


def sent_json_parts(request: Request, limit: int) -> Iterator[bytes]:
    """Yield a body that is JSON. Raise Refusal 415 for another type: that is what the forms of web pages can send."""
    for part in request.parts(limit):
        if "json" not in request.headers.get("content-type", "").lower():
            raise Refusal(415, "the Content-Type of JSON is application/json")
        yield part


def parse(data: bytes) -> Any:
    """Return a JSON value of a few levels whose texts can be written as UTF-8. Raise Refusal 400 for anything else."""
    try:
        value = json.loads(data)
        if b"\\ud" in data or b"\\uD" in data:  # half of a surrogate pair alone is JSON, and no text
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON") from None
    if _depth(value) > DEEPEST_JSON:
        raise Refusal(400, f"the JSON has more than {DEEPEST_JSON} levels")
    return value


def _depth(value: Any) -> int:
    """Return how many levels a value has, counted level by level."""
    level, depth = [value], 0
    while level := [node for node in level if isinstance(node, (dict, list))]:
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
        depth += 1
    return depth
