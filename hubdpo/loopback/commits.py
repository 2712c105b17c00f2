"""What changes a repo: commits, branches and tags, each one move of a ref under the repo's lock."""

from __future__ import annotations

import base64
import fnmatch
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from dulwich.repo import Repo

from hubdpo.loopback import gitio
from hubdpo.loopback.access import may_propose, may_write
from hubdpo.loopback.card_checks import card_data
from hubdpo.loopback.fields import Fields, parse, sent_fields, sent_json_parts
from hubdpo.loopback.limits import LARGEST_LINE_OF_COMMIT, LONGEST_RULE, MOST_NAMED, MOST_OPERATIONS, MOST_RULES
from hubdpo.loopback.names import file_path, ref_name
from hubdpo.loopback.pulls import Pulls
from hubdpo.loopback.repos import Repos
from hubdpo.loopback.room import check_any_room
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import LONGEST_MESSAGE, Answer, Refusal, Request, User, as_json, shortened

LARGEST_REGULAR = 10 * 2**20
KEPT_IN_MEMORY = 8 * 2**20
LARGEST_COMMIT = 2**30
"""Most bytes of the body of a commit, in which regular files stand as base64."""
OPEN_REFS = ("refs/heads/", "refs/pr/")
"""Where a commit may go by the full name of a ref: a tag stays where it is."""


class Commits:
    def __init__(self, store: Store, repos: Repos, pulls: Pulls) -> None:
        self._store, self._repos, self._pulls = store, repos, pulls

    def preupload(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        """Tell for each file whether it goes by LFS, whether .gitignore keeps it out, and what stands there now."""
        self._may_commit(request, kind, repo_id, revision)
        asked = sent_fields(request)
        with self._store.git(kind, repo_id) as repo:
            sha = gitio.resolve(repo, revision)
            files = gitio.files_of(repo, sha)
            patterns = [line.split()[0] for line in _lines(repo, files, b".gitattributes") if "filter=lfs" in line]
            ignored = (asked.text("gitIgnore") or "\n".join(_lines(repo, files, b".gitignore"))).splitlines()
            large_rules, ignore_rules = _rules(patterns, ".gitattributes"), _rules(ignored, ".gitignore")
            if len(asked.items("files")) > MOST_NAMED:
                raise Refusal(413, f"one request names at most {MOST_NAMED:,} files")
            shown = []
            for file in map(Fields, asked.items("files")):
                path = file.text("path")
                name = file_path(path)
                binary = b"\0" in _decoded(file.text("sample"), f"the sample of {path}")
                large = binary or file.count("size") > LARGEST_REGULAR or _matches(path, large_rules)
                answer: dict[str, Any] = {
                    "path": path,
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": _matches(path, ignore_rules),
                }
                if here := files.get(name):
                    entry = gitio.file_entry(name, here[1], repo.object_store[here[1]].data)
                    answer["oid"] = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
                shown.append(answer)
        if any(file["uploadMode"] == "lfs" and not file["shouldIgnore"] for file in shown):
            check_any_room(self._store.root)
        return as_json({"files": shown, "commitOid": sha.decode()})

    def commit(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        """Apply all operations or none, to the branch or, with `create_pr`, as a pull request onto it.

        Raise Refusal 412 when the branch is not at `parentCommit`.
        """
        user = self._may_commit(request, kind, repo_id, revision)
        with self._received(request) as body:
            return self._commit(request, kind, repo_id, revision, user, body)

    @contextmanager
    def _received(self, request: Request) -> Iterator[IO[bytes]]:
        """Yield the body of a commit, on disk when it is large: nobody's files stand in memory all at once."""
        with tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY, mode="w+b", dir=str(self._store.incoming)) as body:
            for part in sent_json_parts(request, LARGEST_COMMIT):
                body.write(part)
            yield cast("IO[bytes]", body)

    def _commit(self, request: Request, kind: str, repo_id: str, revision: str, user: User, body: IO[bytes]) -> Answer:
        header = _header(body)
        ref = revision.encode() if revision.startswith(OPEN_REFS) else b"refs/heads/" + revision.encode()
        with self._store.changing(kind, repo_id) as repo:
            parent = gitio.refs_of(repo).get(ref)
            if parent is None:
                raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            if (expected := header.text("parentCommit")) and not parent.decode().startswith(expected):
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = gitio.files_of(repo, parent)
            for key, value in _lines_sent(body):
                if key != "header":
                    self._apply(repo, kind, repo_id, files, key, value)
            title, description = header.text("summary"), header.text("description")
            message = f"{title}\n\n{description}" if description else title
            number = self._pulls.next_number(repo, kind, repo_id) if request.flag("create_pr") else 0
            if number:
                with self._pulls.ref_of(repo, number, parent) as ref:
                    sha = gitio.write_commit(repo, ref, parent, files, message, user.name).decode()
                    self._pulls.open(
                        number, kind, repo_id, user=user, base=parent, title=title, description=description
                    )
            else:
                sha = gitio.write_commit(repo, ref, parent, files, message, user.name).decode()
        page = self._repos.url(kind, repo_id)
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{page}/commit/{sha}", "hookOutput": ""}
        return as_json(answer | ({"pullRequestUrl": f"{page}/discussions/{number}"} if number else {}))

    def _may_commit(self, request: Request, kind: str, repo_id: str, revision: str) -> User:
        """Return the user: the owner, whoever opens a pull request, or who opened the one of this ref."""
        if request.flag("create_pr"):
            return may_propose(self._store, request, kind, repo_id)
        user = request.user
        if revision.startswith("refs/pr/") and user and user.name == self._pulls.author(kind, repo_id, revision):
            return may_propose(self._store, request, kind, repo_id)
        return may_write(self._store, request, kind, repo_id)

    def _apply(self, repo: Repo, kind: str, repo_id: str, files: gitio.Files, key: str, value: Fields) -> None:
        named = value.text("path")
        path = file_path(named.removesuffix("/") if key == "deletedFolder" else named)
        if key == "file":
            files[path] = (gitio.FILE_MODE, gitio.add_blob(repo, _content(value)))
        elif key == "lfsFile":
            oid = value.text("oid")
            size = self._store.large_size(kind, repo_id, oid)
            if size is None or value.count("size", size) != size:
                raise Refusal(400, f"{path.decode()} points to an object that was not uploaded: {oid}")
            files[path] = (gitio.FILE_MODE, gitio.add_blob(repo, gitio.pointer(oid, size)))
        elif key in ("deletedFile", "deletedFolder"):
            prefix = path + b"/"
            gone = [name for name in files if name == path or (key == "deletedFolder" and name.startswith(prefix))]
            if not gone:
                raise Refusal(404, f"A file with this name doesn't exist: {path.decode()}", "EntryNotFound")
            for name in gone:
                del files[name]
        else:
            raise Refusal(400, f"unknown operation: {key}")

    def branch(self, request: Request, kind: str, repo_id: str, name: str) -> Answer:
        may_write(self._store, request, kind, repo_id)
        asked = sent_fields(request)  # all of it before the lock: a client may take its time
        with self._store.changing(kind, repo_id) as repo:
            if request.method == "POST":
                ref = ref_name("refs/heads/", name, gitio.refs_of(repo))
                start = gitio.resolve(repo, asked.text("startingPoint") or "main")
                if not repo.refs.add_if_new(ref, start):
                    raise Refusal(409, f"Reference refs/heads/{name} already exists")
            else:
                if name == "main":
                    raise Refusal(400, "Cannot delete the main branch")
                _remove(repo, b"refs/heads/" + name.encode(), name)
        return as_json({})

    def tag(self, request: Request, kind: str, repo_id: str, name: str) -> Answer:
        """Make a tag of the revision in the path, or remove the tag there."""
        user = may_write(self._store, request, kind, repo_id)
        asked = sent_fields(request)
        with self._store.changing(kind, repo_id) as repo:
            if request.method == "POST":
                ref = ref_name("refs/tags/", asked.text("tag"), gitio.refs_of(repo))
                gitio.write_tag(repo, ref, gitio.resolve(repo, name), asked.text("message"), user.name)
            else:
                _remove(repo, b"refs/tags/" + name.encode(), name)
        return as_json({})

    def validate_yaml(self, request: Request) -> Answer:
        try:
            data = card_data(sent_fields(request).text("content"))
        except ValueError as problem:
            message = shortened(str(problem), LONGEST_MESSAGE)
            return as_json({"error": message, "errors": [{"message": message}], "warnings": []}, 400)
        warnings = [] if data else [{"message": "empty or missing yaml metadata in repo card", "line": 1}]
        return as_json({"errors": [], "warnings": warnings})


def _lines_sent(body: IO[bytes]) -> Iterator[tuple[str, Fields]]:
    """Yield key and value of each line. Raise Refusal 413 for lines that are too long or too many."""
    body.seek(0)
    for _ in range(MOST_OPERATIONS):
        line = body.readline(LARGEST_LINE_OF_COMMIT + 1)
        if not line:
            return
        if len(line) > LARGEST_LINE_OF_COMMIT:
            raise Refusal(413, f"a line has more than {LARGEST_LINE_OF_COMMIT} bytes: too large for a regular file")
        if line.strip():
            item = Fields(parse(line))
            yield item.text("key"), item.object("value")
    raise Refusal(413, f"a commit has at most {MOST_OPERATIONS} operations")


def _header(body: IO[bytes]) -> Fields:
    """Return the header, having seen that all the other lines can be read."""
    header = Fields({})
    for key, value in _lines_sent(body):
        if key == "header":
            header = value
    if not header.text("summary"):
        raise Refusal(400, "the commit has no summary")
    return header


def _content(value: Fields) -> bytes:
    path, content = value.text("path"), value.text("content")
    data = _decoded(content, path) if value.text("encoding") == "base64" else content.encode()
    if len(data) > LARGEST_REGULAR:
        raise Refusal(413, f"{path} is too large for a regular file")
    if path == "README.md":
        try:
            card_data(data.decode("utf-8", "replace"))
        except ValueError as problem:
            raise Refusal(400, f"Invalid metadata in README.md: {problem}") from None
    return data


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Refusal(400, f"{name} is not base64") from None


def _lines(repo: Repo, files: gitio.Files, path: bytes) -> list[str]:
    if path not in files:
        return []
    text: str = repo.object_store[files[path][1]].data.decode("utf-8", "replace")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _rules(lines: list[str], name: str) -> list[re.Pattern[str]]:
    rules = dict.fromkeys(line.strip() for line in lines if line.strip())
    if len(rules) > MOST_RULES or max(map(len, rules), default=0) > LONGEST_RULE:
        raise Refusal(413, f"{name} has at most {MOST_RULES:,} rules, each of at most {LONGEST_RULE} characters")
    return [re.compile(fnmatch.translate(rule)) for rule in rules]


def _matches(path: str, rules: list[re.Pattern[str]]) -> bool:
    name = path.rpartition("/")[2]
    return any(rule.match(name) or rule.match(path) for rule in rules)


def _remove(repo: Repo, ref: bytes, name: str) -> None:
    if ref not in gitio.refs_of(repo):
        raise Refusal(404, f"Reference {name} does not exist", "RevisionNotFound")
    del repo.refs[ref]
