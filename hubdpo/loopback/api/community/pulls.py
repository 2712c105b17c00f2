"""Discussions and pull requests: anyone who can read a repo may propose a commit, and its owner merges it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dulwich.repo import Repo as GitRepo

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import may_propose, may_write
from hubdpo.loopback.http.requests import Fields, sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, User, as_json, shortened
from hubdpo.loopback.names import identifier
from hubdpo.loopback.storage.folder import read_document, write_document
from hubdpo.loopback.storage.store import Repo, Store

OPEN = ("open", "draft")
"""States of a discussion that is not closed or merged."""
HIDDEN = "This comment has been hidden"
"""Replaces the text of a hidden comment, which is not kept."""
PAGE = 50
SHORTEST_TITLE, LONGEST_TITLE = 3, 200
"""Characters of the title of a discussion, as the client says."""
LARGEST_DIFF, LARGEST_COMPARED, MOST_LINES_COMPARED = 100_000, 200_000, 2_000
"""Longest diff, in characters, and largest file that is compared, in bytes and lines: difflib is quadratic."""


class Pulls:
    def __init__(self, store: Store) -> None:
        self._store = store

    @contextmanager
    def opened(self, git: GitRepo, repo: Repo, entry: JSON) -> Iterator[bytes]:
        """Number a discussion and store it after the block, which gets the ref of a pull request, at its base."""
        entries = self._read(repo)  # the caller holds the lock of the repo
        # discussions and pull requests share their numbers, which are never reused
        taken = [int(ref.rpartition(b"/")[2]) for ref in git.refs.as_dict() if ref.startswith(b"refs/pr/")]
        entry["num"] = max([*taken, *(other["num"] for other in entries)], default=0) + 1
        ref = f"refs/pr/{entry['num']}".encode()
        if entry["pull_request"]:
            git.refs.add_if_new(ref, entry["base"].encode())
        try:
            yield ref
            write_document(self._path(repo), [*entries, entry])
        except BaseException:  # a full disk, for example
            if entry["pull_request"]:
                del git.refs[ref]
            raise

    def author(self, repo: Repo, ref: str) -> str | None:
        """Return the author of the open pull request of a ref `refs/pr/N`, None if there is no such pull request."""
        number = ref.removeprefix("refs/pr/")
        authors = [e["author"] for e in self._read(repo) if str(e["num"]) == number and e["status"] in OPEN]
        return str(authors[0]) if authors else None

    def listing(self, request: Request, repo: Repo) -> Answer:
        kinds = {"pull_request": (True,), "discussion": (False,)}.get(request.parameter("type"), (True, False))
        states = {"open": OPEN, "closed": ("closed", "merged")}.get(request.parameter("status"))
        author = request.parameter("author")
        found = [e for e in self._read(repo) if e["pull_request"] in kinds and author in ("", e["author"])]
        entries = [_summary(repo, e) for e in reversed(found) if states is None or e["status"] in states]
        start = request.count("p", 0) * PAGE
        return as_json({"discussions": entries[start : start + PAGE], "count": len(entries), "start": start})

    def create(self, request: Request, repo: Repo) -> Answer:
        user = may_propose(request, repo)
        fields = sent_fields(request)
        title, description, pull_request = _title(fields), fields.text("description"), fields.flag("pullRequest")
        with self._store.changing(repo) as git:
            entry = new_discussion(user, title, description, base=gitio.resolve(git, "main"))
            entry |= {"status": "draft" if pull_request else "open", "pull_request": pull_request}
            with self.opened(git, repo, entry):
                pass  # it has no commit yet
        return as_json({"num": entry["num"]})

    def details(self, request: Request, repo: Repo, number: str) -> Answer:
        entry = _find(self._read(repo), number)
        details = _summary(repo, entry) | {"events": entry["events"]}
        if entry["pull_request"]:
            with self._store.git(repo) as git:
                base, head, main = _sides(git, entry)
                conflicts = [] if entry["merge"] else _merged(base, head, main)[1]
                details["changes"] = {"base": "refs/heads/main", "mergeCommitId": entry["merge"]}
                details["filesWithConflicts"] = [path.decode() for path in conflicts]
                if request.flag("diff"):
                    details["diff"] = _diff(git, base, head)
        return as_json(details)

    def change(self, request: Request, repo: Repo, number: str, action: str) -> Answer:
        fields = sent_fields(request)
        user = may_propose(request, repo)
        with self._store.lock(repo):
            entries = self._read(repo)
            entry = _find(entries, number)
            if action == "merge" or (action != "comment" and user.name != entry["author"]):
                may_write(request, repo)
            answer: JSON = {}
            if action == "comment" or fields.text("comment"):  # a merge and a change of status may come with one
                answer = {"newMessage": _add_event(entry, user, "comment", _comment(fields.text("comment")))}
            if action == "title":
                change = {"from": entry["title"], "to": _title(fields)}
                entry["title"] = change["to"]
                answer = {"newTitle": _add_event(entry, user, "title-change", change)}
            elif action == "status":
                status = fields.text("status")
                if status not in ("open", "closed") or entry["status"] == "merged":
                    raise Refusal(409, f"a discussion that is {entry['status']} cannot become {status!r}")
                entry["status"] = status
                answer = {"newStatus": _add_event(entry, user, "status-change", {"status": status})}
            elif action == "merge":
                with self._store.changing(repo) as git:
                    _merge(git, entry, user)
            write_document(self._path(repo), entries)
        return as_json(answer)

    def change_comment(self, request: Request, repo: Repo, number: str, comment: str, action: str) -> Answer:
        """Let its author edit a comment, and its author or an owner of the repo hide it for good."""
        fields = sent_fields(request)
        user = may_propose(request, repo)
        with self._store.lock(repo):
            entries = self._read(repo)
            event = _find_comment(_find(entries, number), comment)
            own = event["author"]["name"] == user.name
            if action == "hide":
                if not own:
                    may_write(request, repo)
                event["data"] |= {"hidden": True, "latest": {"raw": HIDDEN}}
            elif not own:
                raise Refusal(403, "Forbidden: only its author edits a comment.")
            elif event["data"]["hidden"]:
                raise Refusal(409, "a hidden comment cannot be edited")
            else:
                event["data"] |= {"edited": True, "latest": {"raw": fields.text("content")}}
            write_document(self._path(repo), entries)
        return as_json({"updatedComment": event})

    def commits(self, repo: Repo, git: GitRepo) -> set[bytes]:
        """Return the commits that pull requests name and git has: a squashed history takes some away."""
        named = {entry[field].encode() for entry in self._read(repo) for field in ("base", "merge") if entry[field]}
        return {sha for sha in named if sha in git.object_store}

    def follow(self, repo: Repo, commits: Mapping[bytes, bytes]) -> None:
        """Write the new ids of rewritten commits into all pull requests; the caller holds the lock of the repo."""
        entries = self._read(repo)
        for entry in entries:
            for field in ("base", "merge"):
                if entry[field]:
                    entry[field] = commits.get(entry[field].encode(), entry[field].encode()).decode()
        if entries:
            write_document(self._path(repo), entries)

    def _path(self, repo: Repo) -> Path:
        return self._store.git_folder(repo) / "discussions.json"

    def _read(self, repo: Repo) -> list[JSON]:
        return read_document(self._path(repo))


def new_discussion(user: User, title: str, description: str, *, base: bytes) -> JSON:
    """Return the entry of a pull request onto the commit `base`, open and with the description as first comment."""
    entry: JSON = {
        "num": 0, "title": shortened(title, LONGEST_TITLE), "author": user.name, "created": time.time(),
        "status": "open", "pull_request": True, "base": base.decode(), "merge": None, "events": [],
    }  # fmt: skip
    _add_event(entry, user, "comment", _comment(description))
    return entry


def _merge(git: GitRepo, entry: JSON, user: User) -> None:
    """Commit the changes of a pull request to main, and mark it merged. Raise Refusal 409 on a conflict with main."""
    if not entry["pull_request"] or entry["status"] not in OPEN:
        raise Refusal(409, "there is nothing to merge")
    base, head, main = _sides(git, entry)
    files, conflicts = _merged(base, head, main)
    if conflicts:
        raise Refusal(409, f"conflicts with main: {conflicts[0].decode()}")
    parent = gitio.resolve(git, "main")
    title = f"{entry['title']} (#{entry['num']})"
    first = entry["events"][0]["data"]
    description = "" if first["hidden"] else first["latest"]["raw"]
    message = f"{title}\n\n{description}" if description else title
    entry["merge"] = gitio.write_commit(git, b"refs/heads/main", parent, files, message, user.name).decode()
    entry["status"] = "merged"
    _add_event(entry, user, "status-change", {"status": "merged"})


def _sides(git: GitRepo, entry: JSON) -> tuple[gitio.Files, gitio.Files, gitio.Files]:
    """Return the files at the pull request's base, at its head and on main."""
    revisions = (entry["base"], f"refs/pr/{entry['num']}", "main")
    base, head, main = (gitio.files_of(git, gitio.resolve(git, revision)) for revision in revisions)
    return base, head, main


def _summary(repo: Repo, entry: JSON) -> JSON:
    return {
        "num": entry["num"], "title": entry["title"], "author": {"name": entry["author"]},
        "createdAt": gitio.iso(entry["created"]), "status": entry["status"],
        "isPullRequest": entry["pull_request"], "repo": {"name": repo.id, "type": repo.kind},
    }  # fmt: skip


def _find(entries: list[JSON], number: str) -> JSON:
    for entry in entries:
        if str(entry["num"]) == number:
            return entry
    raise Refusal(404, f"there is no discussion {number}")


def _find_comment(entry: JSON, comment: str) -> JSON:
    for event in entry["events"]:
        if event["id"] == comment and event["type"] == "comment":
            found: JSON = event
            return found
    raise Refusal(404, f"there is no comment {comment}")


def _title(fields: Fields) -> str:
    title = fields.text("title").strip()
    if not SHORTEST_TITLE <= len(title) <= LONGEST_TITLE:
        raise Refusal(400, f"a title has {SHORTEST_TITLE} to {LONGEST_TITLE} characters, not {len(title):,}")
    return title


def _comment(text: str) -> JSON:
    return {"edited": False, "hidden": False, "latest": {"raw": text}}


def _add_event(entry: JSON, user: User, kind: str, data: JSON) -> JSON:
    event = {
        "id": identifier(f"{entry['num']} {len(entry['events'])} {time.time_ns()}"), "type": kind,
        "createdAt": gitio.iso(time.time()), "author": {"name": user.name}, "data": data,
    }  # fmt: skip
    entry["events"].append(event)
    return event


def _merged(base: gitio.Files, head: gitio.Files, main: gitio.Files) -> tuple[gitio.Files, list[bytes]]:
    """Apply the changes from base to head to main. Return the files, and the paths that main changed differently."""
    changed = [path for path in sorted({*base, *head}) if base.get(path) != head.get(path)]
    conflicts = [path for path in changed if main.get(path) not in (base.get(path), head.get(path))]
    files = {path: value for path, value in main.items() if path not in changed}
    return files | {path: head[path] for path in changed if path in head}, conflicts


def _diff(git: GitRepo, base: gitio.Files, head: gitio.Files) -> str:
    def lines(side: gitio.Files, path: bytes) -> list[str]:
        data: bytes = git.object_store[side[path][1]].data if path in side else b""
        if len(data) > LARGEST_COMPARED or data.count(b"\n") > MOST_LINES_COMPARED:
            return [f"(a file of {len(data):,} bytes, blob {side[path][1].decode()})"]
        return data.decode("utf-8", "replace").splitlines()

    parts: list[str] = []
    for path in sorted({*base, *head}):
        if base.get(path) != head.get(path):
            name = path.decode()
            parts += difflib.unified_diff(lines(base, path), lines(head, path), f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join(parts)[:LARGEST_DIFF]
