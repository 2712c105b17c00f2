"""A judge whose mind is known: an OpenAI-compatible server in this process, or one of its own (`python -m`)."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ASKED = re.compile(
    r"^(#\w{8}#) CONVERSATION\n(.*)\n\n\1 ANSWER A\n(.*)\n\n\1 ANSWER B\n(.*)\n\n\1 END$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Seen:
    """A comparison as the judge reads it, and how often it was asked to repeat its verdict."""

    conversation: str
    a: str
    b: str
    turn: int


Mind = Callable[[Seen], str]


def first(_: Seen) -> str:
    return "The first one stands first.\nVerdict: A"


def longer(seen: Seen) -> str:
    return f"Verdict: {'tie' if len(seen.a) == len(seen.b) else 'A' if len(seen.a) > len(seen.b) else 'B'}"


@dataclass
class JudgeServer:
    """What the server does, and what it was asked."""

    mind: Mind
    models: list[str] | None = field(default_factory=lambda: ["judge-1"])
    """None for a server without a list."""
    any_name: bool = False
    """Whether it answers whatever model is asked for."""
    key: str | None = None
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the answers to the next comparisons, before any is answered."""
    refuses: Callable[[dict[str, Any]], tuple[int, str] | None] = lambda _: None
    page: str | None = None
    """What it answers to every request, in place of an API."""
    usage: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    """Members of an answer in place of those that it would have."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each text was asked and answered."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most: int = 0
    """Most requests at the same time."""
    url: str = ""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        if self.models is not None and body["model"] not in self.models and not self.any_name:
            return 404, {}, {"error": {"message": f"The model {body['model']} does not exist."}}
        if (refusal := self.refuses(body)) is not None:
            return refusal[0], {}, {"error": {"message": refusal[1]}}
        text = body["messages"][0]["content"]
        found = _ASKED.search(text)
        reply = "ready"
        with self._lock:
            if found is not None and self.faults:
                status, headers = self.faults.pop(0)
                return status, headers, {"error": {"message": "later"}}
            self.bodies.append(body)
            self._now += 1
            self.most = max(self.most, self._now)
        if found is not None:
            turn = len(body["messages"]) // 2
            reply = self.mind(Seen(*found.groups()[1:], turn))
            with self._lock:
                self.asked[f"{turn}{text}"] += 1
        with self._lock:
            self._now -= 1
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}
        usage = {"usage": {"prompt_tokens": len(text.split()), "completion_tokens": len(reply.split())}}
        return 200, {}, {"model": "judge-1-0426", "choices": [message], **(usage if self.usage else {}), **self.extra}


@contextmanager
def serving(mind: Mind, **options: Any) -> Iterator[JudgeServer]:
    state = JudgeServer(mind, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, status: int, headers: dict[str, str], body: Any) -> None:
            data = (json.dumps(body) if state.page is None else state.page).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": len(data), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        def _is_allowed(self) -> bool:
            state.headers.append(dict(self.headers))
            if state.key is None or self.headers.get("authorization") == f"Bearer {state.key}":
                return True
            given = self.headers.get("authorization", "").removeprefix("Bearer ")
            self._send(401, {}, {"error": {"message": f"Incorrect API key provided: {given}"}})
            return False

        def do_GET(self) -> None:
            if not self._is_allowed():
                return
            if state.models is None or self.path != "/v1/models":
                self._send(404, {}, {"detail": "Not Found"})
            else:
                self._send(200, {}, {"object": "list", "data": [{"id": name} for name in state.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self._is_allowed():
                self._send(
                    *state.answer(body) if self.path == "/v1/chat/completions" else (404, {}, {"detail": "Not Found"})
                )

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
