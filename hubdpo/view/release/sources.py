"""Where versions come from: the tags and branches of a repo, on a Hub in this process or on another one."""

from __future__ import annotations

from hubdpo.hub.failures import require_online, translate_errors
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.snapshot import Snapshot
from hubdpo.hub.versions import newest_first
from hubdpo.release.list import day_of
from hubdpo.release.remote import Refs, Remote
from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.page import PageError
from hubdpo.view.thing import Thing


class Source:
    """The revisions of a thing. Raise HubError where the Hub does not answer."""

    def __init__(self, thing: Thing) -> None:
        self._thing = thing
        self._remote = None if isinstance(thing, Hosted) else _remote(thing)

    def refs(self) -> Refs:
        if isinstance(self._thing, Hosted):
            found = self._thing.get("refs").value
            tags, branches = (
                {ref["name"]: ref["targetCommit"] for ref in found[kind]} for kind in ("tags", "branches")
            )
            return Refs(True, tags, branches)
        assert self._remote
        with translate_errors(self._thing.snapshot.name):
            return self._remote.refs()

    def at(self, commit: str, name: str) -> Snapshot:
        """Return the files of a commit; `name` is the revision in messages."""
        snapshot: Snapshot
        if isinstance(self._thing, Hosted):
            snapshot = self._thing.at(commit)
        else:
            assert self._remote
            ref = f"{self._remote.repo_id}@{name}"
            snapshot = RepoSnapshot(self._remote.repo_id, self._remote.repo_type, commit, ref=ref)
        snapshot.revision = name
        return snapshot

    def day(self, commit: str) -> str:
        if isinstance(self._thing, Hosted):
            return str(self._thing.get("commits", commit, limit=1).value[0]["date"])[:10]
        assert self._remote
        with translate_errors(self._thing.snapshot.name):
            return day_of(self._remote, commit)


def has_versions(thing: Thing) -> bool:
    return isinstance(thing, Hosted) or isinstance(thing.snapshot, RepoSnapshot)


def names_of(refs: Refs) -> list[str]:
    """Return versions, newest first, then other tags, then branches."""
    versions = newest_first(refs.tags)
    return list(dict.fromkeys([*versions, *sorted(refs.tags), *sorted(refs.branches)]))


def commit_of(refs: Refs, name: str) -> str:
    """Return the commit of a tag or branch. Raise PageError 404."""
    commit = refs.tags.get(name) or refs.branches.get(name)
    if commit is None:
        raise PageError(404, f"there is no version `{name}`", "choose two of the list")
    return commit


def _remote(thing: Thing) -> Remote:
    require_online("the list of versions")
    snapshot = thing.snapshot
    assert isinstance(snapshot, RepoSnapshot)
    return Remote(snapshot.name, snapshot.type)
