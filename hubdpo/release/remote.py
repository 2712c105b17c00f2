"""A repo on the Hub, read and changed in steps that can be repeated after any failure.

A write whose answer is lost may have happened. So no write is repeated blindly: the branch is read again, and trees are
compared, because the tree alone says what is there (a commit call answers with the current head when nothing differs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hubdpo import console
from hubdpo.artefacts.formats.bounded import check_size, shortened
from hubdpo.artefacts.manifests.bundle import Bundle
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, CARD_FILE
from hubdpo.errors import ArtefactError, HubError, VersionTaken
from hubdpo.hub.client import RepoType
from hubdpo.hub.failures import is_unknown_outcome, status_of
from hubdpo.hub.retry import TRIES, repeat, wait_before
from hubdpo.hub.transport import api
from hubdpo.hub.versions import bump, highest, parse_tag
from hubdpo.release.bundle import BundleContent, content_of, git_blob_id
from hubdpo.release.verify.files import beside, deleting
from hubdpo.release.verify.loaded_names import first_loaded

SHA256_DIGITS = 64
Tree = dict[str, str]
"""Path to SHA-256 of a large file, or git blob id of another."""


class Remote:
    """One repo, which need not exist yet."""

    def __init__(self, repo_id: str, repo_type: RepoType) -> None:
        self.repo_id, self.repo_type = repo_id, repo_type
        self.replaced: tuple[str, Tree] | None = None
        """The head of the branch, with its tree, that the last commit made here came after."""
        self._sizes: dict[str, int] = {}
        self.named: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}

    def exists(self) -> bool:
        return bool(repeat(lambda: api().repo_exists(**self.named)))

    @property
    def path(self) -> str:
        """The repo's place below the endpoint."""
        return self.repo_id if self.repo_type == "model" else f"datasets/{self.repo_id}"

    def is_private(self) -> bool:
        return bool(repeat(lambda: api().repo_info(**self.named)).private)

    def commit_of(self, revision: str) -> str:
        return str(repeat(lambda: api().repo_info(**self.named, revision=revision)).sha)

    def create(self, *, private: bool | None) -> None:
        repeat(lambda: api().create_repo(**self.named, private=private, exist_ok=True))

    def refs(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return tags and branches, each with its commit."""
        refs = repeat(lambda: api().list_repo_refs(**self.named))
        tags, branches = ({ref.name: ref.target_commit for ref in kind} for kind in (refs.tags, refs.branches))
        return tags, branches

    def branches(self) -> dict[str, str]:
        return self.refs()[1]

    def tags(self) -> dict[str, str]:
        return self.refs()[0]

    def tree(self, commit: str) -> Tree:
        items = repeat(lambda: list(api().list_repo_tree(**self.named, recursive=True, revision=commit)))
        files = [item for item in items if hasattr(item, "blob_id")]
        tree = {item.path: str(item.lfs.sha256 if item.lfs else item.blob_id) for item in files}
        self._sizes |= {tree[item.path]: int(item.size) for item in files}
        return tree

    def bundle(self, commit: str, tree: Tree) -> Bundle | None:
        """Return the manifest of the release that a commit holds; None when it holds none that can be read."""
        try:
            data = self.read(commit, tree, BUNDLE_FILE)
            return Bundle.parse(data, BUNDLE_FILE) if data is not None else None
        except ArtefactError as problem:
            console.warn(f"{self.repo_id}@{commit[:12]} is taken for no release: {problem.message}")
            return None

    def read(self, commit: str, tree: Tree, path: str) -> bytes | None:
        """Return a small file as the tree has it; None when it has none.

        Raise HubError when it arrives changed, ArtefactError, before it is downloaded, when it is too large.
        """
        check_size(path, self._sizes.get(tree.get(path, ""), 0), of=self.repo_id)
        for attempt in range(TRIES if path in tree else 0):
            with TemporaryDirectory(prefix="hubdpo-") as cache:
                place = repeat(
                    lambda cache=cache: api().hf_hub_download(  # type: ignore[misc]
                        **self.named, filename=path, revision=commit, cache_dir=cache
                    )
                )
                data = Path(place).read_bytes()
            if tree[path] in (git_blob_id(data), hashlib.sha256(data).hexdigest()):
                return data
            wait_before(attempt)
        if path in tree:
            raise HubError(f"`{path}` of `{self.repo_id}` does not arrive as it was sent", hint="try again later")
        return None

    def date(self, commit: str) -> str:
        """Return the day on which a release was committed, YYYY-MM-DD in UTC; empty when the Hub does not say."""
        (found,) = repeat(
            lambda: api().get_paths_info(**self.named, paths=[BUNDLE_FILE], revision=commit, expand=True)
        ) or (None,)
        last = getattr(found, "last_commit", None)
        return last.date.date().isoformat() if last else ""

    def start_branch(self, name: str, commit: str) -> None:
        # an existing branch is our own, from an earlier try: its name holds the bundle's id
        repeat(lambda: api().create_branch(**self.named, branch=name, revision=commit, exist_ok=True))

    def drop_branch(self, name: str) -> None:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            repeat(lambda: api().delete_branch(**self.named, branch=name))
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
                api().create_tag(**self.named, tag=name, revision=commit, tag_message=message)
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
            if never_back and old and old.bundle_id == content.manifest.bundle_id:
                return head  # brought earlier; what differs was edited since
            if branch == stage_name(content):
                try:
                    check_others(self, content, tree, old)
                except HubError:
                    self.drop_branch(branch)  # it was made of main as it is, and would keep the file
                    raise
            try:
                done = api().create_commit(
                    **self.named, operations=operations_for(content, tree, old), commit_message=title, revision=branch,
                    parent_commit=head, commit_description=bundle_line(content),
                )  # fmt: skip
            except Exception as problem:
                moved = isinstance(problem, HfHubHTTPError) and status_of(problem) in (409, 412)
                if not moved and not is_unknown_outcome(problem):
                    raise
                wait_before(attempt, problem)
                continue
            if holds(self.tree(done.oid), content):
                self.replaced = head, tree
                return str(done.oid)
        raise HubError(
            f"whether branch `{branch}` of `{self.repo_id}` took the commit stays unknown after {TRIES} tries",
            hint="run the same command again; it goes on where this one stopped",
        )


def operations_for(content: BundleContent, tree: Tree, old: Bundle | None) -> list[Any]:
    """Return the operations of a commit: all files of the bundle, and away with what the release before had more."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = [path for path in (old.files if old else {}) if path in tree and path not in content.files]
    return [CommitOperationDelete(path_in_repo=path) for path in gone] + [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=value if isinstance(value, bytes) else str(value))
        for path, value in content.files.items()
    ]


def check_others(remote: Remote, content: BundleContent, tree: Tree, old: Bundle | None) -> None:
    """Raise HubError for a file that would stay beside the release, unlisted, though loading would read it."""
    if (found := _loaded_beside(content, tree, {*content.files, *(old.files if old else ())})) is not None:
        raise HubError(
            f"main of `{remote.repo_id}` holds `{shortened(found, 200)}`, which is not of the release, and loading the "
            "release would read it",
            hint=f"{deleting(remote.repo_id, found, content.kind)}, then push again",
        )


def _loaded_beside(content: BundleContent, tree: Tree, listed: Collection[str]) -> str | None:
    """Return the first file of a tree that is not listed and that loading the bundle would read."""
    card = content.card or content.read(CARD_FILE).decode() if content.kind == "dataset" else ""
    return first_loaded(content.kind, beside(tree, listed), card)


def bundle_line(content: BundleContent) -> str:
    """Return the line by which commits, tags and pull requests name what they hold."""
    return f"Hubdpo-Bundle: {content.manifest.bundle_id}"


def stage_name(content: BundleContent) -> str:
    return f"hubdpo-stage-{content.manifest.version}-{content.manifest.bundle_id[:12]}"


def check_ours(remote: Remote, content: BundleContent, tag: str, commit: str) -> None:
    """Raise VersionTaken when the tag holds anything but this bundle, or a file beside it that loading would read."""
    tree = remote.tree(commit)
    if not holds(tree, content):
        why = f"{tag} of `{remote.repo_id}` is taken by another release, and a tag never moves"
    elif (found := _loaded_beside(content, tree, content.files)) is not None:
        why = (
            f"{tag} of `{remote.repo_id}` was moved: beside this release it holds `{shortened(found, 200)}`, which "
            "loading the release would read"
        )
    else:
        return
    raise VersionTaken(why, hint=f"hubdpo push ... --version {bump(highest([*remote.tags(), tag]), 'patch')}")


def check_visibility(remote: Remote, wanted: bool | None) -> None:
    """Say that a repo is private. Raise HubError when it is not as wanted: what is sent to a public one is out."""
    is_private = remote.is_private()
    if wanted not in (None, is_private):
        is_so, flag, change = (
            ("private", "--no-private", "--public") if is_private else ("public", "--private", "--private")
        )
        kind = "" if remote.repo_type == "model" else f" --type {remote.repo_type}"
        raise HubError(
            f"`{remote.repo_id}` is {is_so}, and `{flag}` was given",
            hint=f"leave out `{flag}`, or hf repos settings {remote.repo_id} {change}{kind}",
        )
    if is_private:
        console.info(f"{remote.repo_id} is private")


def holds(tree: Tree, content: BundleContent) -> bool:
    """Tell whether a tree has every file of the bundle with the bundle's bytes."""
    return all(is_at(tree, path, content) for path in content.files)


def is_at(tree: Tree, path: str, content: BundleContent) -> bool:
    """Tell whether a tree has a file of the bundle with the bundle's bytes."""
    there, entry = tree.get(path, ""), content.manifest.files.get(path)
    if len(there) == SHA256_DIGITS:  # a large file, which need not be read for this
        return there == (entry.sha256 if entry else hashlib.sha256(content_of(content.files[path])).hexdigest())
    return there == git_blob_id(content_of(content.files[path]))


def _number(version: str) -> tuple[int, int, int]:
    return parse_tag(f"v{version}") or (0, 0, 0)
