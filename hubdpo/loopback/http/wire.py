"""Requests, answers and refusals of the loopback Hub, independent of the socket they travel on."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlencode

CHUNK = 1 << 20
"""Bytes of a body that are read or sent at once."""
JSON = dict[str, Any]
"""A JSON object."""
LONGEST_MESSAGE = 400
"""Longest error message, in characters: a message may quote the request."""


class Body(Protocol):
    def read(self, size: int) -> bytes: ...

    def allow(self, limit: int) -> None: ...

    def trust(self) -> None: ...


@dataclass(frozen=True)
class User:
    """The owner of a token, whether the token may write, and the organisations that the user is a member of."""

    name: str
    may_write: bool
    orgs: frozenset[str] = frozenset()

    def owns(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.orgs


@dataclass
class Request:
    """An HTTP request. `path` is still percent-encoded: a name may contain an escaped slash."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Body
    user: User | None = None
    id: str = ""
    """Returned in the `X-Request-Id` header and written to the log."""
    signed_for: str = ""
    """The user that a signed URL or a Xet token names."""

    @property
    def segments(self) -> list[str]:
        return [unquote(part) for part in self.path.lstrip("/").split("/")]

    @property
    def reader(self) -> str:
        """The name of the user, "" for an anonymous request."""
        return self.user.name if self.user else ""

    def parameter(self, name: str, default: str = "") -> str:
        return parse_qs(self.query).get(name, [default])[0]

    def parameters(self, name: str) -> list[str]:
        """Return the values of a query parameter that may be repeated."""
        return parse_qs(self.query).get(name, [])

    def count(self, name: str, default: int) -> int:
        """Return a query parameter as a whole number. Raise Refusal 400 for any other text."""
        text = self.parameter(name) or str(default)
        if not re.fullmatch("[0-9]{1,18}", text):
            raise Refusal(400, f"`{name}` must be a whole number")
        return int(text)

    def flag(self, name: str) -> bool:
        return self.parameter(name).lower() in ("true", "1")

    def whole(self, limit: int) -> bytes:
        """Read the body. Raise Refusal 413 beyond `limit` bytes, or beyond the limit for clients without a token."""
        return b"".join(self.parts(limit))

    def parts(self, limit: int) -> Iterator[bytes]:
        """Yield the body in parts, within the limits of `whole`."""
        self.body.allow(limit)
        return iter(lambda: self.body.read(CHUNK), b"")


@dataclass
class Answer:
    """An HTTP response, whose body is `content`, or `length` bytes from offset `start` of `source`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    source: Callable[[int], Iterator[bytes]] | None = None
    """A function from an offset to the bytes from there on."""
    start: int = 0
    length: int = 0
    reason: str = ""
    """Replaces the standard reason phrase."""

    @property
    def size(self) -> int:
        return self.length if self.source else len(self.content)

    def parts(self, size: int) -> Iterator[bytes]:
        """Yield the body in parts of at most `size` bytes."""
        left = self.size
        for part in self.source(self.start) if self.source else [self.content]:
            for start in range(0, min(len(part), left), size):
                yield part[start : min(start + size, left)]
            left -= len(part)
            if left <= 0:
                return


def shortened(text: str, most: int = 100) -> str:
    """Cut the middle out of a text of more than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


class Refusal(Exception):
    """An error response (4xx or 5xx). Hub clients read its code and message from headers."""

    def __init__(
        self, status: int, message: str, code: str | None = None, *, headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, shortened(message, LONGEST_MESSAGE), code, extra
        self.headers = headers or {}

    def answer(self) -> Answer:
        answer = as_json({"error": self.message, **self.extra}, self.status)
        answer.headers["X-Error-Message"] = re.sub("[^ -~]", "?", self.message)
        answer.headers |= self.headers
        if self.code:
            answer.headers["X-Error-Code"] = self.code
        return answer


class Redirection(Exception):
    """A response that sends the client to another path on this server."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(location)
        self.status, self.location = status, location


def as_json(value: object, status: int = 200, **headers: str) -> Answer:
    """Return a JSON response. `X_Name=value` becomes the header `X-Name: value`."""
    content = json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, {"Content-Type": "application/json; charset=utf-8", **named}, content)


def next_page(endpoint: str, request: Request, **changed: object) -> str:
    """Return the `Link` header of a page: the same request with changed parameters."""
    query = parse_qs(request.query) | {name: [str(value)] for name, value in changed.items()}
    return f'<{endpoint}{request.path}?{urlencode(query, doseq=True)}>; rel="next"'


def byte_range(request: Request, total: int) -> tuple[int, int] | None:
    """Return start and stop (exclusive) of the `Range` header (RFC 9110), or None. Raise Refusal 416 past the end."""
    unit, _, span = request.headers.get("range", "").partition("=")
    first, dash, last = span.partition("-")
    if unit.strip() != "bytes" or not dash or not re.fullmatch("[0-9]{1,18}", first + last):
        return None
    start = int(first) if first else max(total - int(last), 0)
    stop = min(int(last) + 1, total) if first and last else total
    if start >= stop:
        raise Refusal(416, "the range starts after the end of the file")
    return start, stop


def ranged(request: Request, answer: Answer) -> Answer:
    """Reduce a 200 response to the byte range of its request, or to a 304 if the client has it (RFC 9110, 13).

    Raise Refusal 412 if the client wants another version, 416 past the end.
    """
    etag = answer.headers["ETag"]
    if (wanted := request.headers.get("if-match")) is not None and not _names(wanted, etag):
        raise Refusal(412, "the file has changed", headers={"ETag": etag})
    if (known := request.headers.get("if-none-match")) is not None and _names(known.replace("W/", ""), etag):
        return Answer(304, {name: text for name, text in answer.headers.items() if not name.startswith("Content-")})
    answer.headers["Accept-Ranges"] = "bytes"
    if request.headers.get("if-range", etag) != etag:  # a part of another version would not fit
        return answer
    if span := byte_range(request, answer.size):
        start, stop = span
        answer.status = 206
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{answer.size}"
        answer.content = answer.content[start:stop]
        answer.start, answer.length = answer.start + start, stop - start
    return answer


def _names(tags: str, etag: str) -> bool:
    return tags.strip() == "*" or etag in [tag.strip() for tag in tags.split(",")]


def file_answer(request: Request, path: Path, headers: dict[str, str]) -> Answer:
    """Return a file, or the requested range of it. Raise Refusal 416 past the end."""
    source = functools.partial(_read_from, path)
    return ranged(request, Answer(200, headers, source=source, length=path.stat().st_size))


def _read_from(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(start)
        while piece := stream.read(CHUNK):
            yield piece
