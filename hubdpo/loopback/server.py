"""The loopback Hub as an HTTP server on 127.0.0.1."""

from __future__ import annotations

import re
import socket
import struct
import sys
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hubdpo import console
from hubdpo.errors import ConfigError
from hubdpo.loopback.faults import Fault, Faults
from hubdpo.loopback.routes import Routes
from hubdpo.loopback.store import CHUNK, Store
from hubdpo.loopback.tokens import parse_token
from hubdpo.loopback.wire import Answer, Refusal, Request

HOST = "127.0.0.1"
LOGGED = 10_000
LONGEST_LINE = 8192
"""Most bytes of a line between the chunks of a body."""


@dataclass(frozen=True)
class Logged:
    """One request as it was answered; `status` 0 when no answer was sent. The token itself is never kept.

    `received` and `sent` count the bytes of the bodies; `id` is what the answer's `X-Request-Id` says.
    """

    method: str
    path: str
    status: int
    host: str
    sent_token: bool
    received: int = 0
    sent: int = 0
    id: str = ""


class LoopbackHub:
    """A Hub that keeps its repos in a folder; made when missing, one server at a time.

    `tokens` are `NAME:VALUE[:read|write]` and stay valid across restarts. Raise ConfigError when the port is taken,
    the folder is in use or a token is malformed.
    """

    def __init__(self, root: Path, *, port: int = 0, tokens: Sequence[str] = ()) -> None:
        parsed = [parse_token(token) for token in tokens]
        self._store = Store(root)
        for name, value, may_write in parsed:
            self._store.add_token(name, value, may_write=may_write)
        self.faults = Faults()
        self.requests: deque[Logged] = deque(maxlen=LOGGED)
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as problem:
            self._store.close()
            raise ConfigError(
                f"port {port} cannot be used: {problem.strerror}", hint="--port 0 takes a free one"
            ) from None
        self.endpoint = f"http://{HOST}:{self._server.server_address[1]}"
        self._server.hub = self
        self._routes = Routes(self._store, self.endpoint)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve in a thread of its own until `stop`."""
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def serve_forever(self) -> None:
        """Serve in this thread until it is interrupted."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, request: Request) -> Answer:
        """Answer a request. What fails without being foreseen is a 500, with its traceback on stderr."""
        try:
            return self._routes.answer(request)
        except (ConnectionError, TimeoutError):  # the client went away
            raise
        except Exception:
            console.bug(f"request {request.id}: {request.method} {request.path!a}\n{traceback.format_exc()}")
            return Refusal(500, f"Internal Server Error, request {request.id}").answer()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: LoopbackHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):  # a client that went away
            super().handle_error(request, client_address)


class _Body:
    """The body of a request, by Content-Length or in chunks."""

    def __init__(self, stream: Any, headers: dict[str, str]) -> None:
        self._stream = stream
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self.broken = False
        """Whether the end of the body cannot be found, so that the connection cannot be used again."""
        self._left = self._number(headers.get("content-length") or "0", 10)
        self._done = not self._chunked and self._left == 0
        self.count = 0
        """Bytes that were read."""

    def read(self, size: int = -1) -> bytes:
        if self.broken:
            raise Refusal(400, "the body has no length that can be read")
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if not self._done and self._chunked and self._left == 0:
            self._next_chunk()
        if self.broken:
            return self.read(size)
        if self._done:
            return b""
        data: bytes = self._stream.read(min(size, self._left))
        if not data:
            raise ConnectionError("the client went away")
        self._left -= len(data)
        self.count += len(data)
        if self._left == 0:
            if self._chunked:
                self._stream.readline(LONGEST_LINE)
            else:
                self._done = True
        return data

    def _next_chunk(self) -> None:
        self._left = self._number(self._stream.readline(LONGEST_LINE).partition(b";")[0].strip().decode("latin-1"), 16)
        if self._left == 0:
            while not self.broken and self._stream.readline(LONGEST_LINE).strip():
                pass
            self._done = True

    def _number(self, text: str, base: int) -> int:
        """Return a length; 0 for what is none, after which nothing more is read."""
        digits = "[0-9]{1,18}" if base == 10 else "[0-9A-Fa-f]{1,15}"
        self.broken = not re.fullmatch(digits, text)
        return 0 if self.broken else int(text, base)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    server: _Server
    request_id = ""

    def handle_request(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
        self.request_id = given if re.fullmatch(r"[\w.:=;-]{1,128}", given, re.ASCII) else uuid.uuid4().hex
        path, _, query = self.path.partition("#")[0].partition("?")
        body = _Body(self.rfile, headers)
        request = Request(self.command, path, query, headers, body, id=self.request_id)
        fault = self.server.hub.faults.meeting(request.method, request.path)
        answer = self._faulty(fault, request) if fault else self.server.hub.answer(request)
        while (
            answer and not body.broken and body.read(CHUNK)
        ):  # what a refusal left unread would be taken for the next request
            pass
        if answer and body.broken:
            answer, self.close_connection = Refusal(400, "the body has no length that can be read").answer(), True
        status, size = (answer.status, answer.size) if answer else (0, 0)
        self.server.hub.requests.append(
            Logged(
                request.method, request.path, status, headers.get("host", ""), "authorization" in headers,
                received=body.count, sent=0 if request.method == "HEAD" else size, id=request.id,
            )
        )  # fmt: skip
        if answer is None:
            self._reset()
            return
        if fault is None and request.method == "GET" and request.path.endswith("/refs") and answer.status == 200:
            self.server.hub.faults.remember(request.path, answer)
        self._send(answer, fault)

    # the names that http.server looks for
    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_request  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is not HTTP, or a method that nothing here answers, and close the connection."""
        self.request_id, self.close_connection = uuid.uuid4().hex, True
        self._send(Refusal(code, message or HTTPStatus(code).phrase).answer(), None)

    def _faulty(self, fault: Fault, request: Request) -> Answer | None:
        if fault.kind == "reset-before":
            return None
        if fault.kind == "status":
            return Answer(fault.status, {"Content-Type": "application/json", **fault.headers}, b'{"error": "injected"}')
        if fault.kind == "sleep":
            time.sleep(fault.seconds)
        if fault.kind == "hang-before":
            self._hang(fault)
            return None
        answer = self.server.hub.answer(request)
        if fault.kind == "hang-after":
            self._hang(fault)
            return None
        if fault.kind == "reset-after":
            return None
        if fault.kind == "stale" and answer.status == 200:
            return self.server.hub.faults.before(request.path) or answer
        if fault.kind == "corrupt":
            content = bytearray(b"".join(answer.parts(CHUNK)))
            if content:
                content[len(content) // 2] ^= 1
            return Answer(answer.status, answer.headers, bytes(content))
        return answer

    def _hang(self, fault: Fault) -> None:
        fault.reached.set()
        while self.connection.recv(CHUNK):  # what is still sent goes nowhere; an end means that the client left
            pass

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        cut = fault is not None and fault.kind == "truncate"
        chunk_size = 1024 if fault is not None and fault.kind == "slow" else CHUNK
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", self.request_id)
        self.send_header("Content-Length", str(answer.size))
        self.end_headers()
        if self.command == "HEAD":
            return
        left = answer.size // 2 if cut else answer.size
        for part in answer.parts(chunk_size):
            if left <= 0:
                break
            self.wfile.write(part[:left])
            left -= len(part)
            if fault is not None and fault.kind == "slow":
                self.wfile.flush()
                time.sleep(fault.seconds)
        self.wfile.flush()
        self.close_connection = self.close_connection or cut

    def _reset(self) -> None:
        self.close_connection = True
        # linger of zero seconds: the peer sees a reset, not an end
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `LoopbackHub.requests` has the log."""
