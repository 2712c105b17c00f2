"""Thousands of mutated real requests are all answered, and the Hub stays intact.

10,000 of them, or 100,000 with HUBDPO_STORM=1; HUBDPO_FUZZ_SEED draws others.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubdpo.loopback.server import LoopbackHub
from tests.loopback.mutations import Sent, mutated, record
from tests.loopback.raw import STATUS
from tests.loopback.test_loopback_hostile import whole

COUNT = 100_000 if os.environ.get("HUBDPO_STORM") else 10_000
SEED = int(os.environ.get("HUBDPO_FUZZ_SEED", "21"))
CLIENTS = 4
GROWTH_MB = 60
TOKENS = "carol:hf_carol dave:hf_dave eve:hf_eve:read"


@pytest.fixture
def recorded(tmp_path: Path) -> list[Sent]:
    with LoopbackHub(tmp_path / "root" / "hub", tokens=TOKENS.split(), orgs=["team:carol,dave"]) as hub:
        return record(hub, tmp_path)


class Server:
    """`serve-hub` on the folder of the recorded requests, so that their signatures are valid."""

    def __init__(self, root: Path, said: Path) -> None:
        command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(root)]
        self._said = said
        with said.open("w") as stream:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stream, text=True,
                env={**os.environ, "HUBDPO_HUB_TOKENS": TOKENS},
            )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().strip().rpartition(":")[2])

    def status(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+([0-9]+)", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self._said.read_text()


@pytest.fixture
def server(recorded: list[Sent], tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "root" / "hub", tmp_path / "said")
    yield made
    if made.process.returncode is None:
        made.stop()


class Client:
    """Send requests on kept-alive connections, and match each answer with its request."""

    def __init__(self, port: int) -> None:
        self.port, self.host = port, f"127.0.0.1:{port}"
        self.connection: socket.socket | None = None

    def answered(self, sent: Sent, data: bytes | None) -> int:
        """Return the status of the first answer, 0 for no or a partial answer."""
        framed = data is None and not sent.framing and "expect" not in str(sent.headers).lower()
        if self.connection is None:
            self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=40)
        connection = self.connection
        try:
            connection.sendall(sent.bytes(self.host) if data is None else data.replace(b"HOST", self.host.encode()))
            if not framed:  # its end may be anywhere: that nothing more comes tells it
                connection.shutdown(socket.SHUT_WR)
        except ConnectionError:  # refused before all of it was sent
            framed = False
        received = b""
        status, piece = 0, b""
        while not (framed and status):
            try:
                piece = connection.recv(1 << 20)
            except (ConnectionResetError, TimeoutError):
                piece = b""
            received += piece
            status = self._first(received, head=sent.method == "HEAD" and data is None, ended=not piece)
            if not piece:
                break
        if not framed or not piece or b"\r\nConnection: close" in received:
            self.close()
        return status

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _first(self, received: bytes, *, head: bool, ended: bool) -> int:
        while (match := STATUS.match(received)) and match[1] == b"100":
            received = received.partition(b"\r\n\r\n")[2]
        start, end, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: ([0-9]+)", start)
        if match and end and length and (head or len(rest) >= int(length[1]) or start.startswith(b"HEAD")):
            return int(match[1])
        return int(match[1]) if match and end and ended else 0


@pytest.mark.slow
def test_every_mutation_of_a_real_request_is_answered(recorded: list[Sent], server: Server, tmp_path: Path) -> None:
    assert len(recorded) > 100 and {sent.method for sent in recorded} >= {"GET", "HEAD", "POST", "PUT", "DELETE"}
    seen: Counter[int] = Counter()
    unanswered: list[bytes] = []
    sizes: list[int] = []

    def send(number: int) -> None:
        draw, client = random.Random(f"{SEED} {number}"), Client(server.port)
        for turn in range(COUNT // CLIENTS):
            sent, data = mutated(draw.choice(recorded), draw)
            status = client.answered(sent, data)
            seen[status] += 1
            if status in (0, 500):
                unanswered.append((data or sent.bytes("HOST"))[:3000])
            if unanswered:
                break
            if number == 0 and turn % 50 == 0:
                sizes.append(server.status("VmRSS") // 1024)
        client.close()

    started = time.monotonic()
    clients = [threading.Thread(target=send, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.monotonic() - started
    peak = server.status("VmHWM") // 1024
    deadline = time.monotonic() + 20
    while server.status("Threads") > CLIENTS + 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    threads = server.status("Threads")
    said = server.stop()
    sys.stdout.write(
        f"\n{COUNT} mutations of {len(recorded)} requests, seed {SEED}, in {seconds:.1f} s: {sorted(seen.items())}\n"
        f"memory: {sizes[0]} MB at first, {sizes[len(sizes) // 4]} after a quarter, {sizes[-1]} at last, peak {peak}\n"
    )
    assert unanswered == []
    assert "Traceback" not in said, said[-3000:]
    assert seen[200] > COUNT / 20 and {400, 401, 403, 404, 409, 413, 415, 421, 501} <= set(seen)
    assert sizes[-1] - sizes[len(sizes) // 4] < GROWTH_MB and peak < 500
    assert threads <= CLIENTS + 2
    assert not list((tmp_path / "root" / "hub" / "incoming").iterdir())
    whole(tmp_path / "root" / "hub")
