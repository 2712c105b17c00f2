"""Collections: lists of repos under a title, which belong to a user."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from typing import Any

from hubdpo.loopback import gitio
from hubdpo.loopback.access import may_read, readable
from hubdpo.loopback.documents import read_document, write_document
from hubdpo.loopback.fields import Fields, sent_fields
from hubdpo.loopback.names import repo_kind
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Answer, Refusal, Request, as_json


class Collections:
    def __init__(self, store: Store) -> None:
        self._store, self._place = store, store.root / "collections.json"
        self._lock = threading.Lock()

    def answer(self, request: Request, rest: list[str]) -> Answer:
        """Answer what is below `/api/collections`."""
        asked = Fields({})
        if request.method == "POST":  # a client may take its time to send it, and nobody waits for it under the lock
            if request.user is None:
                raise Refusal(401, "Invalid username or password.")
            if not request.user.may_write:
                raise Refusal(403, "a read token changes nothing")
            asked = sent_fields(request)
        with self._lock:
            entries = read_document(self._place)
            match request.method, rest:
                case "GET", []:
                    owner = request.parameter("owner")
                    listed = [e for e in entries if owner in ("", e["owner"]) and _may_see(request, e)]
                    # a list gives each one's place itself
                    shown = [self._shown(request, entry) for entry in listed]
                    return as_json([{k: v for k, v in entry.items() if k != "position"} for entry in shown])
                case "POST", []:
                    return self._create(request, asked, entries)
                case "GET", [owner, name]:
                    return as_json(self._shown(request, self._find(request, entries, f"{owner}/{name}")))
                case "DELETE", [owner, name]:
                    entries.remove(self._find(request, entries, f"{owner}/{name}", change=True))
                    write_document(self._place, entries)
                    return as_json({})
                case "POST", [owner, name, "items"]:
                    entry = self._find(request, entries, f"{owner}/{name}", change=True)
                    return self._add(request, asked, entries, entry)
                case "DELETE", [owner, name, "items", identifier]:
                    entry = self._find(request, entries, f"{owner}/{name}", change=True)
                    kept = [item for item in entry["items"] if item["_id"] != identifier]
                    if len(kept) == len(entry["items"]):
                        raise Refusal(404, "the item is not in the collection")
                    return self._save(request, entries, entry, kept)
        raise Refusal(404, "Not found")

    def _create(self, request: Request, asked: Fields, entries: list[dict[str, Any]]) -> Answer:
        title, owner = asked.text("title").strip(), asked.text("namespace")
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
            "lastUpdated": gitio.iso(time.time()), "position": len(entries), "private": asked.flag("private"),
            "theme": "blue", "upvotes": 0, "description": asked.text("description") or None,
        }  # fmt: skip
        entries.append(entry)
        return self._save(request, entries, entry, [])

    def _add(self, request: Request, asked: Fields, entries: list[dict[str, Any]], entry: dict[str, Any]) -> Answer:
        item = asked.object("item")
        kind, name = repo_kind(item.text("type")), item.text("id")
        may_read(self._store, request, kind, name)
        if any((i["type"], i["id"]) == (kind, name) for i in entry["items"]):
            raise Refusal(409, f"{name} is in the collection already")
        note = {"text": asked.text("note")} if asked.text("note") else None
        made = {"_id": _identifier(entry["slug"], kind, name), "id": name, "type": kind, "note": note}
        return self._save(request, entries, entry, [*entry["items"], {**made, "position": len(entry["items"])}])

    def _find(
        self, request: Request, entries: list[dict[str, Any]], slug: str, *, change: bool = False
    ) -> dict[str, Any]:
        for entry in entries:
            if entry["slug"] == slug and _may_see(request, entry):
                if change and (request.user is None or request.user.name != entry["owner"]):
                    raise Refusal(403, "only the owner changes a collection")
                if change and request.user is not None and not request.user.may_write:
                    raise Refusal(403, "a read token changes nothing")
                return entry
        raise Refusal(404, f"Collection not found: {slug}")

    def _save(
        self, request: Request, entries: list[dict[str, Any]], entry: dict[str, Any], items: list[dict[str, Any]]
    ) -> Answer:
        entry |= {"items": items, "lastUpdated": gitio.iso(time.time())}
        write_document(self._place, entries)
        return as_json(self._shown(request, entry))

    def _shown(self, request: Request, entry: dict[str, Any]) -> dict[str, Any]:
        """Leave out the repos that the asker may not read: even their names are private."""
        reader = request.user.name if request.user else ""
        items = [item for item in entry["items"] if readable(self._store, reader, item["type"], item["id"])]
        return {**entry, "items": items}


def _may_see(request: Request, entry: dict[str, Any]) -> bool:
    return not entry["private"] or (request.user is not None and request.user.name == entry["owner"])


def _identifier(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
