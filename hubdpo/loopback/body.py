"""The body of a request, by its length or in chunks, and never more of it than this client may send."""

from __future__ import annotations

import re
from collections.abc import Callable

from hubdpo.loopback.head import Head, Lines
from hubdpo.loopback.limits import LONGEST_LINE, MOST_HEADERS, STRANGER_BODY
from hubdpo.loopback.wire import Refusal

CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
DRAINED = 64 * 2**10
"""Most bytes that are read after an answer for the sake of the next request."""


class SentBody:
    """Raise Refusal 413 for what is longer than allowed, 400 for what is malformed or cut short, 408 for a pause."""

    def __init__(self, stream: Lines, head: Head, *, proceed: Callable[[], None], no_hurry: Callable[[], None]) -> None:
        self._stream, self._chunked, self._left = stream, head.chunked, head.length
        self._done = not head.chunked and head.length == 0
        self._proceed = proceed if head.headers.get("expect", "").lower() == "100-continue" else None
        self._no_hurry, self._trusted, self._most = no_hurry, False, STRANGER_BODY
        self.broken = False
        """Whether the end of the body cannot be found any more, so that the connection cannot be used again."""
        self.count = 0
        """Bytes that were read."""

    def trust(self) -> None:
        """Let the sender, who showed the right to write, send as much as a route takes and take their time."""
        self._trusted = True
        self._no_hurry()

    def allow(self, most: int) -> None:
        """Take so many bytes, or fewer from a stranger. Raise Refusal 413 when more are announced."""
        self._most = most if self._trusted else min(most, STRANGER_BODY)
        self._check_size()

    def read(self, size: int) -> bytes:
        """Return up to so many bytes, none at the end."""
        try:
            return self._read(size)
        except TimeoutError:
            self.broken = True
            raise Refusal(408, "the body came too slowly") from None

    def drain(self) -> bool:
        """Read what is left and return True; or False when that is much, or cannot be told."""
        if self._proceed and not self._done:  # the client waits to hear whether it shall send
            return False
        self._most = self.count + DRAINED
        try:
            while self.read(DRAINED):
                pass
        except Refusal:
            return False
        return True

    def _read(self, size: int) -> bytes:
        if self.broken:
            raise Refusal(400, "the body has no length that can be read")
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
                self._break("a chunk does not end where it should")
            self._done = not self._chunked
        return data

    def _check_size(self) -> None:
        if self.count + self._left > self._most:
            raise Refusal(413, f"the body is longer than {self._most} bytes")

    def _next_chunk(self) -> None:
        match = CHUNK_SIZE.fullmatch(self._stream.readline(LONGEST_LINE))
        if match is None:
            self._break("a chunk has no size that can be read")
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
            self._break("what follows the last chunk is malformed")

    def _break(self, message: str) -> None:
        self.broken = True
        raise Refusal(400, message)
