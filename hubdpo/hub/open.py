"""Open what a user names: a folder, or a repo on the Hub at the commit that its revision names now."""

from __future__ import annotations

from pathlib import Path

from hubdpo.errors import ConfigError, HubError, NoSuchRevision
from hubdpo.hub.client import RepoType, cache_of, not_cached, resolve
from hubdpo.hub.failures import is_offline, is_unreachable, no_folder, translate_errors
from hubdpo.hub.reference import RepoRef, parse_unless_folder
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.hub.transport import api, endpoint

TYPES: tuple[RepoType, ...] = ("model", "dataset")


def open_snapshot(ref: str, revision: str | None = None, *, repo_type: RepoType | None = None) -> Snapshot:
    """Open the folder `ref`, or the repo `USER/NAME[@REVISION]` at the commit that the revision names now.

    Without `repo_type` a name is a model, else a dataset. Raise ConfigError for a folder with a revision or two
    different revisions, ArtefactError for a folder that does not exist, HubError for a repo that does not.
    """
    if Path(ref).is_dir():
        if revision is not None:
            raise ConfigError(f"`{ref}` is a folder, which has no revisions", hint="leave it out, or give USER/NAME")
        return FolderSnapshot(ref)
    repo_id, revision = parse_unless_folder(ref).at(revision)
    with no_folder(ref):
        if repo_type is not None:
            return _at_revision(repo_id, repo_type, revision, ref)
        repo_type = find_type(repo_id)
    try:
        with no_folder(ref):
            return _at_revision(repo_id, repo_type, revision, ref, listed=True)
    except NoSuchRevision:
        # a model and a dataset may share their name; then the revision tells which of them is meant
        with translate_errors(repo_id):
            if repo_type == "dataset" or not _exists(repo_id, "dataset"):
                raise
        return _at_revision(repo_id, "dataset", revision, ref, listed=True)


def _at_revision(
    repo_id: str, repo_type: RepoType, revision: str | None, ref: str, *, listed: bool = False
) -> RepoSnapshot:
    commit = resolve(repo_id, revision, repo_type=repo_type)
    snapshot = RepoSnapshot(repo_id, repo_type, commit, ref=ref, revision=revision)
    if listed and revision == commit:  # the Hub was not asked about a full commit, which may be of another repo
        assert snapshot.files is not None
    return snapshot


def find_type(repo_id: str) -> RepoType:
    """Tell whether a repo is a model or a dataset. Raise HubError when there is no such repo.

    In offline mode, and when the Hub does not answer, by the cache.
    """
    cached = next((repo_type for repo_type in TYPES if cache_of(repo_id, repo_type).is_dir()), None)
    if is_offline():
        return cached or not_cached(RepoRef(repo_id), None)
    with translate_errors(repo_id):
        try:
            found = next((repo_type for repo_type in TYPES if _exists(repo_id, repo_type)), None)
        except Exception as problem:
            if cached is None or not is_unreachable(problem):
                raise
            return cached
    if found is None:
        raise HubError(f"`{repo_id}` is not on {endpoint()}, or is private", hint="hf auth login, or check the name")
    return found


def _exists(repo_id: str, repo_type: RepoType) -> bool:
    if is_offline():
        return cache_of(repo_id, repo_type).is_dir()
    return bool(api().repo_exists(repo_id, repo_type=repo_type))
