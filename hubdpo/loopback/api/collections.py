"""Collections: titled lists of repos, each owned by a user or an organisation."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import known_user, may_own, may_read, readable
from hubdpo.loopback.http.requests import sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, User, as_json
from hubdpo.loopback.names import identifier, repo_kind
from hubdpo.loopback.storage.folder import read_document, write_document
from hubdpo.loopback.storage.store import Store


class Collections:
    def __init__(self, store: Store) -> None:
        self._store, self._path = store, store.root / "collections.json"
        self._lock = threading.Lock()
        self.follow_renames()  # the last server may have been killed after a rename

    def listing(self, request: Request) -> Answer:
        owner = request.parameter("owner")
        entries = [entry for entry in read_document(self._path) if owner in ("", entry["owner"])]
        visible = [self._visible(request, entry) for entry in entries if _may_see(request, entry)]
        # a list has no positions, its order is the position
        return as_json([{k: v for k, v in entry.items() if k != "position"} for entry in visible])

    def details(self, request: Request, owner: str, name: str) -> Answer:
        return as_json(self._visible(request, _find(request, read_document(self._path), f"{owner}/{name}")))

    def create(self, request: Request) -> Answer:
        user = _writer(request)
        fields = sent_fields(request)  # before the lock: a client may send slowly
        title = fields.text("title").strip()
        if not title or len(title) > 60:
            raise Refusal(400, "a title has 1 to 60 characters")
        owner = may_own(user, fields.text("namespace"), "create a collection")
        words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "collection"
        with self._lock:
            entries = read_document(self._path)
            for entry in entries:
                if (entry["owner"], entry["title"]) == (owner, title):
                    raise Refusal(409, f"a collection has this title: {title}", slug=entry["slug"])
            entry = {
                "slug": f"{owner}/{words}-{identifier(owner, title)}", "title": title, "owner": owner, "items": [],
                "lastUpdated": gitio.iso(time.time()), "position": len(entries), "private": fields.flag("private"),
                "theme": "blue", "upvotes": 0, "description": fields.text("description") or None,
            }  # fmt: skip
            write_document(self._path, [*entries, entry])
        return as_json(entry)

    def delete(self, request: Request, owner: str, name: str) -> None:
        with self._changing(request, owner, name) as (entries, entry):
            entries.remove(entry)

    def add(self, request: Request, owner: str, name: str) -> Answer:
        _writer(request)
        fields = sent_fields(request)
        with self._changing(request, owner, name) as (_, entry):
            item, items = fields.object("item"), entry["items"]
            kind, repo_id = repo_kind(item.text("type")), item.text("id")
            repo_id = may_read(self._store, request, kind, repo_id).id
            if any((i["type"], i["id"]) == (kind, repo_id) for i in items):
                raise Refusal(409, f"{repo_id} is in the collection already")
            note = {"text": fields.text("note")} if fields.text("note") else None
            new_id = identifier(entry["slug"], kind, repo_id)
            items.append({"_id": new_id, "id": repo_id, "type": kind, "note": note, "position": len(items)})
        return as_json(self._visible(request, entry))

    def remove(self, request: Request, owner: str, name: str, item: str) -> Answer:
        with self._changing(request, owner, name) as (_, entry):
            kept = [other for other in entry["items"] if other["_id"] != item]
            if len(kept) == len(entry["items"]):
                raise Refusal(404, "the item is not in the collection")
            entry["items"] = kept
        return as_json(self._visible(request, entry))

    @contextmanager
    def _changing(self, request: Request, owner: str, name: str) -> Iterator[tuple[list[JSON], JSON]]:
        """Yield all collections and one of them, which the user may change, and store them after the block."""
        with self._lock:
            entries = read_document(self._path)
            entry = _find(request, entries, f"{owner}/{name}")
            if not _owns(request, entry):
                raise Refusal(403, "only the owner changes a collection")
            _writer(request)
            entry["lastUpdated"] = gitio.iso(time.time())
            yield entries, entry
            write_document(self._path, entries)

    def follow_renames(self) -> None:
        """Write the present ids of renamed repos into all items, before another repo takes an old name."""
        with self._lock:
            entries = read_document(self._path)
            items = [item for entry in entries for item in entry["items"]]
            found = [(item, self._store.repo(item["type"], item["id"])) for item in items]
            stale = [(item, repo.id) for item, repo in found if repo and repo.id != item["id"]]
            for item, repo_id in stale:
                item["id"] = repo_id
            if stale:
                write_document(self._path, entries)

    def _visible(self, request: Request, entry: JSON) -> JSON:
        """Return the entry without the repos that the user may not read: even their names are private."""
        items = [item for item in entry["items"] if readable(self._store, request.reader, item["type"], item["id"])]
        return {**entry, "items": items}


def _writer(request: Request) -> User:
    user = known_user(request)
    if not user.may_write:
        raise Refusal(403, "a read token cannot change collections")
    return user


def _may_see(request: Request, entry: JSON) -> bool:
    return not entry["private"] or _owns(request, entry)


def _owns(request: Request, entry: JSON) -> bool:
    return request.user is not None and request.user.namespace(entry["owner"]) is not None


def _find(request: Request, entries: list[JSON], slug: str) -> JSON:
    for entry in entries:
        if entry["slug"] == slug and _may_see(request, entry):
            return entry
    raise Refusal(404, f"Collection not found: {slug}")
