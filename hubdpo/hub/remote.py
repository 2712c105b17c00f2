"""A repo on the Hub, read and changed in steps that can be repeated after any failure.

A write whose answer is lost may have happened. So no write is repeated blindly: the branch is read again, and trees are
compared, because the tree alone says what is there (a commit call answers with the current head when nothing differs).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hubdpo.errors import HubError
from hubdpo.hub.bundle import BundleContent, content_of, git_blob_id
from hubdpo.hub.client import RepoType, api, is_unknown_outcome, status_of
from hubdpo.hub.versions import parse_tag
from hubdpo.manifest import BUNDLE_FILE, Bundle

T = TypeVar("T")
TRIES = 8
LONGEST_WAIT_S = 30.0
Tree = dict[str, str]
"""Path to SHA-256 of a large file, or git blob id of another."""


def wait_before(attempt: int, problem: BaseException | None = None) -> None:
    """Wait longer from try to try; as long as the server says, when it says."""
    response = getattr(problem, "response", None)
    told = response.headers.get("Retry-After", "") if response is not None else ""
    time.sleep(min(float(told) if told.isdigit() else 0.25 * 2**attempt, LONGEST_WAIT_S))


def repeat(call: Callable[[], T]) -> T:
    """Call what can be repeated without harm until an answer comes, at most TRIES times."""
    for attempt in range(TRIES):
        try:
            return call()
        except Exception as problem:
            if not is_unknown_outcome(problem) or attempt == TRIES - 1:
                raise
            wait_before(attempt, problem)
    raise AssertionError("unreachable")


class Remote:
    """One repo, which need not exist yet."""

    def __init__(self, repo_id: str, repo_type: RepoType) -> None:
        self.repo_id, self.repo_type = repo_id, repo_type
        self._named: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}

    def exists(self) -> bool:
        return bool(repeat(lambda: api().repo_exists(**self._named)))

    def create(self, *, private: bool) -> None:
        repeat(lambda: api().create_repo(**self._named, private=private, exist_ok=True))

    def branches(self) -> dict[str, str]:
        refs = repeat(lambda: api().list_repo_refs(**self._named))
        return {branch.name: branch.target_commit for branch in refs.branches}

    def tags(self) -> dict[str, str]:
        refs = repeat(lambda: api().list_repo_refs(**self._named))
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tree(self, commit: str) -> Tree:
        items = repeat(lambda: list(api().list_repo_tree(**self._named, recursive=True, revision=commit)))
        return {item.path: item.lfs.sha256 if item.lfs else item.blob_id for item in items if hasattr(item, "blob_id")}

    def bundle(self, commit: str, tree: Tree) -> Bundle | None:
        """Return the manifest of the release that a commit holds; None when it holds none that can be read."""
        if BUNDLE_FILE not in tree:
            return None
        with TemporaryDirectory(prefix="hubdpo-") as cache:
            path = repeat(
                lambda: api().hf_hub_download(**self._named, filename=BUNDLE_FILE, revision=commit, cache_dir=cache)
            )
            try:
                return Bundle.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
            except ValueError:
                return None

    def start_branch(self, name: str, commit: str) -> None:
        # an existing branch is our own, from an earlier try: its name holds the bundle's id
        repeat(lambda: api().create_branch(**self._named, branch=name, revision=commit, exist_ok=True))

    def drop_branch(self, name: str) -> None:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            repeat(lambda: api().delete_branch(**self._named, branch=name))
        except HfHubHTTPError as problem:
            if status_of(problem) != 404:
                raise

    def make_tag(self, name: str, commit: str, message: str) -> str | None:
        """Claim a tag for a commit and return the commit that has it: another one when someone was first.

        `exist_ok` is never used: it would hide a tag on another commit.
        """
        from huggingface_hub.errors import HfHubHTTPError

        for attempt in range(TRIES):
            try:
                api().create_tag(**self._named, tag=name, revision=commit, tag_message=message)
                return commit
            except Exception as problem:
                taken = isinstance(problem, HfHubHTTPError) and status_of(problem) == 409
                if not taken and not is_unknown_outcome(problem):
                    raise
                if holder := self.tags().get(name):
                    return holder
                wait_before(attempt, problem)
        return None

    def bring(self, branch: str, content: BundleContent, title: str, *, never_back: bool = False) -> str | None:
        """Bring a branch to a commit with the bundle and the files that are not hubdpo's, and return the commit.

        None, with `never_back`, when the branch already holds a higher version. Raise HubError when the outcome stays
        unknown.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        for attempt in range(TRIES):
            head = self.branches().get(branch)
            if head is None:  # the list of refs may lag behind a branch just made
                wait_before(attempt)
                continue
            tree = self.tree(head)
            if holds(tree, content):
                return head
            old = self.bundle(head, tree)
            if never_back and old and _number(old.version) > _number(content.manifest.version):
                return None
            gone = [path for path in (old.files if old else {}) if path in tree and path not in content.files]
            operations = [CommitOperationDelete(path_in_repo=path) for path in gone]
            operations += [
                CommitOperationAdd(path_in_repo=path, path_or_fileobj=value if isinstance(value, bytes) else str(value))
                for path, value in content.files.items()
            ]
            try:
                done = api().create_commit(
                    **self._named, operations=operations, commit_message=title, revision=branch, parent_commit=head,
                    commit_description=f"Hubdpo-Bundle: {content.manifest.bundle_id}",
                )  # fmt: skip
            except Exception as problem:
                moved = isinstance(problem, HfHubHTTPError) and status_of(problem) in (409, 412)
                if not moved and not is_unknown_outcome(problem):
                    raise
                wait_before(attempt, problem)
                continue
            if holds(self.tree(done.oid), content):
                return str(done.oid)
        raise HubError(
            f"whether branch `{branch}` of `{self.repo_id}` took the commit stays unknown after {TRIES} tries",
            hint="run the same command again; it goes on where this one stopped",
        )


def holds(tree: Tree, content: BundleContent) -> bool:
    """Tell whether a tree has every file of the bundle with the bundle's bytes."""
    for path, value in content.files.items():
        entry = content.manifest.files.get(path)
        if tree.get(path) not in (entry.sha256 if entry else None, git_blob_id(content_of(value))):
            return False
        if tree.get(path) is None:
            return False
    return True


def _number(version: str) -> tuple[int, int, int]:
    return parse_tag(f"v{version}") or (0, 0, 0)
