"""Read request bodies, by length or in chunks, up to the limit of the client and the route."""

from __future__ import annotations

import re
from collections.abc import Callable

from hubdpo.loopback.http.head import Head, Lines
from hubdpo.loopback.http.wire import Refusal
from hubdpo.loopback.limits import LONGEST_LINE, MOST_HEADERS, STRANGER_BODY

CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
DRAINED = 64 * 2**10
"""Bytes read after an answer to reach the next request on the connection."""


class SentBody:
    """A request body. Reading raises Refusal 413 beyond the limit, 400 if malformed or cut short, 408 on a time-out."""

    def __init__(self, stream: Lines, head: Head, *, proceed: Callable[[], None], no_limit: Callable[[], None]) -> None:
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
        else:
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

    def _break(self, message: str) -> None:
        self.broken = True
        raise Refusal(400, message)
