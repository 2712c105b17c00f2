"""Connections: so many at a time and no more, each with time-outs; the one that waits longest makes room."""

from __future__ import annotations

import contextlib
import io
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubdpo.loopback.limits import PAUSE_S, ROOM_S

FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b'Content-Length: 33\r\n\r\n{"error": "too many connections"}'
)


class Waiting:
    """The connections that wait for a client who has shown no right to write, to send or to read, longest first."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._patients: dict[PatientSocket, None] = {}

    @contextmanager
    def noted(self, patient: PatientSocket) -> Iterator[None]:
        with self._guard:
            self._patients[patient] = None
        try:
            yield
        finally:
            with self._guard:
                self._patients.pop(patient, None)

    def drop_longest(self) -> bool:
        """End the wait of the one that has waited longest; False when none waits."""
        with self._guard:
            patient = next(iter(self._patients), None)
            if patient is None:
                return False
            del self._patients[patient]
            patient.drop()
            return True


class PatientSocket(io.RawIOBase):
    """A socket as a stream: reading ends at `until`, or when others need the room; without it, after a pause."""

    def __init__(self, connection: socket.socket, waiting: Waiting) -> None:
        self._socket, self._waiting = connection, waiting
        self.until: float | None = None
        self.dropped = self._ended = self._sending = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.until is None:
            self._socket.settimeout(PAUSE_S)
            return self._socket.recv_into(buffer)
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        with self._waiting.noted(self):
            return self._socket.recv_into(buffer)

    def write(self, data: Any) -> int:
        if self._ended:
            return len(data)
        self._socket.settimeout(PAUSE_S)
        if self.until is None:
            return self._socket.send(data)
        with self._waiting.noted(self):
            self._sending = True
            try:
                return self._socket.send(data)
            finally:
                self._sending = False

    def wait(self, seconds: float | None) -> None:
        """Give all reads from now on so many seconds together, or none a limit but that of a pause."""
        self.until = None if seconds is None else time.monotonic() + seconds

    def drop(self) -> None:
        self.dropped = True
        with contextlib.suppress(OSError):  # it went by itself
            # who is sent to hears no more; who was sending may still read that there was no room
            self._socket.shutdown(socket.SHUT_RDWR if self._sending else socket.SHUT_RD)

    def end(self) -> None:
        """Let what a buffer still holds go nowhere."""
        self._ended = True


class ConnectionServer(socketserver.ThreadingTCPServer):
    """A thread for each connection, `most` of them; who comes beyond that is answered 503."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler], most: int) -> None:
        self.most, self.waiting = most, Waiting()
        self.served = 0
        """Connections that are served at this time."""
        self._room = threading.Condition()
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # no file left for it: the listening socket stays ready, and would be asked without a pause
            self.waiting.drop_longest()
            time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._room:
            until = time.monotonic() + ROOM_S
            while self.served >= self.most and time.monotonic() < until:
                self.waiting.drop_longest()
                self._room.wait(0.05)
            free = self.served < self.most
            self.served += free
        if not free:
            self._turn_away(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread left for it
            self._leave()
            self._turn_away(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):  # a client that went away
            super().handle_error(request, client_address)

    def _leave(self) -> None:
        with self._room:
            self.served -= 1
            self._room.notify_all()

    def _turn_away(self, request: socket.socket) -> None:
        request.setblocking(False)
        with contextlib.suppress(OSError):
            request.send(FULL)
            request.shutdown(socket.SHUT_WR)
            request.recv(1 << 16)  # what is left unread would reset the connection before the answer is read
        self.shutdown_request(request)
