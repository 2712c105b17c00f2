"""An HTTP server on 127.0.0.1: answers requests of this machine with a function from a Request to an Answer."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import socketserver
import struct
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus

from hubdpo import console
from hubdpo.errors import ConfigError, Instead
from hubdpo.loopback import limits
from hubdpo.loopback.faults import Fault, Faults
from hubdpo.loopback.http.connections import ConnectionServer, PatientSocket
from hubdpo.loopback.http.requests import SentBody, read_head, refuse_foreign
from hubdpo.loopback.http.wire import CHUNK, Answer, Refusal, Request

HOST = "127.0.0.1"
CLOSING_S = 3.0
"""Longest wait for answers that are being computed: a process that ends while Arrow's code runs aborts."""
LONGEST_LOGGED = 2000
"""Longest path in the log, in characters."""


@dataclass(frozen=True)
class Logged:
    """A logged request, without its token; `status` is 0 if no answer was sent.

    `received` and `sent` are the sizes of the bodies in bytes; `id` is the `X-Request-Id` of the answer, `user` has
    the name behind the token or signed URL, `time` is when the request came, in seconds since the epoch.
    """

    method: str
    path: str
    status: int
    host: str
    sent_token: bool
    received: int = 0
    sent: int = 0
    id: str = ""
    user: str = ""
    time: float = 0.0
    seconds: float = 0.0


def _unread(status: int, sent: int, request_id: str) -> Logged:
    """Return the log entry of a request that could not be read, or was not."""
    return Logged("-", "-", status, "", False, sent=sent, id=request_id, time=time.time())


class LocalServer:
    """Listen on a port of 127.0.0.1, 0 for any free one. Raise ConfigError if it cannot be used.

    `answer` is called in a thread for each connection. `log` gets every request that was read, before its answer is
    sent; `done` gets every request, with the bytes that were sent. `faults` are injected into answers, by tests.
    """

    def __init__(
        self, port: int, answer: Callable[[Request], Answer], *, faults: Faults | None = None,
        log: Callable[[Logged], None] = lambda _: None, done: Callable[[Logged], None] = lambda _: None,
    ) -> None:  # fmt: skip
        try:
            self.listener = _Server((HOST, port), _Handler, limits.most_connections())
        except OSError as problem:
            raise ConfigError(
                f"port {port} cannot be used: {problem.strerror}; 0 takes any free one", hint=Instead(str(port), "0")
            ) from None
        self.endpoint = f"http://{HOST}:{self.listener.server_address[1]}"
        self.listener.answer, self.listener.faults = answer, faults or Faults()
        self.listener.log, self.listener.done = log, done
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve in a background thread until `close`."""
        self._thread = threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def serve_forever(self) -> None:
        """Serve in this thread until interrupted."""
        self.listener.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        if self._thread is not None:
            self.listener.shutdown()
            self._thread.join()
        self.listener.server_close()
        self.listener.wait_for_answers(CLOSING_S)


def failure(request: Request, problem: Exception) -> Refusal:
    """Return the 500 of an unexpected error, and show its traceback on stderr; a full disk is no bug."""
    if refusal := limits.machine_refusal(problem):
        console.warn(f"request {request.id}: {refusal.message}")
        return refusal
    trace = "".join(traceback.format_exception(problem))
    console.bug(f"request {request.id}: {request.method} {request.path!a}\n{trace}")
    return Refusal(500, f"Internal Server Error, request {request.id}")


class _Server(ConnectionServer):
    answer: Callable[[Request], Answer]
    faults: Faults
    log: Callable[[Logged], None]
    done: Callable[[Logged], None]

    def turned_away(self, request_id: str) -> None:
        self.done(_unread(503, 0, request_id))


class _Handler(socketserver.BaseRequestHandler):
    """A connection: answers one request after the other until either side closes it."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = PatientSocket(self.request, self.server.waiting)
        self._reader = io.BufferedReader(self._socket, 1 << 16)
        self._writer = io.BufferedWriter(self._socket, 1 << 16)
        self._keep = True
        try:
            while self._keep and self._wait_for_request():
                self._answer_one()
        finally:
            self._socket.end()

    def _wait_for_request(self) -> bool:
        self._socket.wait(limits.IDLE_S)
        try:
            return bool(self._reader.peek(1))
        except TimeoutError:
            return False

    def _answer_one(self) -> None:
        self._socket.wait(limits.HEAD_S)
        came, started = time.time(), time.monotonic()
        try:
            head = read_head(self._reader)
        except TimeoutError:
            self._refuse(Refusal(408, "the request head was sent too slowly"))
            return
        except Refusal as refusal:
            self._refuse(Refusal(503, "too many connections") if self._socket.dropped else refusal)
            return
        self._socket.wait(limits.STRANGER_S)
        sent_id = head.headers.get("x-request-id") or head.headers.get("x-amzn-trace-id") or ""
        request_id = sent_id if re.fullmatch(r"[\w.:=;-]{1,128}", sent_id, re.ASCII) else uuid.uuid4().hex
        path, _, query = head.target.partition("#")[0].partition("?")
        body = SentBody(self._reader, head, proceed=self._proceed, no_limit=lambda: self._socket.wait(None))
        request = Request(head.method, path, query, head.headers, body, id=request_id)
        fault: Fault | None = None
        answer: Answer | None
        try:
            refuse_foreign(head, self.server.server_address[1])
        except Refusal as refusal:
            answer = refusal.answer()
        else:
            fault = self.server.faults.match(request.method, request.path)
            # an upload may take as long as its client does, so only reading is waited for at the end
            with self.server.at_work() if head.method in ("GET", "HEAD") else contextlib.nullcontext():
                answer = self._faulty(fault, request) if fault else self.server.answer(request)
        if answer and not body.drain():  # the rest of the body would be read as the next request
            self._keep = False
        self._keep = self._keep and head.keep
        status, size = (answer.status, answer.size) if answer else (0, 0)
        entry = Logged(
            head.method, request.path[:LONGEST_LOGGED], status, head.headers.get("host", ""),
            "authorization" in head.headers, received=body.count, sent=0 if head.method == "HEAD" else size,
            id=request_id, user=request.reader or request.signed_for, time=came,
        )  # fmt: skip
        self.server.log(entry)
        self._sent = 0
        try:
            self._finish(request, answer, fault)
        finally:
            self.server.done(replace(entry, sent=self._sent, seconds=time.monotonic() - started))
        if not self._keep and answer:
            self._linger()

    def _finish(self, request: Request, answer: Answer | None, fault: Fault | None) -> None:
        if answer is None:
            self._keep = False
            # a linger of zero seconds sends a reset in place of a normal close
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.shutdown(socket.SHUT_RD)
            return
        if fault is None and request.method == "GET" and request.path.endswith("/refs") and answer.status == 200:
            self.server.faults.remember(request.path, answer)
        self._send(answer, fault, request.id, with_body=request.method != "HEAD")

    def _refuse(self, refusal: Refusal) -> None:
        self._keep = False
        self._sent = 0
        request_id = uuid.uuid4().hex
        self._send(refusal.answer(), None, request_id, with_body=True)
        self.server.done(_unread(refusal.status, self._sent, request_id))
        self._linger()

    def _proceed(self) -> None:
        self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._writer.flush()

    def _linger(self) -> None:
        """Read for a moment longer: closing while the client still sends would reset the answer it is about to read."""
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_WR)
            self._socket.wait(limits.LINGER_S)
            while self._reader.read1(1 << 16):
                pass

    def _faulty(self, fault: Fault, request: Request) -> Answer | None:
        if fault.kind == "status":
            return Answer(fault.status, {"Content-Type": "application/json", **fault.headers}, b'{"error": "injected"}')
        if fault.kind == "sleep":
            time.sleep(fault.seconds)
        answer = None if fault.kind.endswith("-before") else self.server.answer(request)
        if fault.kind.startswith("hang-"):
            fault.reached.set()
            self.request.settimeout(None)
            while self.request.recv(CHUNK):  # discard what the client sends, until it closes the connection
                pass
        if answer is None or fault.kind in ("hang-after", "reset-after"):
            return None
        if fault.kind == "stale" and answer.status == 200:
            return self.server.faults.before(request.path) or answer
        if fault.kind == "corrupt":
            content = bytearray(b"".join(answer.parts(CHUNK)))
            if content:
                content[len(content) // 2] ^= 1
            return Answer(answer.status, answer.headers, bytes(content))
        return answer

    def _send(self, answer: Answer, fault: Fault | None, request_id: str, *, with_body: bool) -> None:
        cut = fault is not None and fault.kind == "truncate"
        chunk_size = 1024 if fault is not None and fault.kind == "slow" else CHUNK
        self._keep = self._keep and not cut
        headers = {
            **answer.headers, "Date": formatdate(usegmt=True), "X-Request-Id": request_id,
            "Connection": "keep-alive" if self._keep else "close",
        }  # fmt: skip
        if answer.status != HTTPStatus.NOT_MODIFIED:  # there, it would be the length of the whole file
            headers["Content-Length"] = str(answer.size)
        reason = re.sub("[^ -~]", "?", answer.reason) or HTTPStatus(answer.status).phrase
        lines = [f"HTTP/1.1 {answer.status} {reason}"]
        lines += [f"{name}: {re.sub('[^ -~]', '?', value)}" for name, value in headers.items()]
        self._writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        left = (answer.size // 2 if cut else answer.size) if with_body else 0
        for part in answer.parts(chunk_size) if left else ():
            if left <= 0:
                break
            self._sent += self._writer.write(part[:left])
            left -= len(part)
            if fault is not None and fault.kind == "slow":
                self._writer.flush()
                time.sleep(fault.seconds)
        self._writer.flush()
