"""Malformed, smuggled, oversized and foreign requests are refused quickly."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hubdpo.loopback import limits
from hubdpo.loopback.http import connections
from hubdpo.loopback.http.requests import SentBody
from hubdpo.loopback.http.wire import Answer
from hubdpo.loopback.limits import LARGEST_HEAD, LONGEST_LINE, MOST_HEADERS, STRANGER_BODY
from hubdpo.loopback.server import LoopbackHub
from tests.loopback.raw import port_of, talk


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path_factory.mktemp("wire") / "hub", tokens=["carol:hf_carol", "eve:hf_eve:read"]) as made:
        yield made


GET = "GET /api/models HTTP/1.1\r\nHOST\r\n"
POST = "POST /api/validate-yaml HTTP/1.1\r\nHOST\r\nContent-Type: application/json\r\n"
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = "GET /api/whoami-v2 HTTP/1.1\r\nHOST\r\n\r\n"
AUTHORIZED = "Authorization: Bearer hf_carol\r\n"

SHAPES: dict[str, tuple[int, str]] = {
    "length: negative": (400, POST + "Content-Length: -5\r\n\r\n{}"),
    "length: word": (400, POST + "Content-Length: abc\r\n\r\n{}"),
    "length: plus": (400, POST + "Content-Length: +2\r\n\r\n{}"),
    "length: empty": (400, POST + "Content-Length:\r\n\r\n{}"),
    "length: list": (400, POST + "Content-Length: 2, 2\r\n\r\n{}"),
    "length: two that differ": (400, POST + "Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}" + SMUGGLED),
    "length: of 30 digits": (400, POST + f"Content-Length: {10**30}\r\n\r\n{{}}"),
    "length: space before the colon": (400, POST + f"Content-Length : {len(SMUGGLED)}\r\n\r\n" + SMUGGLED),
    "length: other digits": (400, POST + "Content-Length: \xb2\r\n\r\n{}"),
    "length: and chunks": (400, POST + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "length: of a terabyte": (413, POST + "Content-Length: 1000000000000\r\n\r\n{}"),
    "coding: xchunkedx": (501, POST + "Transfer-Encoding: xchunkedx\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "coding: gzip, chunked": (501, POST + "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "coding: twice": (400, POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "coding: before 1.1": (400, CHUNKED.replace("/1.1", "/1.0") + "2\r\n{}\r\n0\r\n\r\n"),
    "chunk: negative": (400, CHUNKED + "-1\r\n{}\r\n0\r\n\r\n"),
    "chunk: word": (400, CHUNKED + "zz\r\n{}\r\n0\r\n\r\n"),
    "chunk: underscore": (400, CHUNKED + "1_0\r\n{}\r\n0\r\n\r\n"),
    "chunk: 0x": (400, CHUNKED + "0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk: empty size": (400, CHUNKED + "\r\n{}\r\n0\r\n\r\n"),
    "chunk: of a terabyte": (413, CHUNKED + "ffffffffff\r\n{}\r\n0\r\n\r\n"),
    "chunk: of 40 digits": (400, CHUNKED + "f" * 40 + "\r\n{}\r\n0\r\n\r\n"),
    "chunk: longer than it says": (400, CHUNKED + "2\r\n{}XX\r\n0\r\n\r\n"),
    "chunk: a request in its place": (400, CHUNKED + f"2\r\n{{}}{SMUGGLED}0\r\n\r\n" + SMUGGLED),
    "chunk: bare line ends": (400, CHUNKED + "2\n{}\n0\n\n" + SMUGGLED),
    "chunk: endless trailers": (400, CHUNKED + "2\r\n{}\r\n0\r\n" + "x: y\r\n" * 200),
    "head: HTTP/0.9": (400, "GET /api/models\r\n"),
    "head: HTTP/2": (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "head: TLS": (400, "\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03\r\n\r\n"),
    "head: empty line": (400, "\r\n\r\n" + GET + "\r\n"),
    "head: bare line ends": (400, GET.replace("\r", "") + "\n"),
    "head: control character": (400, GET + "X: a\0b\r\n\r\n"),
    "head: folded header": (400, GET + "X: a\r\n b\r\n\r\n"),
    "head: header without a colon": (400, GET + "X\r\n\r\n"),
    "head: name that is none": (400, GET + "X(y): 1\r\n\r\n"),
    "head: spaces in the target": (400, "GET /a b HTTP/1.1\r\nHOST\r\n\r\n"),
    "head: long target": (414, f"GET /{'a' * LONGEST_LINE} HTTP/1.1\r\nHOST\r\n\r\n"),
    "head: long header": (431, GET + f"X: {'a' * LONGEST_LINE}\r\n\r\n"),
    "head: many headers": (431, GET + "X: y\r\n" * MOST_HEADERS + "\r\n"),
    "head: large headers": (431, GET + f"X: {'a' * 10_000}\r\n" * (LARGEST_HEAD // 10_000 + 1) + "\r\n"),
    "head: unknown method": (501, "BREW / HTTP/1.1\r\nHOST\r\n\r\n"),
    "head: two tokens": (400, GET + AUTHORIZED + "Authorization: Bearer hf_eve\r\n\r\n"),
    "host: another": (421, "GET /api/models HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    "host: another with our port": (421, "GET /api/models HTTP/1.1\r\nHost: evil.example:PORT\r\n\r\n"),
    "host: ours with more": (421, "GET /api/models HTTP/1.1\r\nHost: 127.0.0.1:PORT.evil.example\r\n\r\n"),
    "host: another port": (421, "GET /api/models HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"),
    "host: none": (421, "GET /api/models HTTP/1.1\r\n\r\n"),
    "host: two": (400, GET + "Host: evil.example\r\n\r\n"),
    "host: for a large file": (421, "GET /_cdn/x HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    "origin: another": (403, POST + AUTHORIZED + "Origin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}"),
    "origin: null": (403, POST + AUTHORIZED + "Origin: null\r\nContent-Length: 2\r\n\r\n{}"),
    "origin: another port": (403, POST + "Origin: http://127.0.0.1:1\r\nContent-Length: 2\r\n\r\n{}"),
    "origin: to ask first": (403, "OPTIONS /api/models HTTP/1.1\r\nHOST\r\nOrigin: http://evil.example\r\n\r\n"),
    "type: a form": (415, POST.replace("application/json", "text/plain") + "Content-Length: 2\r\n\r\n{}"),
    "type: none": (415, POST.replace("Content-Type: application/json\r\n", "") + "Content-Length: 2\r\n\r\n{}"),
    "json: deep": (400, POST + "Content-Length: 200000\r\n\r\n" + "[" * 200_000),
    "json: deeper than any client's": (400, POST + 'Content-Length: 87\r\n\r\n{"a":' + "[" * 40 + "1" + "]" * 40 + "}"),
    "signature: not ASCII": (403, f"GET /_cdn/{'0' * 64}?until=9&signature=%C3%A9 HTTP/1.1\r\nHOST\r\n\r\n"),
    "signature: until no number": (403, f"GET /_cdn/{'0' * 64}?until=%C2%B2&signature=0 HTTP/1.1\r\nHOST\r\n\r\n"),
    "token: not ASCII": (401, "GET /api/whoami-v2 HTTP/1.1\r\nHOST\r\nAuthorization: Bearer \xe9\r\n\r\n"),
    "xet token: not ASCII": (401, "GET /_xet/v1/chunks/x/y HTTP/1.1\r\nHOST\r\nAuthorization: Bearer x.\xe9\r\n\r\n"),
    "body: too long for a stranger": (413, POST + f"Content-Length: {STRANGER_BODY + 1}\r\n\r\n{{}}"),
    "body: too long for a reader": (
        413, POST + f"Authorization: Bearer hf_eve\r\nContent-Length: {STRANGER_BODY + 1}\r\n\r\n{{}}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_malformed_request_is_refused_once(hub: LoopbackHub, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, sent = SHAPES[name]
    answer = talk(hub.endpoint, sent.replace("PORT", str(port_of(hub.endpoint))))
    assert (answer.statuses, capfd.readouterr().err) == ([status], "")
    assert b"X-Request-Id" in answer.received and len(answer.received) < 2000


TAKEN = {
    "chunks": CHUNKED + "1;x=y\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n",
    "range that is none": GET + "Range: bytes=\xb2-\xb3\r\n\r\n",
    "localhost": "GET /api/models HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n",
    "IPv6 name": "GET /api/models HTTP/1.1\r\nHost: [::1]:PORT\r\n\r\n",
    "own page": POST + "Origin: http://localhost:PORT\r\nContent-Length: 2\r\n\r\n{}",
    "another page may look": GET + "Origin: http://evil.example\r\n\r\n",
    "spaces round a value": GET + "X: \t a \t\r\n\r\n",
}


@pytest.mark.parametrize("name", TAKEN)
def test_an_unusual_request_is_answered_and_the_next_one_too(hub: LoopbackHub, name: str) -> None:
    answer = talk(hub.endpoint, (TAKEN[name] + GET + "\r\n").replace("PORT", str(port_of(hub.endpoint))), answers=2)
    assert (answer.statuses, answer.closed) == ([200, 200], False)


def test_a_client_that_asks_first_hears_the_refusal_before_it_sends(hub: LoopbackHub) -> None:
    sent = POST + "Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n"
    assert talk(hub.endpoint, sent).statuses == [413]
    unknown = "Authorization: Bearer hf_none\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert talk(hub.endpoint, POST + unknown)[:2] == ([401], True)
    assert talk(hub.endpoint, POST + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}").statuses[0] == 100


@pytest.mark.parametrize("token", ["", "Authorization: Bearer hf_eve\r\n"])
def test_a_large_body_without_a_write_token_is_never_in_memory(hub: LoopbackHub, token: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = "POST /api/repos/create HTTP/1.1\r\nHOST\r\nContent-Type: application/json\r\n" + token
    with socket.create_connection(("127.0.0.1", port_of(hub.endpoint)), timeout=20) as connection:
        head = f"Host: 127.0.0.1:{port_of(hub.endpoint)}\r\nContent-Length: 100000000\r\n\r\n"
        connection.sendall(sent.replace("HOST\r\n", "").encode() + head.encode())
        for _ in range(100):
            connection.sendall(bytes(1_000_000))
        assert connection.recv(20).startswith(b"HTTP/1.1 413")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_idle_clients_lock_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "most_connections", lambda: 20)
    held: list[socket.socket] = []
    before = threading.active_count()
    with LoopbackHub(tmp_path / "hub") as hub:
        for number in range(80):
            held.append(socket.create_connection(("127.0.0.1", port_of(hub.endpoint)), timeout=20))
            # nothing, half a head, half a body
            half = (b"", b"GET / HT", POST.replace("HOST", f"Host: 127.0.0.1:{port_of(hub.endpoint)}").encode())
            held[-1].sendall(half[number % 3] + (b"Content-Length: 9\r\n\r\n{" if number % 3 == 2 else b""))
        started = time.monotonic()
        for _ in range(30):
            assert talk(hub.endpoint, GET + "Connection: close\r\n\r\n").statuses == [200]
        assert time.monotonic() - started < 30
        assert hub._server.listener.served <= 20 and threading.active_count() - before < 25
        refused = [connection.recv(100)[:12] for connection in held[:40]]
        assert set(refused) == {b"", b"HTTP/1.1 503", b"HTTP/1.1 400"}
        for connection in held:
            connection.close()


def test_a_client_beyond_the_limit_is_answered_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections are taken by clients that are sending with a write token."""
    monkeypatch.setattr(limits, "most_connections", lambda: 2)
    real, trusted = SentBody.trust, threading.Semaphore(0)
    monkeypatch.setattr(SentBody, "trust", lambda self: (real(self), trusted.release()))
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        sent = POST + AUTHORIZED + "Content-Length: 9\r\n\r\n{"
        held = [socket.create_connection(("127.0.0.1", port_of(hub.endpoint)), timeout=20) for _ in range(2)]
        for connection in held:
            connection.sendall(sent.replace("HOST", f"Host: 127.0.0.1:{port_of(hub.endpoint)}").encode())
        assert trusted.acquire(timeout=20) and trusted.acquire(timeout=20)
        assert talk(hub.endpoint, GET + "\r\n").statuses == [503]
        held[0].sendall(b'"a": 1} ')
        assert held[0].recv(20).startswith(b"HTTP/1.1 200")
        assert talk(hub.endpoint, GET + "\r\n").statuses == [200]
        for connection in held:
            connection.close()


def test_clients_that_read_no_answer_lock_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "most_connections", lambda: 4)
    with LoopbackHub(tmp_path / "hub") as hub:
        real = hub.answer
        monkeypatch.setattr(hub, "answer", lambda r: Answer(200, {}, bytes(50_000_000)) if "big" in r.path else real(r))
        held = [socket.create_connection(("127.0.0.1", port_of(hub.endpoint)), timeout=20) for _ in range(8)]
        for connection in held:
            connection.sendall(f"GET /big HTTP/1.1\r\nHost: 127.0.0.1:{port_of(hub.endpoint)}\r\n\r\n".encode())
        time.sleep(0.5)
        started = time.monotonic()
        assert talk(hub.endpoint, GET + "\r\n").statuses == [200]
        assert time.monotonic() - started < 20
        for connection in held:
            connection.close()


def test_without_files_the_server_rests_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        real, calls = hub._server.listener.socket.accept, [0]

        class Listening:
            def accept(self) -> object:
                calls[0] += 1
                if time.monotonic() < until:
                    raise OSError(24, "Too many open files")
                return real()

            def __getattr__(self, name: str) -> object:
                return getattr(listening, name)

        listening, until = hub._server.listener.socket, time.monotonic() + 1
        monkeypatch.setattr(hub._server.listener, "socket", Listening())
        assert talk(hub.endpoint, GET + "\r\n").statuses == [200]
        assert calls[0] < 30
        monkeypatch.undo()


SLOW = {
    "no request at all": ("", []),
    "half a head": ("GET / HT", [408]),
    "half a body of a stranger": (POST + "Content-Length: 9\r\n\r\n{", [408]),
    "half a body of a writer": (POST + AUTHORIZED + "Content-Length: 9\r\n\r\n{", [408]),
    "half a chunk": (CHUNKED + "9\r\n{", [408]),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_client_that_stops_sending_gets_a_408(hub: LoopbackHub, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("IDLE_S", "HEAD_S", "STRANGER_S"):
        monkeypatch.setattr(limits, limit, 0.3)
    monkeypatch.setattr(connections, "PAUSE_S", 0.3)
    sent, statuses = SLOW[name]
    answer = talk(hub.endpoint, sent, patience=8)
    assert (answer.statuses, answer.closed) == (statuses, True)


def test_a_dripping_head_has_a_time_limit(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 0.5)
    with socket.create_connection(("127.0.0.1", port_of(hub.endpoint)), timeout=20) as connection:
        for _ in range(100):
            try:
                connection.sendall(b"G")
            except ConnectionError:
                break
            time.sleep(0.03)
        assert connection.recv(20)[9:12] == b"408"


@pytest.mark.parametrize(("token", "status"), [(AUTHORIZED, b"200"), ("", b"408")])
def test_only_a_client_with_a_write_token_may_send_slowly(
    hub: LoopbackHub, token: str, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STRANGER_S", 0.5)
    body = json.dumps({"content": "---\nlicense: mit\n---\n"}).encode()
    sent = (
        POST.replace("HOST", f"Host: 127.0.0.1:{port_of(hub.endpoint)}")
        + token
        + f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port_of(hub.endpoint)), timeout=20) as connection:
        connection.sendall(sent.encode())
        for byte in body[:-1]:
            time.sleep(0.03)
            try:
                connection.sendall(bytes([byte]))
            except ConnectionError:
                break
        else:
            connection.sendall(body[-1:])
        assert connection.recv(20)[9:12] == status


def test_a_commit_larger_than_memory_should_be_is_kept_on_disk(hub: LoopbackHub) -> None:
    from huggingface_hub import CommitOperationAdd

    api = HfApi(endpoint=hub.endpoint, token="hf_carol")
    api.create_repo("carol/many")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = [CommitOperationAdd(f"{number}.txt", bytes([65 + number]) * 5_000_000) for number in range(3)]
    api.create_commit("carol/many", files, commit_message="many")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    connection = http.client.HTTPConnection("127.0.0.1", port_of(hub.endpoint), timeout=20)
    connection.request("GET", "/carol/many/resolve/main/2.txt")
    assert connection.getresponse().read() == b"C" * 5_000_000
    connection.close()
