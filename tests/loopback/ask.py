"""Send a request to the loopback Hub with http.client, without following redirects or raising for a status."""

from __future__ import annotations

import http.client
import io
import json
from typing import Any, NamedTuple

from hubdpo.loopback.server import LoopbackHub


class Body(io.BytesIO):
    """A body for a request that is not sent."""

    allow = trust = lambda *_: None


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(server: LoopbackHub, method: str, path: str, body: Any = None, *, token: str = "", **headers: str) -> Answered:
    """Send a request; `body` is sent as JSON unless it is bytes."""
    connection = http.client.HTTPConnection(server.endpoint.partition("//")[2], timeout=60)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    if data is not None:
        headers = {"Content-Type": "application/json", **headers}
    if token:
        headers = {"Authorization": f"Bearer {token}", **headers}
    try:
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return Answered(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()
