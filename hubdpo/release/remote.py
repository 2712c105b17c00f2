"""The repo that a release goes to, read and changed in steps that can be repeated after any failure.

A write whose response is lost may have happened. So no write is repeated blindly: the refs are read again first, and
what a branch holds is known from the tree of its commit alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE
from hubdpo.errors import HubError
from hubdpo.hub.failures import first_line, is_unknown_outcome, status_of, translate_errors
from hubdpo.hub.reference import RepoType, hub_path, type_option
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.retry import TRIES, repeat, wait_before
from hubdpo.hub.transport import api, endpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Refs:
    """Tags and branches of a repo by name, each with its commit. A repo that does not exist has none."""

    exists: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    @property
    def main(self) -> str | None:
        return self.branches.get("main")


class Remote:
    """One repo, which need not exist yet. Each commit of it is read once."""

    def __init__(self, repo_id: str, repo_type: RepoType) -> None:
        self.repo_id, self.repo_type = repo_id, repo_type
        self.named: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
        self._snapshots: dict[str, RepoSnapshot] = {}

    @property
    def url(self) -> str:
        return f"{endpoint()}/{hub_path(self.repo_id, self.repo_type)}"

    def at(self, commit: str) -> RepoSnapshot:
        """Return the files of a commit, read from the Hub and from no cache."""
        if commit not in self._snapshots:
            self._snapshots[commit] = RepoSnapshot(self.repo_id, self.repo_type, commit, fresh=True)
        return self._snapshots[commit]

    def is_private(self) -> bool | None:
        """Return whether the repo is private, or None when it does not exist."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            return bool(repeat(lambda: api().repo_info(**self.named)).private)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None

    def refs(self) -> Refs:
        refs = repeat(lambda: api().list_repo_refs(**self.named))
        tags, branches = ({ref.name: ref.target_commit for ref in kind} for kind in (refs.tags, refs.branches))
        return Refs(True, tags, branches)

    def commit_of(self, revision: str) -> str:
        return str(repeat(lambda: api().repo_info(**self.named, revision=revision)).sha)

    def date(self, commit: str) -> str:
        """Return the day of a release's commit, YYYY-MM-DD in UTC, or "" when the Hub does not tell."""
        (info,) = repeat(
            lambda: api().get_paths_info(**self.named, paths=[BUNDLE_FILE], revision=commit, expand=True)
        ) or (None,)
        last = getattr(info, "last_commit", None)
        return last.date.date().isoformat() if last else ""

    def create(self, *, private: bool | None) -> None:
        """Create the repo. Raise HubError when it exists by now with another visibility."""

        def created() -> bool:
            api().create_repo(**self.named, private=private, exist_ok=False)
            if private:
                console.info(f"{self.repo_id} is private")
            return True

        def found() -> bool | None:  # made by an earlier attempt, or by somebody else
            is_private = self.is_private()
            check_visibility(self, is_private, private)
            return None if is_private is None else True

        self._settled(created, found, "the repo was created")

    def start_branch(self, name: str, commit: str) -> str:
        """Start a branch at a commit and return its head, which is another one when the branch exists already."""

        def started() -> str:
            api().create_branch(**self.named, branch=name, revision=commit, exist_ok=False)
            return commit

        return self._settled(started, lambda: self.refs().branches.get(name), f"the branch `{name}` was made")

    def make_tag(self, name: str, commit: str, message: str) -> str:
        """Claim a tag for a commit and return the commit that has it: another one when someone was first.

        Raise HubError when the outcome stays unknown. `exist_ok` would hide a tag on another commit.
        """

        def made() -> str:
            api().create_tag(**self.named, tag=name, revision=commit, tag_message=message)
            return commit

        return self._settled(made, lambda: self.refs().tags.get(name), f"the tag {name} was made")

    def _settled(self, write: Callable[[], T], find: Callable[[], T | None], what: str) -> T:
        """Return what a write makes, or what `find` finds when it was made already, or may have been.

        Raise HubError when the outcome stays unknown.
        """
        for attempt in range(TRIES):
            try:
                return write()
            except Exception as problem:
                if status_of(problem) != 409 and not is_unknown_outcome(problem):
                    raise
                if (found := find()) is not None:
                    return found
                reason = first_line(problem)
                wait_before(attempt, problem)
        raise HubError(f"whether {what} stays unknown: {reason}", hint="run the same command again")

    def head(self, branch: str) -> str:
        """Return the commit of a branch that must exist. The list of refs may lag behind a branch that is new."""
        for attempt in range(TRIES):
            if (commit := self.refs().branches.get(branch)) is not None:
                return commit
            wait_before(attempt)
        raise HubError(f"`{self.repo_id}` has no branch `{branch}`", hint="run the same command again")

    def drop_branch(self, name: str) -> None:
        """Delete a branch, which may be gone already."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            repeat(lambda: api().delete_branch(**self.named, branch=name))
        except HfHubHTTPError as problem:
            if status_of(problem) != 404:
                raise


def check_visibility(remote: Remote, is_private: bool | None, wanted: bool | None) -> None:
    """Say that a repo is private. Raise HubError when `wanted` differs: files sent to a public repo are out."""
    if is_private is None:
        return
    if wanted not in (None, is_private):
        state, flag, change = (
            ("private", "--no-private", "--public") if is_private else ("public", "--private", "--private")
        )
        raise HubError(
            f"`{remote.repo_id}` is {state}, and `{flag}` was given",
            hint=f"leave out `{flag}`, or hf repos settings {remote.repo_id} {change}{type_option(remote.repo_type)}",
        )
    if is_private:
        console.info(f"{remote.repo_id} is private")


def check_collection(name: str) -> None:
    """Raise HubError when the collection `OWNER/SLUG` does not exist. A new title is no error: it is created."""
    if "/" in name:
        try:
            with translate_errors(name):
                repeat(lambda: api().get_collection(name))
        except HubError as problem:
            raise HubError(
                f"the collection `{name}` cannot be found: {problem.message}",
                hint="give OWNER/SLUG as its address ends, or a title to make one",
            ) from None


def add_to_collection(name: str, remote: Remote) -> str:
    """Add the repo to the collection `OWNER/SLUG`, or to its owner's collection of this title; return its address.

    A collection with a new title is created. A repo that is in the collection already is not added twice.
    """
    with translate_errors(name):
        slug = name
        if "/" not in name:
            owner = remote.repo_id.partition("/")[0]
            slug = repeat(lambda: api().create_collection(name, namespace=owner, exists_ok=True)).slug
        done = repeat(lambda: api().add_collection_item(slug, remote.repo_id, remote.repo_type, exists_ok=True))
    return str(done.url)
