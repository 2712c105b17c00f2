"""A disk that fills up under a running Hub: it answers 507, stores nothing partial, and recovers with free space."""

from __future__ import annotations

import hashlib
import io
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from hubdpo.loopback.server import LoopbackHub
from tests.loopback.ask import Answered, ask
from tests.loopback.test_loopback_hostile import commit, whole

LARGE = bytes(range(256)) * 4000


class Served(SimpleNamespace):
    endpoint: str
    root: Path
    process: subprocess.Popen[str]

    def largest_file(self, size: int) -> None:
        """Limit the file size of the server from now on, to simulate a full disk."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def stop(self) -> str:
        """Stop the server, run `git fsck` on every repo, and return the stderr of the server."""
        self.process.send_signal(signal.SIGTERM)
        said: str = self.process.communicate(timeout=60)[1]
        whole(self.root)
        return said


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    root = tmp_path / "hub"
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(root)]
    process = subprocess.Popen(
        [*command, "--token", "carol:hf_carol"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    made = Served(endpoint=process.stdout.readline().strip().partition("=")[2], root=root, process=process)
    try:
        yield made
    finally:
        if process.returncode is None:
            made.stop()


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


REQUESTS: dict[str, tuple[str, str, object]] = {
    "a commit": ("POST", "/api/models/carol/x/commit/main", commit("a.txt", b"a" * 100)),
    "a pull request": ("POST", "/api/models/carol/x/commit/main?create_pr=1", commit("a.txt", b"b" * 100)),
    "a repo": ("POST", "/api/repos/create", {"name": "y"}),
    "a tag": ("POST", "/api/models/carol/x/tag/main", {"tag": "v1", "message": "first"}),
    "a branch": ("POST", "/api/models/carol/x/branch/topic", {}),
    "a discussion": ("POST", "/api/models/carol/x/discussions", {"title": "a title", "pullRequest": True}),
    "a collection": ("POST", "/api/collections", {"title": "mine", "namespace": "carol"}),
    "a setting": ("PUT", "/api/models/carol/x/settings", {"private": True}),
}


@pytest.mark.parametrize("room", [0, 20, 60, 200])
def test_what_does_not_fit_is_answered_507_and_comes_with_room(served: Served, tmp_path: Path, room: int) -> None:
    api = HfApi(endpoint=served.endpoint, token="hf_carol")
    api.create_repo("carol/x")
    refs = api.list_repo_refs("carol/x", include_pull_requests=True)
    served.largest_file(room)
    statuses = {}
    for name, (method, path, body) in REQUESTS.items():
        statuses[name] = send(served, method, path, body).status
    assert set(statuses.values()) <= {200, 507} and statuses["a repo"] == statuses["a setting"] == 507, statuses
    assert room or set(statuses.values()) == {507}
    served.largest_file(resource.RLIM_INFINITY)
    assert not [name for name in files(served.root) if name.endswith(".lock") and name != "owner.lock"]
    made = [statuses["a pull request"], statuses["a discussion"]].count(200)
    assert len(list(api.get_repo_discussions("carol/x"))) == made
    now = api.list_repo_refs("carol/x", include_pull_requests=True)
    assert len(now.pull_requests or []) == made and (room or now == refs)
    for name, (method, path, body) in REQUESTS.items():
        assert statuses[name] == 200 or send(served, method, path, body).status == 200, name
    said = served.stop()
    assert "Traceback" not in said and said.count("cannot store it") == list(statuses.values()).count(507)


def send(served: Served, method: str, path: str, body: object) -> Answered:
    return ask(SimpleNamespace(endpoint=served.endpoint), method, path, body, token="hf_carol")  # type: ignore[arg-type]


@pytest.mark.parametrize("xet", [False, True])
def test_a_large_file_that_does_not_fit_leaves_nothing(served: Served, tmp_path: Path, xet: bool) -> None:
    api = HfApi(endpoint=served.endpoint, token="hf_carol")
    api.create_repo("carol/x")
    before = files(served.root)
    served.largest_file(500_000)
    if xet:
        given = send(served, "GET", "/api/models/carol/x/xet-write-token/main", None)
        path, data = f"/_xet/v1/xorbs/default/{xorb_hash(LARGE)}", xorb(LARGE)
        headers = {"Authorization": f"Bearer {given.headers['x-xet-access-token']}"}
        method = "POST"
    else:
        oid = hashlib.sha256(LARGE).hexdigest()
        objects = {"operation": "upload", "objects": [{"oid": oid, "size": len(LARGE)}]}
        given = send(served, "POST", "/carol/x.git/info/lfs/objects/batch", objects)
        path, data = given.body.decode().partition(served.endpoint)[2].partition('"')[0], LARGE
        headers, method = {}, "PUT"
    place = SimpleNamespace(endpoint=served.endpoint)
    for _ in range(2):
        answer = ask(place, method, path, data, **headers)  # type: ignore[arg-type]
        assert (answer.status, answer.body.count(b"\n")) == (413 if xet else 507, 0)  # hf_xet asks on after a 507
    assert {name for name in files(served.root) - before if "sqlite" not in name} == set()
    served.largest_file(resource.RLIM_INFINITY)
    assert ask(place, method, path, data, **headers).status == 200  # type: ignore[arg-type]
    assert len([name for name in files(served.root) - before if "sqlite" not in name]) == 1
    assert "Traceback" not in served.stop()


def xorb(content: bytes) -> bytes:
    parts = [content[start : start + 100_000] for start in range(0, len(content), 100_000)]
    sizes = [len(part).to_bytes(3, "little") for part in parts]
    return b"".join(b"\0" + size + b"\0" + size + part for size, part in zip(sizes, parts, strict=True))


def xorb_hash(content: bytes) -> str:
    from hubdpo.loopback.xet import xorbs

    chunks = xorbs.read_chunks(io.BytesIO(xorb(content)))
    return xorbs.to_hex(xorbs.tree_hash([(chunk.hash, chunk.size) for chunk in chunks]))


def test_a_large_commit_that_does_not_fit_is_told(served: Served, tmp_path: Path) -> None:
    """Its body is spooled to disk first."""
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=served.endpoint, token="hf_carol")
    api.create_repo("carol/x")
    operations = [CommitOperationAdd(f"{number}.txt", bytes([65 + number]) * 9_000_000) for number in range(2)]
    served.largest_file(1_000_000)
    with pytest.raises(HfHubHTTPError, match="507"):
        api.create_commit("carol/x", operations, commit_message="many")
    assert not list((served.root / "incoming").iterdir())
    served.largest_file(resource.RLIM_INFINITY)
    api.create_commit("carol/x", operations, commit_message="many")
    assert "Traceback" not in served.stop()


def test_without_files_left_a_request_is_answered_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setattr(hub._routes, "_route", fail)
        assert ask(hub, "GET", "/api/models").status == 503
