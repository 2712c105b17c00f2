"""Bodies are read before any lock is taken, so a slow client blocks no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hubdpo.loopback.api.routes import Routes
from hubdpo.loopback.http.wire import Request
from hubdpo.loopback.storage.store import Store
from hubdpo.loopback.storage.tokens import Token
from tests.loopback.ask import Body

REPO = "/api/models/carol/x"
HEADER = json.dumps({"key": "header", "value": {"summary": "none"}})


class Slow(Body):
    """A body that records whether a lock is held when it is read."""

    def __init__(self, data: bytes, store: Store, routes: Routes) -> None:
        super().__init__(data)
        self._store, self._routes = store, routes
        self.read_under_lock: list[bool] = []

    def read(self, size: int) -> bytes:
        locks = [self._store._guard, *self._store._locks.values()]
        held = any(lock._is_owned() for lock in locks)  # type: ignore[attr-defined]
        self.read_under_lock.append(held or self._routes._collections._lock.locked())
        return super().read(size)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/repos/create", {"name": "y"}),
        ("DELETE", "/api/repos/delete", {"name": "x"}),
        ("POST", "/api/repos/move", {"fromRepo": "carol/x", "toRepo": "carol/z"}),
        ("POST", f"{REPO}/lfs-files/batch", {"deletions": {"sha": []}}),
        ("POST", f"{REPO}/lfs-files/duplicate", {"target": {"name": "carol/x"}, "files": []}),
        ("PUT", f"{REPO}/settings", {"private": True}),
        ("POST", f"{REPO}/preupload/main", {"files": []}),
        ("POST", f"{REPO}/commit/main", HEADER),
        ("POST", f"{REPO}/paths-info/main", {"paths": []}),
        ("POST", f"{REPO}/branch/b", {}),
        ("DELETE", f"{REPO}/branch/a", {}),
        ("POST", f"{REPO}/tag/main", {"tag": "t"}),
        ("DELETE", f"{REPO}/tag/v0", {}),
        ("POST", f"{REPO}/discussions", {"title": "title"}),
        ("POST", f"{REPO}/discussions/1/comment", {"comment": "c"}),
        ("POST", f"{REPO}/discussions/1/title", {"title": "other"}),
        ("POST", f"{REPO}/discussions/1/status", {"status": "closed"}),
        ("POST", f"{REPO}/discussions/2/merge", {}),
        ("POST", "/api/collections", {"title": "t", "namespace": "carol"}),
        ("POST", "/api/collections/{slug}/items", {"item": {"type": "model", "id": "carol/x"}}),
        ("POST", "/carol/x.git/info/lfs/objects/batch", {"operation": "upload", "objects": []}),
        ("POST", "/carol/x.git/info/lfs/objects/verify", {"oid": "0" * 64}),
    ],
)
def test_a_body_is_read_before_any_lock(tmp_path: Path, method: str, path: str, body: object) -> None:
    store = Store(tmp_path / "hub")
    store.accounts.add([Token("carol", "hf_carol", True)])
    routes = Routes(store, "http://127.0.0.1:1")

    def send(method: str, path: str, body: object) -> tuple[bytes, list[bool]]:
        data = body if isinstance(body, str) else json.dumps(body)
        slow = Slow(data.encode(), store, routes)
        headers = {"authorization": "Bearer hf_carol", "content-type": "application/json"}
        return routes.answer(Request(method, path, "", headers, slow)).content, slow.read_under_lock

    send("POST", "/api/repos/create", {"name": "x"})
    send("POST", f"{REPO}/branch/a", {})
    send("POST", f"{REPO}/tag/main", {"tag": "v0"})
    send("POST", f"{REPO}/discussions", {"title": "talk"})
    send("POST", f"{REPO}/discussions", {"title": "pull", "pullRequest": True})
    made, _ = send("POST", "/api/collections", {"title": "first", "namespace": "carol"})
    _, seen = send(method, path.replace("{slug}", json.loads(made)["slug"]), body)
    store.close()
    assert seen and not any(seen)


@pytest.mark.parametrize("right", [None, False])
def test_a_forbidden_collection_is_refused_before_the_body_is_read(tmp_path: Path, right: bool | None) -> None:
    store = Store(tmp_path / "hub")
    store.accounts.add([Token("carol", "hf_carol", False)])
    routes = Routes(store, "http://127.0.0.1:1")
    slow = Slow(b"{}", store, routes)
    headers = {} if right is None else {"authorization": "Bearer hf_carol"}
    answer = routes.answer(Request("POST", "/api/collections", "", headers, slow))
    store.close()
    assert (answer.status, slow.read_under_lock) == (401 if right is None else 403, [])
