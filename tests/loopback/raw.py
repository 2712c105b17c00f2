"""Send raw bytes to the loopback Hub: requests that no HTTP library would send."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import NamedTuple

STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n")


class Talk(NamedTuple):
    statuses: list[int]
    """The status of each answer, in order."""
    closed: bool
    """Whether the server closed the connection."""
    received: bytes


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def talk(endpoint: str, sent: bytes | str, *, patience: float = 20, answers: int = 1) -> Talk:
    """Send bytes, with HOST replaced by a valid Host header, and read a number of answers, or to the end."""
    data = sent.encode("latin-1") if isinstance(sent, str) else sent
    data = data.replace(b"HOST", b"Host: 127.0.0.1:%d" % port_of(endpoint))
    received, closed = b"", False
    with socket.create_connection(("127.0.0.1", port_of(endpoint)), timeout=patience) as connection:
        with contextlib.suppress(ConnectionError):  # refused before all of it was sent
            connection.sendall(data)
        while not closed and len(whole_answers(received)) < answers:
            piece = connection.recv(1 << 16)
            received, closed = received + piece, not piece
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while not closed:
                piece = connection.recv(1 << 16)
                received, closed = received + piece, not piece
    return Talk(whole_answers(received), closed, received)


def whole_answers(received: bytes) -> list[int]:
    """Return the statuses of the complete answers; fail if there are bytes between them."""
    statuses = []
    while match := STATUS.match(received):
        head, end, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: ([0-9]+)", head + b"\r\n")
        size = int(length[1]) if length and match[1] != b"100" else 0
        if not end or len(rest) < size:
            return statuses
        statuses.append(int(match[1]))
        received = rest[size:]
    return statuses
