"""Publish a release so that it is whole and verified, or not there, at every moment.

1. The repo is created where it is missing.
2. The files go to a stage branch, which starts at main and has the id of the bundle in its name.
3. The commit is downloaded into an empty folder, compared with what was sent, and loaded.
4. The tag is claimed for that commit. This is the commit point: the Hub grants a tag once, and it never moves.
5. Main follows, unless it holds a higher version, and the stage branch is deleted.

After a kill or a lost connection anywhere, the same command continues: each step first looks at what is there. Every
commit names its parent, so the Hub refuses it when the branch has moved since its tree was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hubdpo import console
from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE
from hubdpo.config.push import Check
from hubdpo.errors import HubError, VersionTaken
from hubdpo.hub.failures import is_unknown_outcome, status_of
from hubdpo.hub.reference import type_option
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.retry import TRIES, wait_before
from hubdpo.hub.transport import api, unrepeated, without_upload_bars
from hubdpo.hub.versions import bump, highest, is_higher
from hubdpo.release.remote import Refs, Remote
from hubdpo.release.snapshot import Plan, ReleaseSnapshot
from hubdpo.release.verify.files import deleting
from hubdpo.release.verify.loads import BaseState
from hubdpo.release.verify.verify import verify_commit

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


class UnlistedFile(HubError):
    """A file of the repo that a release does not list, and that loading the release would read."""


class Published(NamedTuple):
    """The commit of a release, whether it was verified just now, and the state of main that it replaced."""

    commit: str
    is_new: bool
    replaced: RepoSnapshot | None


def publish(
    remote: Remote, refs: Refs, release: ReleaseSnapshot, title: str, *,
    check: Check, private: bool | None, base: BaseState | None = None,
) -> Published:  # fmt: skip
    """Publish a release and return its commit. `refs` are those of the repo, and `base` of an adapter, as read last.

    Raise VersionTaken when the tag holds another release; VerificationFailed, with no tag made, when the download
    differs from what was sent; HubError when the Hub refuses or an outcome stays unknown.
    """
    if not refs.exists:
        remote.create(private=private)
        refs = remote.refs()
    main = refs.main or remote.head("main")
    commit = refs.tags.get(release.tag)
    is_new = commit is None
    if commit is not None:
        check_ours(remote, refs, release, commit)
        console.info(f"{remote.repo_id} {release.tag} is published already")
    else:
        commit = _stage_and_tag(remote, refs, main, release, title, check, base)
    # from here on the release stands: after a kill only main and the stage branch are behind, and the same command
    # finds the tag and comes straight back here
    on_main = _follow(remote, main, release, title)
    if is_new or release.stage in refs.branches:
        remote.drop_branch(release.stage)
    return Published(commit, is_new, on_main)


def _stage_and_tag(
    remote: Remote, refs: Refs, main: str, release: ReleaseSnapshot, title: str, check: Check, base: BaseState | None
) -> str:
    """Send the files to the stage branch, verify them there, claim the tag, and return the tag's commit."""
    # a branch of an earlier attempt is taken up as it is: it may hold nothing, some commit of main, or all the files
    head = remote.start_branch(release.stage, main)
    size = sum(entry.size for entry in release.listing.files.values())
    console.info(
        f"sending {len(release.files)} files, {f'{size / 1e6:.1f} MB' if size >= 1e6 else f'{size / 1e3:.0f} kB'}"
    )
    try:
        staged = _send(remote, release.stage, head, release, title)
        console.info("downloading them again to compare")
        verify_commit(remote.at(staged), expected=release.listing, check=check, base=base)
        tagged = remote.make_tag(release.tag, staged, f"{title}\n\n{release.bundle_line}")
        if tagged != staged:  # claimed since `refs` were read: by an earlier attempt of ours, or by somebody else
            check_ours(remote, refs, release, tagged)
    except (VersionTaken, UnlistedFile):
        remote.drop_branch(release.stage)  # it can never become this release: leave nothing behind
        raise
    except Exception:
        # without a tag the files are no release; with them on the branch, the same command need not send them again
        console.info(
            f"the branch `{release.stage}` stays, from which the same command goes on; to delete it: "
            f"hf repos branch delete {remote.repo_id} {release.stage}{type_option(remote.repo_type)}"
        )
        raise
    return tagged


def _send(remote: Remote, branch: str, head: str, release: ReleaseSnapshot, title: str) -> str:
    """Commit what the stage branch lacks. Raise UnlistedFile for a file beside the release that loading would read."""
    for attempt in range(TRIES):
        # whether an attempt without an answer made its commit is read from the tree of the branch, never assumed
        plan = Plan(remote.at(head), release)
        if plan.holds:
            return head
        check_others(remote, plan)  # the branch started at main, and would keep the file
        if (commit := _committed(remote, branch, plan, title, attempt)) is not None:
            return commit
        head = remote.head(branch)
    raise unknown_commit(remote, f"branch `{branch}`")


def _follow(remote: Remote, head: str, release: ReleaseSnapshot, title: str) -> RepoSnapshot | None:
    """Bring main to the release, unless it holds a higher version; return the state of main that was replaced."""
    for attempt in range(TRIES):
        plan = Plan(remote.at(head), release)
        if not is_behind(plan):
            return None
        commit = _committed(remote, "main", plan, title, attempt)
        # a client that finds nothing to send makes no commit and returns the head, which somebody may just have moved
        if commit is not None and Plan(remote.at(commit), release).holds:
            return plan.old
        head = remote.head("main")
    raise unknown_commit(remote, "branch `main`")


def is_behind(plan: Plan) -> bool:
    """Tell whether main, the repo of the plan, is to be brought to the release."""
    before = plan.old.bundle if plan.old else None
    if plan.holds or (before is not None and is_higher(f"v{before.version}", plan.new.tag)):
        return False
    # main with the release's own list held the release, and was edited since: edits by hand stay
    return before is None or before.bundle_id != plan.new.listing.bundle_id


def _committed(remote: Remote, branch: str, plan: Plan, title: str, attempt: int) -> str | None:
    """Make one commit on a branch. None, after a pause, when the branch has moved or the outcome is unknown."""
    assert plan.old is not None
    try:
        commit = create_commit(remote, plan, title, revision=branch, parent_commit=plan.old.commit)
    except Exception as problem:
        if not is_undecided(problem):
            raise
        wait_before(attempt, problem)
        return None
    return str(commit.oid)


def create_commit(remote: Remote, plan: Plan, title: str, **options: Any) -> CommitInfo:
    """Send one request for a commit of what the plan has to change; `options` are those of the client."""
    with without_upload_bars(), unrepeated():
        return api().create_commit(
            **remote.named, operations=plan.operations(), commit_message=title,
            commit_description=plan.new.bundle_line, **options,
        )  # fmt: skip


def is_undecided(problem: Exception) -> bool:
    """Tell whether a commit may still be made, or was made: the branch has moved, or no readable response came."""
    return status_of(problem) in (409, 412) or is_unknown_outcome(problem)


def unknown_commit(remote: Remote, what: str) -> HubError:
    return HubError(
        f"whether {what} of `{remote.repo_id}` took the commit stays unknown after {TRIES} tries",
        hint="run the same command again; it goes on where this one stopped",
    )


def check_others(remote: Remote, plan: Plan) -> None:
    """Raise UnlistedFile for a file that would stay beside the release although loading would read it."""
    if (name := plan.first_loaded(plan.kept)) is not None:
        raise UnlistedFile(
            f"main of `{remote.repo_id}` holds `{shortened(name, 200)}`, which is not of the release, and loading the "
            "release would read it",
            hint=f"{deleting(remote.repo_id, name, remote.repo_type)}, then push again",
        )


def check_ours(remote: Remote, refs: Refs, release: ReleaseSnapshot, commit: str) -> None:
    """Raise VersionTaken when the tag holds another release, or beside this one a file that loading would read."""
    tagged = remote.at(commit)
    plan = Plan(tagged, release)
    if not plan.holds:
        others = [name for name in [*plan.sent, *plan.deleted] if name != BUNDLE_FILE] or [BUNDLE_FILE]
        reason = (
            f"{release.tag} of `{remote.repo_id}` is taken by another release, and a tag never moves; what differs: "
            f"{console.listed(f'`{name}`' for name in others)}"
        )
    elif (name := plan.first_loaded(tagged.files)) is not None:
        reason = (
            f"{release.tag} of `{remote.repo_id}` was moved: beside this release it holds `{shortened(name, 200)}`, "
            "which loading the release would read"
        )
    else:
        return
    newer = bump(highest([*refs.tags, release.tag]), "patch")
    raise VersionTaken(reason, hint=f"`--version {newer}`")
