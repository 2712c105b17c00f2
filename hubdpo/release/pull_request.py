"""A pull request in place of a release: one verified commit that the owner of the repo may merge."""

from __future__ import annotations

from dataclasses import dataclass

from hubdpo import console
from hubdpo.config.push import Check
from hubdpo.errors import HubError
from hubdpo.hub.failures import is_unknown_outcome, status_of
from hubdpo.hub.retry import TRIES, repeat, wait_before
from hubdpo.hub.transport import api, endpoint
from hubdpo.release.bundle import BundleContent
from hubdpo.release.dry_run import no_repo_for_proposal
from hubdpo.release.remote import Remote, bundle_line, check_others, holds, operations_for
from hubdpo.release.verify.verify import verify_commit


@dataclass(frozen=True)
class Proposal:
    """A pull request and its commit; `number` is None when main holds the bundle already, so that none is needed."""

    url: str
    number: int | None
    commit: str


def propose(remote: Remote, content: BundleContent, title: str, *, check: Check) -> Proposal:
    """Open a pull request with the bundle, or find the one that is open, verify its commit and return it.

    Neither a tag is made nor a branch touched. Raise HubError when the repo is missing or the outcome stays unknown,
    VerificationFailed, with the pull request left open, when what was sent is not what is there.
    """
    if not remote.exists():
        raise no_repo_for_proposal(remote.repo_id)
    for attempt in range(TRIES):
        head = remote.branches()["main"]
        tree = remote.tree(head)
        if holds(tree, content):
            console.info(f"main of {remote.repo_id} holds these files already; nothing is proposed")
            return Proposal(f"{endpoint()}/{remote.path}", None, head)
        found = _open_one(remote, content)
        if found is not None:
            console.info(f"found the open pull request {found.url}")
        else:
            old = remote.bundle(head, tree)
            check_others(remote, content, tree, old)
            try:
                done = api().create_commit(
                    **remote.named, operations=operations_for(content, tree, old),
                    commit_message=title, commit_description=bundle_line(content), revision="main",
                    parent_commit=head, create_pr=True,
                )  # fmt: skip
            except Exception as problem:
                # as with every commit, one whose answer was lost may be there: it is looked for, not sent again
                if status_of(problem) not in (409, 412) and not is_unknown_outcome(problem):
                    raise
                wait_before(attempt, problem)
                continue
            found = Proposal(str(done.pr_url), done.pr_num, str(done.oid))
            console.info(f"opened {found.url}")
        console.info("downloading it again to compare")
        verify_commit(remote.repo_id, remote.repo_type, found.commit, expected=content.manifest, check=check)
        return found
    raise HubError(
        f"whether a pull request to `{remote.repo_id}` was opened stays unknown after {TRIES} tries",
        hint="run the same command again; it finds the one that is open",
    )


def _open_one(remote: Remote, content: BundleContent) -> Proposal | None:
    """Return our own open pull request of this bundle: by the bundle's line, or by its files when the line was lost."""
    me = repeat(lambda: api().whoami())["name"]
    mine = repeat(
        lambda: list(
            api().get_repo_discussions(
                **remote.named, author=me, discussion_type="pull_request", discussion_status="open"
            )
        )
    )
    for one in mine:
        details = repeat(lambda one=one: api().get_discussion_details(**remote.named, discussion_num=one.num))  # type: ignore[misc]
        named = any(bundle_line(content) in getattr(event, "content", "") for event in details.events)
        commit = remote.commit_of(f"refs/pr/{one.num}")
        if named or holds(remote.tree(commit), content):
            return Proposal(one.url, one.num, commit)
    return None
