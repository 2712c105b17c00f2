"""Record the requests of real clients at the loopback Hub, and mutate them with a seed."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from hubdpo.loopback.http.wire import Answer, Request
from hubdpo.loopback.server import LoopbackHub
from tests.loopback.ask import ask
from tests.loopback.test_loopback_xet import SEND_AND_READ, by_xet


@dataclass
class Sent:
    """A recorded request: `framing` has the headers on the length of the body, `wrapped` the body as it is sent."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    framing: list[tuple[str, str]] = field(default_factory=list)
    wrapped: bytes | None = None

    def bytes(self, host: str) -> bytes:
        own = [] if any(name == "Host" for name, _ in self.headers) else [f"Host: {host}"]
        lines = [f"{self.method} {self.target} HTTP/1.1", *own]
        body = self.body if self.wrapped is None else self.wrapped
        framing = self.framing or [("Content-Length", str(len(body)))] * bool(body)
        lines += [f"{name}: {value}" for name, value in [*self.headers, *framing]]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1", "replace") + body


class Recorder:
    """Record the requests of a Hub; bodies are read whole, within the limit of their route."""

    def __init__(self, hub: LoopbackHub) -> None:
        self.requests: list[Sent] = []
        self._answer, self._guard = hub.answer, threading.Lock()
        hub.answer = self.answer  # type: ignore[method-assign]

    def answer(self, request: Request) -> Answer:
        real, parts = request.body, []

        class Tee:
            trust, allow = real.trust, real.allow

            def read(self, size: int) -> bytes:
                parts.append(real.read(size))
                return parts[-1]

        request.body = Tee()
        answer = self._answer(request)
        request.body = real
        left_out = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent")
        headers = [(name, value) for name, value in request.headers.items() if name not in left_out]
        target = request.path + (f"?{request.query}" if request.query else "")
        with self._guard:
            self.requests.append(Sent(request.method, target, headers, b"".join(parts)))
        return answer


def record(hub: LoopbackHub, folder: Path) -> list[Sent]:
    """Upload and download with the real clients, by LFS and by Xet. Return their requests."""
    recorder = Recorder(hub)
    api = HfApi(endpoint=hub.endpoint, token="hf_carol")
    card = b"---\nlicense: mit\ntags: [a, b]\ndatasets: [carol/data]\n---\n# Card\n"
    content = {"README.md": card, "a/b.txt": b"text" * 50, "w.safetensors": bytes(range(256)) * 20}
    for kind in ("model", "dataset"):
        for name in ("carol/x", "carol/y", "carol/gone"):
            api.create_repo(name, repo_type=kind, exist_ok=True)
            operations = [CommitOperationAdd(path, data) for path, data in content.items()]
            api.create_commit(name, operations, commit_message="files", repo_type=kind)
        api.create_commit(
            "carol/x", [CommitOperationAdd("c.txt", b"c"), CommitOperationDelete("a/b.txt")], repo_type=kind,
            commit_message="more", commit_description="why", create_pr=True,
        )  # fmt: skip
        api.merge_pull_request("carol/x", 1, repo_type=kind)
        api.create_discussion("carol/x", "a title", description="text", repo_type=kind)
        api.comment_discussion("carol/x", 2, "text", repo_type=kind)
        api.change_discussion_status("carol/x", 2, "closed", repo_type=kind)
        list(api.get_repo_discussions("carol/x", repo_type=kind))
        api.get_discussion_details("carol/x", 1, repo_type=kind)
        api.create_tag("carol/x", tag="v1", tag_message="first", repo_type=kind)
        api.create_branch("carol/x", branch="topic", repo_type=kind)
        api.delete_branch("carol/x", branch="topic", repo_type=kind)
        api.list_repo_refs("carol/x", repo_type=kind)
        api.list_repo_commits("carol/x", repo_type=kind)
        list(api.list_repo_tree("carol/x", recursive=True, expand=True, repo_type=kind))
        api.get_paths_info("carol/x", ["README.md", "a"], expand=True, repo_type=kind)
        api.repo_info("carol/x", files_metadata=True, repo_type=kind)
        api.snapshot_download("carol/x", cache_dir=folder / "cache", repo_type=kind)
        api.update_repo_settings("carol/y", private=True, repo_type=kind)
        files = list(api.list_lfs_files("carol/gone", repo_type=kind))
        api.permanently_delete_lfs_files("carol/gone", files, repo_type=kind)
        api.delete_repo("carol/gone", repo_type=kind)
        api.move_repo("carol/y", "team/z", repo_type=kind)
        api.repo_info("carol/y", repo_type=kind)
        api.move_repo("team/z", "carol/y", repo_type=kind)
    collection = api.create_collection("mine", description="text")
    api.add_collection_item(collection.slug, "carol/x", "model", note="text")
    api.get_collection(collection.slug)
    list(api.list_collections(owner="carol"))
    list(api.list_models(author="carol"))
    list(api.list_models(search="x", filter="dpo", sort="last_modified", full=True, limit=1))
    list(api.list_datasets(expand=["usedStorage", "siblings"], sort="created_at"))
    list(api.list_user_repos())
    for path in ("organizations/team/members", "organizations/team/overview", "users/carol/overview"):
        ask(hub, "GET", f"/api/{path}", token="hf_carol")
    copied = {"target": {"type": "dataset", "name": "carol/x"}, "files": [{"sha256": "0" * 64, "filename": "w.bin"}]}
    ask(hub, "POST", "/api/models/carol/x/lfs-files/duplicate", copied, token="hf_carol")
    api.whoami()
    (folder / "source").write_bytes(random.Random(3).randbytes(30_000) + bytes(30_000))
    by_xet(hub.endpoint, folder / "home", SEND_AND_READ, str(folder / "source"), "carol/x", "by-xet.bin")
    git = ["git", "-c", "credential.helper=", "ls-remote", f"{hub.endpoint}/carol/x"]
    subprocess.run(git, capture_output=True, env={"GIT_TERMINAL_PROMPT": "0", "PATH": "/usr/bin:/bin"})
    return recorder.requests


VALUES: list[Any] = ["", "x", "main", "../..", "a\0b", "é", "a" * 300, None, 0, -1, 2**70, 1.5, True, [], {}, [[]]]
SEGMENTS = ["", ".", "..", "%2e%2e%2f", "%00", "%FF", "main", "carol", "x", "v1", "1", "0" * 40, "0" * 64, "a" * 400]
HEADERS = [
    ("Range", "bytes=0-0"), ("Range", "bytes=9-1"), ("Range", "bytes=-99999999999"), ("Range", "bytes=\xb2-\xb3"),
    ("Range", "bytes=0-1,3-4"), ("Origin", "http://evil.example"), ("Origin", "null"), ("Host", "evil.example"),
    ("Expect", "100-continue"), ("Connection", "close"), ("Connection", "keep-alive, x"), ("X", "\x80\xff"),
    ("Authorization", "Basic %%%"), ("Authorization", "Bearer \xff"), ("Authorization", "Bearer hf_eve"),
    ("Content-Type", "text/plain"), ("X-Request-Id", "\xe9"), ("Content-Encoding", "gzip"), ("a b", "c"), ("", ""),
]  # fmt: skip


def mutated(sent: Sent, draw: random.Random) -> tuple[Sent, bytes | None]:
    """Return the request with one to three mutations, or bytes to send in its place."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        sent = draw.choice(CHANGES)(sent, draw)
    if draw.random() < 0.05:
        data = bytearray(sent.bytes("HOST"))
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(min(len(data), 400))
            data[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
        return sent, bytes(data)
    return sent, None


def _method(sent: Sent, draw: random.Random) -> Sent:
    return replace(sent, method=draw.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"]))


def _path(sent: Sent, draw: random.Random) -> Sent:
    path, mark, query = sent.target.partition("?")
    parts = path.split("/")[1:]
    place = draw.randrange(len(parts))
    parts[place : place + draw.randrange(2)] = draw.choice([[], [draw.choice(SEGMENTS)], [draw.choice(parts)] * 2])
    return replace(sent, target="/" + "/".join(parts) + mark + query)


def _query(sent: Sent, draw: random.Random) -> Sent:
    path, _, query = sent.target.partition("?")
    parts = query.split("&") if query else []
    name = draw.choice(["p", "limit", "cursor", "until", "signature", "repo", "reader", "range", "create_pr", "diff"])
    changed = [part for part in parts if draw.random() < 0.8]
    changed.append(f"{name}={draw.choice(['', '1', '-1', '%00', '%C3%A9', 'x' * 500, '9' * 30])}")
    return replace(sent, target=f"{path}?{'&'.join(changed)}")


def _headers(sent: Sent, draw: random.Random) -> Sent:
    kept = [header for header in sent.headers if draw.random() < 0.9]
    return replace(sent, headers=[*kept, *draw.sample(HEADERS, draw.randrange(3))])


def _body(sent: Sent, draw: random.Random) -> Sent:
    data = bytearray(sent.body)
    for _ in range(draw.randrange(1, 5)):
        place = draw.randrange(len(data) + 1)
        data[place : place + draw.randrange(9)] = draw.randbytes(draw.randrange(9))
    return replace(
        sent, body=draw.choice([bytes(data), bytes(data[: len(data) // 2]), bytes(data) * 2, b"", b"[" * 999])
    )


def _json(sent: Sent, draw: random.Random) -> Sent:
    """Change a value anywhere in the JSON, or in a line of a commit."""
    lines = []
    for line in sent.body.split(b"\n"):
        try:
            lines.append(json.dumps(_changed(json.loads(line), draw)).encode())
        except (ValueError, RecursionError):
            lines.append(line)
    return replace(sent, body=b"\n".join(lines))


def _changed(value: Any, draw: random.Random) -> Any:
    if draw.random() < 0.15:
        return draw.choice(VALUES)
    if isinstance(value, dict):
        return {name: _changed(item, draw) for name, item in value.items() if draw.random() < 0.97}
    return [_changed(item, draw) for item in value] if isinstance(value, list) else value


def _length(sent: Sent, draw: random.Random) -> Sent:
    size = len(sent.body)
    said = draw.choice([size + 1, size - 1, 0, -1, 10**13, f"{size}, {size}", "x", f" {size}", "", "0x2", size * 2])
    framing = [("Content-Length", str(said))]
    if draw.random() < 0.2:
        framing.append(draw.choice([("Content-Length", str(size)), ("Transfer-Encoding", "chunked")]))
    return replace(sent, framing=framing, wrapped=None)


def _chunks(sent: Sent, draw: random.Random) -> Sent:
    half = len(sent.body) // 2
    pieces = [piece for piece in (sent.body[:half], sent.body[half:]) if piece]
    wrapped = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    if draw.random() < 0.5:
        odd = [
            (b"\r\n", b"\n"),
            (b"0\r\n\r\n", b""),
            (b"\r\n", b"\r\nXX"),
            (b"0\r\n", b"-0\r\n"),
            (b"\r\n", b";a=b\r\n"),
        ]
        old, new = draw.choice([*odd, (b"0\r\n\r\n", b"ffffffffff\r\nx")])
        wrapped = wrapped.replace(old, new, draw.randrange(1, 3))
    coding = draw.choice(["chunked"] * 4 + ["xchunkedx", "gzip, chunked", "Chunked"])
    return replace(sent, framing=[("Transfer-Encoding", coding)], wrapped=wrapped)


CHANGES: list[Callable[[Sent, random.Random], Sent]] = [
    _method, _path, _path, _query, _headers, _headers, _body, _json, _json, _json, _length, _chunks,
]  # fmt: skip
