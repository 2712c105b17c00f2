"""Collections: titled lists of repos and other collections, each owned by a user or an organisation."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import known_user, may_own, may_read, readable
from hubdpo.loopback.http.requests import Fields, sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, User, as_json
from hubdpo.loopback.names import identifier, repo_kind
from hubdpo.loopback.storage.folder import read_document, write_document
from hubdpo.loopback.storage.store import Store

THEMES = ("blue", "green", "indigo", "orange", "pink", "purple")


class Collections:
    def __init__(self, store: Store) -> None:
        self._store, self._path = store, store.root / "collections.json"
        self._lock = threading.Lock()
        self.follow_renames()  # the last server may have been killed after a rename

    def listing(self, request: Request) -> Answer:
        owner, words = request.parameter("owner"), request.parameter("q").lower()
        wanted, limit = request.parameters("item"), request.count("limit", 0)
        found = []
        for entry in read_document(self._path):
            if not _may_see(request, entry) or owner not in ("", entry["owner"]):
                continue
            visible = self._visible(request, entry)
            named = {f"{item['type']}s/{item['id']}" for item in visible["items"]}
            text = f"{entry['title']}\n{entry['description'] or ''}".lower()
            if words in text and named.issuperset(wanted):
                found.append(visible)
        if request.parameter("sort") == "lastModified":
            found.sort(key=lambda entry: str(entry["lastUpdated"]), reverse=True)
        # a list has no positions, its order is the position
        return as_json([{k: v for k, v in entry.items() if k != "position"} for entry in found[: limit or None]])

    def details(self, request: Request, owner: str, name: str) -> Answer:
        return as_json(self._visible(request, _find(request, read_document(self._path), f"{owner}/{name}")))

    def create(self, request: Request) -> Answer:
        user = _writer(request)
        fields = sent_fields(request)  # before the lock: a client may send slowly
        title = _title(fields)
        owner = may_own(user, fields.text("namespace"), "create a collection")
        with self._lock:
            entries = read_document(self._path)
            for entry in entries:
                if (entry["owner"], entry["title"]) == (owner, title):
                    raise Refusal(409, f"a collection has this title: {title}", slug=entry["slug"])
            entry = {
                "slug": _slug(owner, title, identifier(owner, title, str(time.time_ns()))), "title": title,
                "owner": owner, "items": [], "lastUpdated": gitio.iso(time.time()), "position": len(entries),
                "private": fields.flag("private"), "theme": THEMES[0], "upvotes": 0,
                "description": fields.text("description") or None,
            }  # fmt: skip
            write_document(self._path, [*entries, entry])
        return as_json(entry)

    def update(self, request: Request, owner: str, name: str) -> Answer:
        """Change the title, with it the slug, the description, theme, visibility or place in the owner's list."""
        fields = sent_fields(request)
        with self._changing(request, owner, name) as (entries, entry):
            if "title" in fields:
                entry["title"] = _title(fields)
                entry["slug"] = _slug(entry["owner"], entry["title"], _id_of(entry["slug"]))
            if "description" in fields:
                entry["description"] = fields.text("description") or None
            if "theme" in fields:
                if (theme := fields.text("theme")) not in THEMES:
                    raise Refusal(400, f"`theme` must be one of {', '.join(THEMES)}")
                entry["theme"] = theme
            if "private" in fields:
                entry["private"] = fields.flag("private")
            if "position" in fields:
                places = [number for number, other in enumerate(entries) if other["owner"] == entry["owner"]]
                own = _moved([entries[number] for number in places], entry, fields.count("position"))
                for number, other in zip(places, own, strict=True):
                    entries[number] = other
        return as_json({"success": True, "data": self._visible(request, entry)})

    def delete(self, request: Request, owner: str, name: str) -> None:
        with self._changing(request, owner, name) as (entries, entry):
            entries.remove(entry)

    def add(self, request: Request, owner: str, name: str) -> Answer:
        _writer(request)
        fields = sent_fields(request)
        with self._changing(request, owner, name) as (entries, entry):
            item, items = fields.object("item"), entry["items"]
            kind, item_id = item.text("type"), item.text("id")
            if kind in ("paper", "bucket"):
                raise Refusal(501, f"this Hub has no {kind}s")
            if kind == "collection":
                item_id = _find(request, entries, item_id)["slug"]
                if item_id == entry["slug"]:
                    raise Refusal(400, "a collection cannot be in itself")
            else:
                item_id = may_read(self._store, request, repo_kind(kind), item_id).id
            if any((i["type"], i["id"]) == (kind, item_id) for i in items):
                raise Refusal(409, f"{item_id} is in the collection already")
            new_id = identifier(entry["slug"], kind, item_id, str(time.time_ns()))
            items.append({"_id": new_id, "id": item_id, "type": kind, "note": _note(fields), "position": len(items)})
        return as_json(self._visible(request, entry))

    def update_item(self, request: Request, owner: str, name: str, item_id: str) -> None:
        """Change the note of an item, or its place."""
        fields = sent_fields(request)
        with self._changing(request, owner, name) as (_, entry):
            item = _item(entry, item_id)
            if "note" in fields:
                item["note"] = _note(fields)
            if "position" in fields:
                entry["items"] = _moved(entry["items"], item, fields.count("position"))

    def remove(self, request: Request, owner: str, name: str, item_id: str) -> Answer:
        with self._changing(request, owner, name) as (_, entry):
            entry["items"].remove(_item(entry, item_id))
            _number(entry["items"])
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
        """Return the entry without the items that the user may not read: even their names are private."""
        items = []
        for item in entry["items"]:
            if item["type"] == "collection":
                with contextlib.suppress(Refusal):
                    slug = _find(request, read_document(self._path), item["id"])["slug"]  # its title may have changed
                    items.append({**item, "id": slug, "slug": slug})
            elif readable(self._store, request.user, item["type"], item["id"]):
                items.append(item)
        return {**entry, "items": items}


def _writer(request: Request) -> User:
    user = known_user(request)
    if not user.may_write:
        raise Refusal(403, "a read token cannot change collections")
    return user


def _may_see(request: Request, entry: JSON) -> bool:
    return not entry["private"] or _owns(request, entry)


def _owns(request: Request, entry: JSON) -> bool:
    return request.user is not None and request.user.owns(entry["owner"])


def _find(request: Request, entries: list[JSON], slug: str) -> JSON:
    """Return the collection of a slug, or of one with an earlier title: the id at its end stays."""
    owner, found = slug.partition("/")[0], _id_of(slug)
    for entry in entries:
        if (entry["owner"], _id_of(entry["slug"])) == (owner, found) and _may_see(request, entry):
            return entry
    raise Refusal(404, f"Collection not found: {slug}")


def _slug(owner: str, title: str, entry_id: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "collection"
    return f"{owner}/{words}-{entry_id}"


def _id_of(slug: str) -> str:
    return slug.rpartition("-")[2]


def _title(fields: Fields) -> str:
    title = fields.text("title").strip()
    if not title or len(title) > 60:
        raise Refusal(400, "a title has 1 to 60 characters")
    return title


def _note(fields: Fields) -> JSON | None:
    return {"text": fields.text("note")} if fields.text("note") else None


def _item(entry: JSON, item_id: str) -> JSON:
    for item in entry["items"]:
        if item["_id"] == item_id:
            found: JSON = item
            return found
    raise Refusal(404, "the item is not in the collection")


def _moved(entries: list[JSON], entry: JSON, position: int) -> list[JSON]:
    """Return the entries with one of them at another position, or at the end, numbered anew."""
    moved = [other for other in entries if other is not entry]
    moved.insert(position, entry)
    return _number(moved)


def _number(entries: list[JSON]) -> list[JSON]:
    for position, entry in enumerate(entries):
        entry["position"] = position
    return entries
