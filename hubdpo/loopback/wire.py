"""Requests, answers and refusals of the loopback Hub, before any HTTP library has touched them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

LONGEST_MESSAGE = 400
"""Most characters of a refusal, which may repeat what was sent."""


class Readable(Protocol):
    def read(self, size: int) -> bytes: ...


class Body(Readable, Protocol):
    def allow(self, most: int) -> None: ...

    def trust(self) -> None: ...


@dataclass(frozen=True)
class User:
    """Who asks: the owner of a token, and whether the token may write."""

    name: str
    may_write: bool


@dataclass
class Request:
    """One request. `path` is raw: a name may hold an escaped slash, so it is split before it is decoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Body
    user: User | None = None
    id: str = ""
    """Goes out with the answer, and into the log."""

    @property
    def segments(self) -> list[str]:
        return [unquote(part) for part in self.path.lstrip("/").split("/")]

    def parameter(self, name: str, default: str = "") -> str:
        return parse_qs(self.query).get(name, [default])[0]

    def count(self, name: str, default: int) -> int:
        """Return a parameter that is a whole number. Raise Refusal 400 for another text."""
        text = self.parameter(name) or str(default)
        if not re.fullmatch("[0-9]{1,18}", text):
            raise Refusal(400, f"`{name}` must be a whole number")
        return int(text)

    def flag(self, name: str) -> bool:
        return self.parameter(name).lower() in ("true", "1")

    def whole(self, limit: int) -> bytes:
        """Return the body. Raise Refusal 413 when it is longer than `limit` bytes, or than a stranger may send."""
        return b"".join(self.parts(limit))

    def parts(self, limit: int) -> Iterator[bytes]:
        """Yield the body, as `whole` returns it."""
        self.body.allow(limit)
        return iter(lambda: self.body.read(1 << 20), b"")


@dataclass
class Answer:
    """One answer: `content`, or `length` bytes from `start` of `file`, or of what `source` yields from a byte on.

    `reason` takes the place of the usual words beside the status.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    file: Path | None = None
    source: Callable[[int], Iterator[bytes]] | None = None
    start: int = 0
    length: int = 0
    reason: str = ""

    @property
    def size(self) -> int:
        return self.length if self.file or self.source else len(self.content)

    def parts(self, size: int) -> Iterator[bytes]:
        """Yield the body in parts of at most that many bytes."""
        left = self.size
        for part in self.source(self.start) if self.source else self._pieces(size):
            for start in range(0, min(len(part), left), size):
                yield part[start : min(start + size, left)]
            left -= len(part)
            if left <= 0:
                return

    def _pieces(self, size: int) -> Iterator[bytes]:
        if self.file is None:
            yield self.content
            return
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            while piece := stream.read(size):
                yield piece


def shortened(text: str, most: int = 100) -> str:
    """Return a text of at most so many characters, cut in the middle."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


class Refusal(Exception):
    """An answer of 4xx or 5xx: the clients read the code and the message from headers. A long message is cut."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, shortened(message, LONGEST_MESSAGE), code, extra

    def answer(self) -> Answer:
        answer = as_json({"error": self.message, **self.extra}, self.status)
        answer.headers["X-Error-Message"] = re.sub("[^ -~]", "?", self.message)
        if self.code:
            answer.headers["X-Error-Code"] = self.code
        return answer


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    content = json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, {"Content-Type": "application/json; charset=utf-8", **named}, content)


def ranged(request: Request, answer: Answer) -> Answer:
    """Cut a whole answer of 200 to the `Range` of the request (RFC 9110, one range). Raise Refusal beyond the end."""
    total = answer.size
    answer.headers["Accept-Ranges"] = "bytes"
    unit, _, span = request.headers.get("range", "").partition("=")
    first, dash, last = span.partition("-")
    if unit.strip() != "bytes" or not dash or not re.fullmatch("[0-9]{1,18}", first + last):
        return answer
    start = int(first) if first else max(total - int(last), 0)
    stop = min(int(last) + 1, total) if first and last else total
    if start >= stop:
        raise Refusal(416, "the range is beyond the file")
    answer.status = 206
    answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    answer.content = answer.content[start:stop]
    answer.start, answer.length = answer.start + start, stop - start
    return answer
