"""Commits, branches and tags, and the history of a branch: each change moves one ref, under the repo's lock."""

from __future__ import annotations

import base64
import fnmatch
import html
import re
import tempfile
from collections.abc import Iterator
from typing import IO, cast

from dulwich.objects import Commit
from dulwich.repo import Repo as GitRepo
from dulwich.walk import Walker

from hubdpo.loopback import gitio, limits
from hubdpo.loopback.api.access import may_propose, may_write
from hubdpo.loopback.api.community.pulls import Pulls, new_discussion
from hubdpo.loopback.api.content.card_checks import checked_card
from hubdpo.loopback.http.requests import Fields, parse, sent_fields, sent_json_parts
from hubdpo.loopback.http.wire import (
    JSON,
    LONGEST_MESSAGE,
    Answer,
    Refusal,
    Request,
    User,
    as_json,
    next_page,
    shortened,
)
from hubdpo.loopback.names import file_path, ref_name
from hubdpo.loopback.storage.store import Repo, Store

PAGE, LARGEST_PAGE = 50, 1000
LARGEST_REGULAR = 10 * 2**20
KEPT_IN_MEMORY = 8 * 2**20
LARGEST_COMMIT = 2**30
"""Largest body of a commit request, in bytes; regular files are in it as base64."""
OPEN_REFS = ("refs/heads/", "refs/pr/")
"""Refs that a commit may name in full: tags never move."""


class Commits:
    def __init__(self, store: Store, pulls: Pulls, endpoint: str) -> None:
        self._store, self._pulls, self._endpoint = store, pulls, endpoint

    def preupload(self, request: Request, repo: Repo, revision: str) -> Answer:
        """Return for each file its upload mode (LFS or regular), whether .gitignore excludes it, and its object id."""
        self._may_commit(request, repo, revision)
        fields = sent_fields(request)
        with self._store.git(repo) as git:
            sha = gitio.resolve(git, revision)
            files = gitio.files_of(git, sha)
            patterns = [line.split()[0] for line in _lines(git, files, b".gitattributes") if "filter=lfs" in line]
            ignored = (fields.text("gitIgnore") or "\n".join(_lines(git, files, b".gitignore"))).splitlines()
            large_rules, ignore_rules = _rules(patterns, ".gitattributes"), _rules(ignored, ".gitignore")
            if len(fields.items("files")) > limits.MOST_NAMED:
                raise Refusal(413, f"one request names at most {limits.MOST_NAMED:,} files")
            entries: list[JSON] = []
            for file in map(Fields, fields.items("files")):
                path = file.text("path")
                name = file_path(path)
                binary = b"\0" in _decoded(file.text("sample"), f"the sample of {path}")
                large = binary or file.count("size") > LARGEST_REGULAR or _matches(path, large_rules)
                mode = "lfs" if large else "regular"
                answer = {"path": path, "uploadMode": mode, "shouldIgnore": _matches(path, ignore_rules)}
                if here := files.get(name):
                    entry = gitio.tree_entry(git, name, here[1])
                    answer["oid"] = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
                entries.append(answer)
        if any(entry["uploadMode"] == "lfs" and not entry["shouldIgnore"] for entry in entries):
            limits.check_any_room(self._store.root)
        return as_json({"files": entries, "commitOid": sha.decode()})

    def commit(self, request: Request, repo: Repo, revision: str) -> Answer:
        """Apply all operations or none, to the branch or, with `create_pr`, as a pull request onto it."""
        user = self._may_commit(request, repo, revision)
        # a large body goes to disk, so that many uploads do not fill the memory
        with tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY, mode="w+b", dir=str(self._store.incoming)) as body:
            for part in sent_json_parts(request, LARGEST_COMMIT):
                body.write(part)
            return self._commit(request, repo, revision, user, cast("IO[bytes]", body))

    def _commit(self, request: Request, repo: Repo, revision: str, user: User, body: IO[bytes]) -> Answer:
        header = _header(body)
        ref = revision.encode() if revision.startswith(OPEN_REFS) else b"refs/heads/" + revision.encode()
        with self._store.changing(repo) as git:
            parent = git.refs.as_dict().get(ref)
            if parent is None:
                raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            if (expected := header.text("parentCommit")) and not parent.decode().startswith(expected):
                raise Refusal(412, gitio.MOVED)
            files = gitio.files_of(git, parent)
            for key, value in _operations(body):
                if key != "header":
                    self._apply(git, repo, files, key, value)
            title, description = header.text("summary"), header.text("description")
            message = f"{title}\n\n{description}" if description else title
            page, pull_url = f"{self._endpoint}/{repo.page}", {}
            if request.flag("create_pr"):
                entry = new_discussion(user, title, description, base=parent)
                with self._pulls.opened(git, repo, entry) as pull_ref:
                    sha = gitio.write_commit(git, pull_ref, parent, files, message, user.name).decode()
                pull_url = {"pullRequestUrl": f"{page}/discussions/{entry['num']}"}
            else:
                sha = gitio.write_commit(git, ref, parent, files, message, user.name).decode()
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{page}/commit/{sha}", "hookOutput": ""}
        return as_json(answer | pull_url)

    def _may_commit(self, request: Request, repo: Repo, revision: str) -> User:
        """Return the user: the owner, the author of the pull request of this ref, or anyone who opens a new one."""
        opened = revision.startswith("refs/pr/") and request.user is not None
        if request.flag("create_pr") or (opened and request.reader == self._pulls.author(repo, revision)):
            return may_propose(request, repo)
        return may_write(request, repo)

    def _apply(self, git: GitRepo, repo: Repo, files: gitio.Files, key: str, value: Fields) -> None:
        named = value.text("path")
        path = file_path(named.removesuffix("/") if key in ("deletedFile", "deletedFolder") else named)
        if key == "file":
            files[path] = (gitio.FILE_MODE, gitio.add_blob(git, _content(value)))
        elif key == "lfsFile":
            oid = value.text("oid")
            size = self._store.large_size(repo, oid)
            if size is None or value.count("size", size) != size:
                raise Refusal(400, f"{path.decode()} points to an object that was not uploaded: {oid}")
            files[path] = (gitio.FILE_MODE, gitio.add_blob(git, gitio.pointer(oid, size)))
        elif key in ("deletedFile", "deletedFolder"):
            # as on huggingface.co, a folder may be named without its slash
            deleted = [name for name in files if name == path or name.startswith(path + b"/")]
            if not deleted:
                raise Refusal(404, f"A file with this name doesn't exist: {path.decode()}", "EntryNotFound")
            for name in deleted:
                del files[name]
        else:
            raise Refusal(400, f"unknown operation: {key}")

    def history(self, request: Request, repo: Repo, revision: str) -> Answer:
        page, size = request.count("p", 0), min(request.count("limit", PAGE), LARGEST_PAGE)
        with self._store.git(repo) as git:
            walk = Walker(git.object_store, [gitio.resolve(git, revision or "main")], order="topo")
            history = [entry.commit for entry in walk]
            formatted = "formatted" in request.parameters("expand[]")
            listed = [_described(commit, formatted) for commit in history[page * size : (page + 1) * size]]
        answer = as_json(listed, X_Total_Count=str(len(history)))
        if (page + 1) * size < len(history):
            answer.headers["Link"] = next_page(self._endpoint, request, p=page + 1, limit=size)
        return answer

    def squash(self, request: Request, repo: Repo, branch: str) -> None:
        """Replace the history of a branch, or of a ref such as `refs/convert/parquet`, by one commit with its files."""
        user = may_write(request, repo)
        message = sent_fields(request).text("message") or f"Super-squash branch '{branch}'"
        with self._store.changing(repo) as git:
            refs = git.refs.as_dict()
            names = [f"refs/heads/{branch}".encode(), branch.encode()]
            ref = next((name for name in names if name in refs), None)
            if ref is None:
                gitio.resolve(git, branch)  # or nothing has this name
            if ref is None or ref.startswith(b"refs/tags/"):
                raise Refusal(400, f"Invalid reference for a branch: {branch}")
            gitio.write_commit(git, ref, None, gitio.files_of(git, refs[ref]), message, user.name, replaced=refs[ref])

    def create_branch(self, request: Request, repo: Repo, name: str) -> None:
        may_write(request, repo)
        fields = sent_fields(request)  # before the lock: a client may send slowly
        with self._store.changing(repo) as git:
            ref = ref_name("refs/heads/", name, git.refs.as_dict())
            if not git.refs.add_if_new(ref, gitio.resolve(git, fields.text("startingPoint") or "main")):
                raise Refusal(409, f"Reference refs/heads/{name} already exists")

    def create_tag(self, request: Request, repo: Repo, revision: str) -> None:
        user = may_write(request, repo)
        fields = sent_fields(request)
        with self._store.changing(repo) as git:
            commit = gitio.resolve(git, revision)
            ref = ref_name("refs/tags/", fields.text("tag"), git.refs.as_dict())
            gitio.write_tag(git, ref, commit, fields.text("message"), user.name)

    def delete_ref(self, request: Request, repo: Repo, kind: str, name: str) -> None:
        may_write(request, repo)
        sent_fields(request)
        if (kind, name) == ("branch", "main"):
            raise Refusal(400, "Cannot delete refs/heads/main")
        ref = f"refs/{'heads' if kind == 'branch' else 'tags'}/{name}".encode()
        with self._store.changing(repo) as git:
            if ref not in git.refs.as_dict():
                raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
            del git.refs[ref]

    def validate_yaml(self, request: Request) -> Answer:
        try:
            data = checked_card(sent_fields(request).text("content"))
        except ValueError as problem:
            message = shortened(str(problem), LONGEST_MESSAGE)
            if "text/plain" in request.headers.get("accept", ""):  # as RepoCard.validate asks, to show it as it is
                return Answer(400, {"Content-Type": "text/plain; charset=utf-8"}, f"- Error: {message}\n".encode())
            return as_json({"error": message, "errors": [{"message": message}], "warnings": []}, 400)
        warnings = [] if data else [{"message": "empty or missing yaml metadata in repo card", "line": 1}]
        return as_json({"errors": [], "warnings": warnings})


def _operations(body: IO[bytes]) -> Iterator[tuple[str, Fields]]:
    """Yield the key and value of each line of a commit. Raise Refusal 413 for too long or too many lines."""
    body.seek(0)
    for _ in range(limits.MOST_OPERATIONS):
        line = body.readline(limits.LARGEST_LINE_OF_COMMIT + 1)
        if not line:
            return
        if len(line) > (most := limits.LARGEST_LINE_OF_COMMIT):
            raise Refusal(413, f"a line has more than {most} bytes: too large for a regular file")
        if line.strip():
            item = Fields(parse(line))
            yield item.text("key"), item.object("value")
    raise Refusal(413, f"a commit has at most {limits.MOST_OPERATIONS} operations")


def _header(body: IO[bytes]) -> Fields:
    """Return the header, after parsing every line: nothing is written for a commit with a malformed one."""
    header = Fields({})
    for key, value in _operations(body):
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
            checked_card(data.decode("utf-8", "replace"))
        except ValueError as problem:
            raise Refusal(400, f"Invalid metadata in README.md: {problem}") from None
    return data


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Refusal(400, f"{name} is not base64") from None


def _lines(git: GitRepo, files: gitio.Files, path: bytes) -> list[str]:
    if path not in files:
        return []
    text: str = git.object_store[files[path][1]].data.decode("utf-8", "replace")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _rules(lines: list[str], name: str) -> list[re.Pattern[str]]:
    rules = dict.fromkeys(line.strip() for line in lines if line.strip())
    most, longest = limits.MOST_RULES, limits.LONGEST_RULE
    if len(rules) > most or max(map(len, rules), default=0) > longest:
        raise Refusal(413, f"{name} has at most {most:,} rules, each of at most {longest} characters")
    return [re.compile(fnmatch.translate(rule)) for rule in rules]


def _matches(path: str, rules: list[re.Pattern[str]]) -> bool:
    name = path.rpartition("/")[2]
    return any(rule.match(name) or rule.match(path) for rule in rules)


def _described(commit: Commit, formatted: bool) -> JSON:
    title, _, message = commit.message.decode("utf-8", "replace").partition("\n\n")
    author = commit.author.decode("utf-8", "replace").partition(" <")[0]
    described: JSON = {
        "id": commit.id.decode(), "title": title, "message": message, "date": gitio.iso(commit.commit_time),
        "authors": [{"user": author, "avatar": ""}],
    }  # fmt: skip
    if formatted:  # as HTML
        paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in message.split("\n\n") if part.strip())
        described["formatted"] = {"title": html.escape(title), "message": paragraphs}
    return described
