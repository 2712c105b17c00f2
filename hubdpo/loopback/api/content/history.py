"""The history of a branch in the API: list its commits, or squash them into one."""

from __future__ import annotations

import html

from dulwich.objects import Commit
from dulwich.walk import Walker

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import may_write
from hubdpo.loopback.http.requests import sent_fields
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json, next_page
from hubdpo.loopback.storage.store import Repo, Store

PAGE, LARGEST_PAGE = 50, 1000


class History:
    def __init__(self, store: Store, endpoint: str) -> None:
        self._store, self._endpoint = store, endpoint

    def commits(self, request: Request, repo: Repo, revision: str) -> Answer:
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
