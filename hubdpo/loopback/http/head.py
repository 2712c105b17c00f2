"""Parse request heads strictly (RFC 9112): anything that two parsers could read differently is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from hubdpo.loopback.http.wire import Refusal, shortened
from hubdpo.loopback.limits import LARGEST_HEAD, LONGEST_LINE, MOST_HEADERS

REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)\r\n")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
ONCE = {
    "host", "origin", "content-length", "transfer-encoding", "content-type", "authorization", "range", "expect",
}  # fmt: skip
"""Headers that must not be repeated: parsers disagree on which value counts."""
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Lines(Protocol):
    """A stream with `read` and `readline`."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


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


def read_head(stream: Lines) -> Head:
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
    """Raise Refusal for another host in `Host`, or for a write whose `Origin` is another host.

    This stops DNS rebinding: a web page can point its host name at 127.0.0.1 and let the browser send requests here.
    """
    own = {f"{name}:{port}" for name in OWN_NAMES} | ({*OWN_NAMES} if port == 80 else set())
    host = head.headers.get("host", "")
    if host.lower() not in own:
        raise Refusal(421, f"the request is for another host than 127.0.0.1:{port}: {shortened(host)!a}")
    origin = head.headers.get("origin")
    if origin is not None and head.method not in ("GET", "HEAD") and origin.lower() not in {f"http://{o}" for o in own}:
        raise Refusal(403, f"pages of another host may not write: {shortened(origin)!a}")


def _line(stream: Lines, status: int) -> bytes:
    line = stream.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise Refusal(status, f"a line has more than {LONGEST_LINE} bytes")
    return line


def _headers(stream: Lines) -> dict[str, str]:
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
