"""A pull request in place of a release: one verified commit that the owner of the repo may merge."""

from __future__ import annotations

from typing import NamedTuple

from hubdpo import console
from hubdpo.config.push import Check
from hubdpo.hub.retry import TRIES, repeat, wait_before
from hubdpo.hub.transport import api
from hubdpo.release.protocol import check_others, check_ours, create_commit, is_undecided, unknown_commit
from hubdpo.release.remote import Refs, Remote
from hubdpo.release.snapshot import Plan, ReleaseSnapshot
from hubdpo.release.verify.loads import BaseState
from hubdpo.release.verify.verify import verify_commit


class Proposal(NamedTuple):
    """A pull request and its commit; `number` is None when main holds the release already, so that none is needed."""

    url: str
    number: int | None
    commit: str


def propose(
    remote: Remote, refs: Refs, release: ReleaseSnapshot, title: str, *, check: Check, base: BaseState | None = None
) -> Proposal:
    """Open a pull request with the release, or find the one that is open; verify its commit and return it.

    No tag is made and no branch is touched. Raise VersionTaken when the tag holds another release, HubError when the
    outcome stays unknown, VerificationFailed, with the pull request left open, when the download differs from what was
    sent.
    """
    if (tagged := refs.tags.get(release.tag)) is not None:
        check_ours(remote, refs, release, tagged)
    head = refs.main or remote.head("main")
    for attempt in range(TRIES):
        plan = Plan(remote.at(head), release)
        if plan.holds:
            console.info(f"main of {remote.repo_id} holds these files already; nothing is proposed")
            return Proposal(remote.url, None, head)
        proposal = _find_open(remote, release)
        if proposal is not None:
            console.info(f"found the open pull request {proposal.url}")
        else:
            check_others(remote, plan)
            try:
                done = create_commit(remote, plan, title, revision="main", parent_commit=head, create_pr=True)
            except Exception as problem:
                # the pull request may be there although the response was lost: look for it before sending again
                if not is_undecided(problem):
                    raise
                wait_before(attempt, problem)
                head = remote.head("main")
                continue
            proposal = Proposal(str(done.pr_url), done.pr_num, str(done.oid))
            console.info(f"opened {proposal.url}")
        console.info("downloading it again to compare")
        verify_commit(remote.at(proposal.commit), expected=release.listing, check=check, base=base)
        return proposal
    raise unknown_commit(remote, "a pull request")


def _find_open(remote: Remote, release: ReleaseSnapshot) -> Proposal | None:
    """Return our own open pull request of this release: by its bundle line, or by its files when that line was lost."""
    me = repeat(lambda: api().whoami())["name"]
    mine = repeat(
        lambda: list(
            api().get_repo_discussions(
                **remote.named, author=me, discussion_type="pull_request", discussion_status="open"
            )
        )
    )
    for discussion in mine:
        number = discussion.num
        details = repeat(lambda number=number: api().get_discussion_details(**remote.named, discussion_num=number))  # type: ignore[misc]
        is_named = any(release.bundle_line in getattr(event, "content", "") for event in details.events)
        commit = remote.commit_of(f"refs/pr/{number}")
        if is_named or Plan(remote.at(commit), release).holds:
            return Proposal(discussion.url, number, commit)
    return None
