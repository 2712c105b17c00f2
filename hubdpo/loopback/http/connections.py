"""Connections: a limited number, each with time-outs; when all are taken, the longest-waiting client is dropped."""

from __future__ import annotations

import contextlib
import io
import socket
import socketserver
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubdpo.loopback.limits import PAUSE_S, ROOM_S

Connection = Any
"""A socket: the stubs of socketserver admit the requests of UDP servers as well."""
Buffer = Any
"""bytes or bytearray: the stubs of io have no public name for the types of their buffers."""
Address = tuple[str, int]
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b'Content-Length: 33\r\nX-Request-Id: %s\r\n\r\n{"error": "too many connections"}'
)


class Waiting:
    """The connections that wait for an untrusted client to send or to read, longest wait first."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sockets: dict[PatientSocket, None] = {}

    @contextmanager
    def noted(self, waiter: PatientSocket) -> Iterator[None]:
        with self._guard:
            self._sockets[waiter] = None
        try:
            yield
        finally:
            with self._guard:
                self._sockets.pop(waiter, None)

    def drop_longest(self) -> None:
        with self._guard:
            waiter = next(iter(self._sockets), None)
            if waiter is not None:
                del self._sockets[waiter]
                waiter.drop()


class PatientSocket(io.RawIOBase):
    """A socket as a raw stream: with a deadline, reads end there or when it is dropped; without one, after a pause."""

    def __init__(self, connection: socket.socket, waiting: Waiting) -> None:
        self._socket, self._waiting = connection, waiting
        self.until: float | None = None
        self.dropped = self._ended = self._sending = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        if self.until is None:
            self._socket.settimeout(PAUSE_S)
            return self._socket.recv_into(buffer)
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        with self._waiting.noted(self):
            return self._socket.recv_into(buffer)

    def write(self, data: Buffer) -> int:
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
        """Set a deadline for all further reads together; None limits each single read instead."""
        self.until = None if seconds is None else time.monotonic() + seconds

    def drop(self) -> None:
        self.dropped = True
        with contextlib.suppress(OSError):  # already closed by the client
            # a client that was sending can still read the 503
            self._socket.shutdown(socket.SHUT_RDWR if self._sending else socket.SHUT_RD)

    def end(self) -> None:
        """Discard all further writes, such as those of a buffer that is flushed later."""
        self._ended = True


class ConnectionServer(socketserver.ThreadingTCPServer):
    """A threading server with at most `most` connections; further clients get a 503."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler], most: int) -> None:
        self.most, self.waiting = most, Waiting()
        self.served = self.answering = 0  # connections, and requests whose answer is being computed
        self._room = threading.Condition()
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Address]:
        try:
            return super().get_request()
        except OSError:
            # out of file descriptors: without a pause the ready listening socket would be polled in a busy loop
            self.waiting.drop_longest()
            time.sleep(0.1)
            raise

    def process_request(self, request: Connection, client_address: Address) -> None:
        with self._room:
            until = time.monotonic() + ROOM_S
            while self.served >= self.most and time.monotonic() < until:
                self.waiting.drop_longest()
                self._room.wait(0.05)
            free = self.served < self.most
            self.served += free
        if free:
            with contextlib.suppress(RuntimeError):  # out of threads
                super().process_request(request, client_address)
                return
            self._leave()
        self._turn_away(request)

    def process_request_thread(self, request: Connection, client_address: Address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave()

    def handle_error(self, request: Connection, client_address: Address) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):  # the client went away
            super().handle_error(request, client_address)

    def _leave(self) -> None:
        with self._room:
            self.served -= 1
            self._room.notify_all()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count the body as an answer that is being computed."""
        with self._room:
            self.answering += 1
        try:
            yield
        finally:
            with self._room:
                self.answering -= 1
                self._room.notify_all()

    def wait_for_answers(self, seconds: float) -> None:
        """Wait until no answer is being computed, at most some seconds."""
        with self._room:
            self._room.wait_for(lambda: not self.answering, seconds)

    def turned_away(self, request_id: str) -> None:
        """Note a client that got the 503."""

    def _turn_away(self, request: socket.socket) -> None:
        request.setblocking(False)
        request_id = uuid.uuid4().hex
        self.turned_away(request_id)
        with contextlib.suppress(OSError):
            request.send(FULL % request_id.encode())
            request.shutdown(socket.SHUT_WR)
            request.recv(1 << 16)  # unread bytes would reset the connection before the client reads the answer
        self.shutdown_request(request)
