"""A file that was uploaded by Xet, as a stream: reading unpacks the chunks of the part that is read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from hubdpo.loopback.xet.store import XetStore

Buffer = Any
"""bytes or bytearray: the stubs of io have no public name for the types of their buffers."""


class XetFile(io.RawIOBase):
    def __init__(self, store: XetStore, oid: str, size: int) -> None:
        self._store, self._oid, self._size = store, oid, size
        self._at = 0
        self._parts: Iterator[bytes] | None = None
        self._left = b""
        """What is unpacked and not read yet, which begins at `_at`."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        at = start + offset
        if at < 0:
            raise ValueError("a file has no bytes before its beginning")
        if at != self._at:
            self._at, self._left, self._parts = at, b"", None
        return at

    def readinto(self, buffer: Buffer) -> int:
        if self._at >= self._size:
            return 0
        if self._parts is None:
            self._parts = self._store.read(self._oid, self._at)
        if not self._left:
            self._left = next(self._parts, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        self._at += count
        return count
