"""Collections: titled lists of repos, each owned by a user."""

from __future__ import annotations

import hashlib
import re
import threading
import time

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import UNAUTHORIZED, may_read, readable
from hubdpo.loopback.http.fields import Fields, sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json
from hubdpo.loopback.names import repo_kind
from hubdpo.loopback.storage.documents import read_document, write_document
from hubdpo.loopback.storage.store import Store


class Collections:
    def __init__(self, store: Store) -> None:
        self._store, self._path = store, store.root / "collections.json"
        self._lock = threading.Lock()

    def answer(self, request: Request, rest: list[str]) -> Answer:
        """Answer a request below `/api/collections`."""
        fields = Fields({})
        if request.method == "POST":  # read the body before taking the lock: a client may send slowly
            if request.user is None:
                raise Refusal(401, UNAUTHORIZED)
            if not request.user.may_write:
                raise Refusal(403, "a read token cannot change collections")
            fields = sent_fields(request)
        with self._lock:
            entries = read_document(self._path)
            match request.method, rest:
                case "GET", []:
                    owner = request.parameter("owner")
                    listed = [e for e in entries if owner in ("", e["owner"]) and _may_see(request, e)]
                    # a list has no positions, its order is the position
                    visible = [self._visible(request, entry) for entry in listed]
                    return as_json([{k: v for k, v in entry.items() if k != "position"} for entry in visible])
                case "POST", []:
                    return self._create(request, fields, entries)
                case "GET", [owner, name]:
                    return as_json(self._visible(request, self._find(request, entries, f"{owner}/{name}")))
                case "DELETE", [owner, name]:
                    entries.remove(self._find(request, entries, f"{owner}/{name}", change=True))
                    write_document(self._path, entries)
                    return as_json({})
                case "POST", [owner, name, "items"]:
                    entry = self._find(request, entries, f"{owner}/{name}", change=True)
                    return self._add(request, fields, entries, entry)
                case "DELETE", [owner, name, "items", identifier]:
                    entry = self._find(request, entries, f"{owner}/{name}", change=True)
                    kept = [item for item in entry["items"] if item["_id"] != identifier]
                    if len(kept) == len(entry["items"]):
                        raise Refusal(404, "the item is not in the collection")
                    return self._save(request, entries, entry, kept)
        raise Refusal(404, "Not found")

    def _create(self, request: Request, fields: Fields, entries: list[JSON]) -> Answer:
        title, owner = fields.text("title").strip(), fields.text("namespace")
        if not title or len(title) > 60:
            raise Refusal(400, "a title has 1 to 60 characters")
        if request.user is None or owner != request.user.name:
            raise Refusal(403, f'You don\'t have the rights to create a collection under the namespace "{owner}"')
        for entry in entries:
            if (entry["owner"], entry["title"]) == (owner, title):
                raise Refusal(409, f"a collection has this title: {title}", slug=entry["slug"])
        words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "collection"
        entry = {
            "slug": f"{owner}/{words}-{_identifier(owner, title)}", "title": title, "owner": owner, "items": [],
            "lastUpdated": gitio.iso(time.time()), "position": len(entries), "private": fields.flag("private"),
            "theme": "blue", "upvotes": 0, "description": fields.text("description") or None,
        }  # fmt: skip
        entries.append(entry)
        return self._save(request, entries, entry, [])

    def _add(self, request: Request, fields: Fields, entries: list[JSON], entry: JSON) -> Answer:
        item = fields.object("item")
        kind, name = repo_kind(item.text("type")), item.text("id")
        may_read(self._store, request, kind, name)
        if any((i["type"], i["id"]) == (kind, name) for i in entry["items"]):
            raise Refusal(409, f"{name} is in the collection already")
        note = {"text": fields.text("note")} if fields.text("note") else None
        new: JSON = {"_id": _identifier(entry["slug"], kind, name), "id": name, "type": kind, "note": note}
        return self._save(request, entries, entry, [*entry["items"], {**new, "position": len(entry["items"])}])

    def _find(self, request: Request, entries: list[JSON], slug: str, *, change: bool = False) -> JSON:
        for entry in entries:
            if entry["slug"] == slug and _may_see(request, entry):
                if change and (request.user is None or request.user.name != entry["owner"]):
                    raise Refusal(403, "only the owner changes a collection")
                if change and request.user is not None and not request.user.may_write:
                    raise Refusal(403, "a read token cannot change collections")
                return entry
        raise Refusal(404, f"Collection not found: {slug}")

    def _save(self, request: Request, entries: list[JSON], entry: JSON, items: list[JSON]) -> Answer:
        entry |= {"items": items, "lastUpdated": gitio.iso(time.time())}
        write_document(self._path, entries)
        return as_json(self._visible(request, entry))

    def _visible(self, request: Request, entry: JSON) -> JSON:
        """Return the entry without the repos that the user may not read: even their names are private."""
        items = [item for item in entry["items"] if readable(self._store, request.reader, item["type"], item["id"])]
        return {**entry, "items": items}


def _may_see(request: Request, entry: JSON) -> bool:
    return not entry["private"] or request.reader == entry["owner"]


def _identifier(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
