"""Discussions and pull requests: whoever may read a repo may propose a commit, which its owner merges.

The commits of a pull request stand under `refs/pr/N`; numbers are shared with discussions and never used again.
"""

from __future__ import annotations

import difflib
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from dulwich.repo import Repo

from hubdpo.loopback import gitio
from hubdpo.loopback.access import may_propose, may_read, may_write
from hubdpo.loopback.documents import read_document, write_document
from hubdpo.loopback.fields import Fields, sent_fields
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Answer, Refusal, Request, User, as_json

PAGE = 50
LARGEST_DIFF, LARGEST_COMPARED, MOST_LINES_COMPARED = 100_000, 200_000, 2_000
"""Most characters of a diff, and the largest file that is compared for it: the time grows with its square."""


class Pulls:
    def __init__(self, store: Store) -> None:
        self._store = store

    def answer(self, request: Request, kind: str, repo_id: str, rest: list[str]) -> Answer:
        """Answer what is below `/discussions`."""
        where = (request, kind, repo_id)
        match request.method, rest:
            case "GET", []:
                return self._list(*where)
            case "POST", []:
                return self._create(*where)
            case "GET", [number]:
                return self._details(*where, number)
            case "POST", [number, "comment" | "status" | "title" | "merge" as what]:
                return self._change(*where, number, what)
        raise Refusal(404, "Not found")

    def next_number(self, repo: Repo, kind: str, repo_id: str) -> int:
        """Return the number of the next discussion or pull request; the caller holds the lock of the repo."""
        taken = [int(ref.rpartition(b"/")[2]) for ref in gitio.refs_of(repo) if ref.startswith(b"refs/pr/")]
        return max([*taken, *(entry["num"] for entry in self._read(kind, repo_id))], default=0) + 1

    @contextmanager
    def ref_of(self, repo: Repo, number: int, base: bytes) -> Iterator[bytes]:
        """Make the ref of a pull request at `base`; an error in the block, such as a full disk, removes it again."""
        ref = f"refs/pr/{number}".encode()
        repo.refs.add_if_new(ref, base)
        try:
            yield ref
        except BaseException:
            del repo.refs[ref]
            raise

    def open(
        self, number: int, kind: str, repo_id: str, *, user: User, base: bytes, title: str, description: str,
        status: str = "open", pull_request: bool = True,
    ) -> None:  # fmt: skip
        """Note a discussion, or a pull request onto `base` that has its ref; the caller holds the lock of the repo."""
        entries = self._read(kind, repo_id)
        entry: dict[str, Any] = {
            "num": number, "title": title, "author": user.name, "created": time.time(), "status": status,
            "pull_request": pull_request, "base": base.decode(), "merge": None, "events": [],
        }  # fmt: skip
        _add_event(entry, user, "comment", _comment(description))
        write_document(self._place(kind, repo_id), [*entries, entry])

    def author(self, kind: str, repo_id: str, ref: str) -> str | None:
        """Return who opened the pull request of a ref `refs/pr/N` that is still open."""
        number = ref.removeprefix("refs/pr/")
        found = [e for e in self._read(kind, repo_id) if str(e["num"]) == number and e["status"] in ("open", "draft")]
        return str(found[0]["author"]) if found else None

    def _list(self, request: Request, kind: str, repo_id: str) -> Answer:
        may_read(self._store, request, kind, repo_id)
        kinds = {"pull_request": (True,), "discussion": (False,)}.get(request.parameter("type"), (True, False))
        states = {"open": ("open", "draft"), "closed": ("closed", "merged")}.get(request.parameter("status"))
        author = request.parameter("author")
        shown = [
            self._shown(kind, repo_id, entry)
            for entry in reversed(self._read(kind, repo_id))
            if entry["pull_request"] in kinds
            and (states is None or entry["status"] in states)
            and author in ("", entry["author"])
        ]
        start = request.count("p", 0) * PAGE
        return as_json({"discussions": shown[start : start + PAGE], "count": len(shown), "start": start})

    def _create(self, request: Request, kind: str, repo_id: str) -> Answer:
        user = may_propose(self._store, request, kind, repo_id)
        asked = sent_fields(request)
        title, pull_request = _title(asked), asked.flag("pullRequest")
        with self._store.changing(kind, repo_id) as repo:
            base = gitio.resolve(repo, "main")
            number = self.next_number(repo, kind, repo_id)
            with self.ref_of(repo, number, base) if pull_request else nullcontext():
                self.open(
                    number, kind, repo_id, user=user, base=base, title=title, description=asked.text("description"),
                    status="draft" if pull_request else "open", pull_request=pull_request,
                )  # fmt: skip
        return as_json({"num": number})

    def _details(self, request: Request, kind: str, repo_id: str, number: str) -> Answer:
        may_read(self._store, request, kind, repo_id)
        entry = self._find(self._read(kind, repo_id), number)
        shown = self._shown(kind, repo_id, entry) | {"events": entry["events"]}
        if entry["pull_request"]:
            with self._store.git(kind, repo_id) as repo:
                base, head, main = self._sides(repo, entry)
                conflicts = [] if entry["merge"] else _merged(base, head, main)[1]
                shown["changes"] = {"base": "refs/heads/main", "mergeCommitId": entry["merge"]}
                shown["filesWithConflicts"] = [path.decode() for path in conflicts]
                if request.flag("diff"):
                    shown["diff"] = _diff(repo, base, head)
        return as_json(shown)

    def _change(self, request: Request, kind: str, repo_id: str, number: str, what: str) -> Answer:
        asked = sent_fields(request)
        user = may_propose(self._store, request, kind, repo_id)
        with self._store.lock(kind, repo_id):
            entries = self._read(kind, repo_id)
            entry = self._find(entries, number)
            if what == "merge" or (what != "comment" and user.name != entry["author"]):
                may_write(self._store, request, kind, repo_id)
            answer: dict[str, Any] = {}
            if what == "comment":
                answer = {"newMessage": _add_event(entry, user, "comment", _comment(asked.text("comment")))}
            elif what == "title":
                change = {"from": entry["title"], "to": _title(asked)}
                entry["title"] = change["to"]
                answer = {"newTitle": _add_event(entry, user, "title-change", change)}
            elif what == "status":
                if asked.text("status") not in ("open", "closed") or entry["status"] == "merged":
                    raise Refusal(409, f"a discussion that is {entry['status']} cannot be {asked.text('status')!r}")
                entry["status"] = asked.text("status")
                answer = {"newStatus": _add_event(entry, user, "status-change", {"status": entry["status"]})}
            else:
                with self._store.changing(kind, repo_id) as repo:
                    self._merge(repo, entry, user)
            write_document(self._place(kind, repo_id), entries)
        return as_json(answer)

    def _merge(self, repo: Repo, entry: dict[str, Any], user: User) -> None:
        """Bring what the pull request changed to main, as one commit. Raise Refusal 409 when main changed the same."""
        if not entry["pull_request"] or entry["status"] not in ("open", "draft"):
            raise Refusal(409, "there is nothing to merge")
        base, head, main = self._sides(repo, entry)
        files, conflicts = _merged(base, head, main)
        if conflicts:
            raise Refusal(409, f"conflicts with main: {conflicts[0].decode()}")
        parent = gitio.resolve(repo, "main")
        title = f"{entry['title']} (#{entry['num']})"
        description = entry["events"][0]["data"]["latest"]["raw"]
        message = f"{title}\n\n{description}" if description else title
        entry["merge"] = gitio.write_commit(repo, b"refs/heads/main", parent, files, message, user.name).decode()
        entry["status"] = "merged"
        _add_event(entry, user, "status-change", {"status": "merged"})

    def _sides(self, repo: Repo, entry: dict[str, Any]) -> tuple[gitio.Files, gitio.Files, gitio.Files]:
        revisions = (entry["base"], f"refs/pr/{entry['num']}", "main")
        base, head, main = (gitio.files_of(repo, gitio.resolve(repo, revision)) for revision in revisions)
        return base, head, main

    def _shown(self, kind: str, repo_id: str, entry: dict[str, Any]) -> dict[str, Any]:
        return {
            "num": entry["num"], "title": entry["title"], "author": {"name": entry["author"]},
            "createdAt": gitio.iso(entry["created"]), "status": entry["status"],
            "isPullRequest": entry["pull_request"], "repo": {"name": repo_id, "type": kind},
        }  # fmt: skip

    def _find(self, entries: list[dict[str, Any]], number: str) -> dict[str, Any]:
        for entry in entries:
            if str(entry["num"]) == number:
                return entry
        raise Refusal(404, f"there is no discussion {number}")

    def _place(self, kind: str, repo_id: str) -> Path:
        return self._store.git_folder(kind, repo_id) / "discussions.json"

    def _read(self, kind: str, repo_id: str) -> list[dict[str, Any]]:
        return read_document(self._place(kind, repo_id))


def _title(asked: Fields) -> str:
    title = asked.text("title").strip()
    if len(title) < 3:
        raise Refusal(400, "a title has at least 3 characters")
    return title


def _comment(text: str) -> dict[str, Any]:
    return {"edited": False, "hidden": False, "latest": {"raw": text}}


def _add_event(entry: dict[str, Any], user: User, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    identifier = hashlib.sha256(f"{entry['num']} {len(entry['events'])} {time.time_ns()}".encode()).hexdigest()[:24]
    now = gitio.iso(time.time())
    event = {"id": identifier, "type": kind, "createdAt": now, "author": {"name": user.name}, "data": data}
    entry["events"].append(event)
    return event


def _merged(base: gitio.Files, head: gitio.Files, main: gitio.Files) -> tuple[gitio.Files, list[bytes]]:
    """Return main with what changed from base to head, and the paths that main changed otherwise."""
    changed = [path for path in sorted({*base, *head}) if base.get(path) != head.get(path)]
    conflicts = [path for path in changed if main.get(path) not in (base.get(path), head.get(path))]
    files = {path: value for path, value in main.items() if path not in changed}
    return files | {path: head[path] for path in changed if path in head}, conflicts


def _diff(repo: Repo, base: gitio.Files, head: gitio.Files) -> str:
    def lines(side: gitio.Files, path: bytes) -> list[str]:
        data: bytes = repo.object_store[side[path][1]].data if path in side else b""
        if len(data) > LARGEST_COMPARED or data.count(b"\n") > MOST_LINES_COMPARED:
            return [f"(a file of {len(data):,} bytes, blob {side[path][1].decode()})"]
        return data.decode("utf-8", "replace").splitlines()

    parts: list[str] = []
    for path in sorted({*base, *head}):
        if base.get(path) != head.get(path):
            name = path.decode()
            parts += difflib.unified_diff(lines(base, path), lines(head, path), f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join(parts)[:LARGEST_DIFF]
