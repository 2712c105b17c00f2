"""What clients send as JSON, each field read with the type that it must have."""

from __future__ import annotations

import json
from typing import Any, cast

from hubdpo.loopback.wire import Refusal, Request

LARGEST = 32 * 2**20
"""Most bytes of a JSON body that carries no file."""


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
    return Fields(parse(request.whole(LARGEST) or b"{}"))


def parse(data: bytes) -> Any:
    """Return a JSON value whose texts can be written as UTF-8. Raise Refusal 400 for anything else."""
    try:
        value = json.loads(data)
        if b"\\ud" in data or b"\\uD" in data:  # half of a surrogate pair alone is JSON, and no text
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON") from None
    return value
