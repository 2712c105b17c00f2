"""Read requests strictly (RFC 9112): anything that two parsers could read differently is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import NoReturn, TypeVar

from hubdpo.loopback.http.wire import JSON, Refusal, Request, shortened
from hubdpo.loopback.limits import DEEPEST_JSON, LARGEST_HEAD, LARGEST_JSON, LONGEST_LINE, MOST_HEADERS, STRANGER_BODY

REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)\r\n")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
ONCE = {
    "host", "origin", "content-length", "transfer-encoding", "content-type", "authorization", "range", "expect",
}  # fmt: skip
"""Headers that must not be repeated: parsers disagree on which value counts."""
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
DRAINED = 64 * 2**10
"""Bytes read after an answer to reach the next request on the connection."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class Head:
    """A request head: header names are in lower case; the body has `length` bytes, or is `chunked`."""

    method: str
    target: str
    headers: dict[str, str]
    length: int
    chunked: bool
    keep: bool
    """Whether the client keeps the connection open."""


def read_head(stream: BufferedIOBase) -> Head:
    """Read a request head. Raise Refusal if it is malformed or too large."""
    line = _line(stream, 414)
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refusal(400, "the first line is not an HTTP request line")
    method, target = match[1].decode(), match[2].decode()
    if match[3] != b"1":
        raise Refusal(505, "this server speaks HTTP/1.1")
    headers = _headers(stream)
    if method not in METHODS:
        raise Refusal(501, f"Unsupported method ({shortened(method)!r})")
    old = match[4] == b"0"
    length, chunked = _framing(headers, old)
    words = [word.strip() for word in headers.get("connection", "").lower().split(",")]
    keep = "keep-alive" in words if old else "close" not in words
    return Head(method, target, headers, length, chunked, keep)


def refuse_foreign(head: Head, port: int) -> None:
    """Raise Refusal for another host in `Host`, or for a write whose `Origin` is another host."""
    # DNS rebinding: a web page can point its host name at 127.0.0.1 and let the browser send requests here
    own = {f"{name}:{port}" for name in OWN_NAMES} | ({*OWN_NAMES} if port == 80 else set())
    host = head.headers.get("host", "")
    if host.lower() not in own:
        raise Refusal(421, f"the request is for another host than 127.0.0.1:{port}: {shortened(host)!a}")
    origin = head.headers.get("origin")
    if origin is not None and head.method not in ("GET", "HEAD") and origin.lower() not in {f"http://{o}" for o in own}:
        raise Refusal(403, f"pages of another host may not write: {shortened(origin)!a}")


def _line(stream: BufferedIOBase, status: int) -> bytes:
    line = stream.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise Refusal(status, f"a line has more than {LONGEST_LINE} bytes")
    return line


def _headers(stream: BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    size = count = 0
    while (line := _line(stream, 431)) != b"\r\n":
        size, count = size + len(line), count + 1
        if size > LARGEST_HEAD or count > MOST_HEADERS:
            raise Refusal(431, f"more than {MOST_HEADERS} headers, or {LARGEST_HEAD} bytes of them")
        match = FIELD.fullmatch(line)
        if match is None:
            raise Refusal(400, "a header is malformed")
        name, value = match[1].decode().lower(), match[2].decode("latin-1").strip(" \t")
        if name in headers and name in ONCE:
            raise Refusal(400, f"the header {name} is repeated")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _framing(headers: dict[str, str], old: bool) -> tuple[int, bool]:
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or old:
            raise Refusal(400, "the body has both a length and chunks, or chunks in HTTP/1.0")
        if coding.lower() != "chunked":
            raise Refusal(501, f"the only supported transfer coding is chunked: {shortened(coding)!a}")
        return 0, True
    if length is not None and not re.fullmatch("[0-9]{1,18}", length):
        raise Refusal(400, "the length of the body is not readable")
    return int(length or "0"), False


class SentBody:
    """A request body. Reading raises Refusal 413 beyond the limit, 400 if malformed or cut short, 408 on a time-out."""

    def __init__(
        self, stream: BufferedIOBase, head: Head, *, proceed: Callable[[], None], no_limit: Callable[[], None]
    ) -> None:
        self._stream, self._chunked, self._left = stream, head.chunked, head.length
        self._done = not head.chunked and head.length == 0
        self._proceed = proceed if head.headers.get("expect", "").lower() == "100-continue" else None
        self._no_limit, self._trusted, self._limit = no_limit, False, STRANGER_BODY
        self.broken = False
        """Whether the end of the body is unknown, so that the connection cannot be reused."""
        self.count = 0
        """Bytes read so far."""

    def trust(self) -> None:
        """Lift the limits for untrusted clients: the sender has a write token."""
        self._trusted = True
        self._no_limit()

    def allow(self, limit: int) -> None:
        """Set the limit in bytes, lower for an untrusted client. Raise Refusal 413 if the length exceeds it."""
        self._limit = limit if self._trusted else min(limit, STRANGER_BODY)
        self._check_size()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        try:
            return self._read(size)
        except TimeoutError:
            self.broken = True
            raise Refusal(408, "the body was sent too slowly") from None

    def drain(self) -> bool:
        """Read the rest of the body. Return False if it is too long or cannot be read."""
        if self._proceed and not self._done:  # the client waits for `100 Continue`
            return False
        self._limit = self.count + DRAINED
        try:
            while self.read(DRAINED):
                pass
        except Refusal:
            return False
        return True

    def _read(self, size: int) -> bytes:
        if self.broken:
            raise Refusal(400, "the length of the body is not readable")
        if self._done:
            return b""
        self._check_size()
        if self._proceed:
            self._proceed()
            self._proceed = None
        if self._chunked and self._left == 0:
            self._next_chunk()
            self._check_size()
            if self._done:
                return b""
        data = self._stream.read(min(size, self._left))
        if not data:
            self._break("the body is cut short")
        self._left -= len(data)
        self.count += len(data)
        if self._left == 0:
            if self._chunked and self._stream.read(2) != b"\r\n":
                self._break("a chunk is longer than its size")
            self._done = not self._chunked
        return data

    def _check_size(self) -> None:
        if self.count + self._left > self._limit:
            raise Refusal(413, f"the body is longer than {self._limit} bytes")

    def _next_chunk(self) -> None:
        match = CHUNK_SIZE.fullmatch(self._stream.readline(LONGEST_LINE))
        if match is None:
            self._break("the size of a chunk is not readable")
        self._left = int(match[1], 16)
        if self._left == 0:
            for _ in range(MOST_HEADERS):
                line = self._stream.readline(LONGEST_LINE)
                if line == b"\r\n":
                    self._done = True
                    return
                if not line.endswith(b"\r\n"):
                    break
            self._break("the trailer after the last chunk is malformed")

    def _break(self, message: str) -> NoReturn:
        self.broken = True
        raise Refusal(400, message)


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
