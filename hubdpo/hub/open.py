"""Open what a user names: a folder, or a repo on the Hub at the commit that its revision names now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.named import ANY, near_folder
from hubdpo.artefacts.folders.sweep_folder import refuse_sweep
from hubdpo.errors import ConfigError, Instead, NoSuchRevision
from hubdpo.hub.absent import not_there
from hubdpo.hub.client import cache_of, cached_tree, check_type, exists, not_cached, resolve
from hubdpo.hub.failures import OtherType, is_offline, is_unreachable, no_folder, translate_errors
from hubdpo.hub.reference import COMMIT, RepoRef, RepoType, parse_unless_folder
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot

TYPES: tuple[RepoType, ...] = ("model", "dataset")


class CachedTypes(list[RepoType]):
    """Types that the cache named in place of a Hub that did not answer, which need not be asked once more."""

    def __init__(self, types: list[RepoType], unanswered: Exception) -> None:
        super().__init__(types)
        self.unanswered = unanswered


def open_snapshot(
    ref: str, revision: str | None = None, *, repo_type: RepoType | None = None, wanted: Sequence[str] = ("dataset",)
) -> Snapshot:
    """Open the folder `ref`, or the repo `[datasets/]USER/NAME[@REVISION]` at the commit that the revision names now.

    Raise ConfigError for a folder with a revision or two different revisions, ArtefactError for a folder that does not
    exist or holds a sweep, HubError for a repo that does not, or is of another type than `repo_type`: its hint is a
    folder that is here, of a kind that is `wanted` and nearly of its name.
    """
    if Path(ref).is_dir():
        if revision is not None:
            raise ConfigError(f"`{ref}` is a folder, which has no revisions", hint="leave it out, or give USER/NAME")
        refuse_sweep(Path(ref))
        return FolderSnapshot(ref)
    named = parse_unless_folder(ref).at(revision)
    kinds = wanted if ("dataset" in wanted) == (repo_type == "dataset") else ANY
    try:
        if repo_type is not None:
            if named.repo_type is not None:
                check_type(named.repo_id, repo_type, named.repo_type)
            named = named._replace(repo_type=repo_type)
        with no_folder(ref, kinds):
            return open_repo(named, ref=ref)
    except OtherType as problem:
        near = near_folder(named.repo_id.rpartition("/")[2], kinds) if kinds is not ANY else None
        raise OtherType(problem.message, hint=Instead(ref, near.word) if near else problem.hint) from None


def open_repo(named: RepoRef, *, ref: str | None = None, fresh: bool = False) -> RepoSnapshot:
    """Open a repo of the Hub. A name alone is the model, or the dataset where no model has the name and the revision.

    Where there are both, say which of them is opened. Raise HubError when there is neither.
    """
    types = find_types(named)
    refusal: NoSuchRevision | None = None
    for repo_type in types:
        try:
            commit = resolve(
                named.repo_id, named.revision, repo_type=repo_type, unanswered=getattr(types, "unanswered", None)
            )
            snapshot = RepoSnapshot(named.repo_id, repo_type, commit, ref=ref, revision=named.revision, fresh=fresh)
            if named.repo_type is None and commit == named.revision:
                assert snapshot.files is not None  # the Hub is not asked for a whole commit, which may be of the other
        except NoSuchRevision as problem:
            refusal = refusal or problem  # the model's, which the name alone means
            if repo_type == types[-1]:
                raise refusal from None
        else:
            break
    say_which(named, repo_type, types)
    return snapshot


def find_types(named: RepoRef) -> list[RepoType]:
    """Tell whether a name is a model, a dataset or both. Raise HubError when it is neither.

    In offline mode, and when the Hub does not answer, by the cache.
    """
    if named.repo_type is not None:
        return [named.repo_type]
    repo_id = named.repo_id
    cached = [repo_type for repo_type in TYPES if cache_of(repo_id, repo_type).is_dir()]
    if is_offline():
        return cached or not_cached(named, None)
    commit = named.revision if COMMIT.fullmatch(named.revision or "") else None
    if listed := [repo_type for repo_type in cached if commit and cached_tree(repo_id, commit, repo_type) is not None]:
        return listed  # a commit is of one repo, and never changes
    with translate_errors(repo_id):
        try:
            found = [repo_type for repo_type in TYPES if exists(repo_id, repo_type, cached=bool(cached))]
        except Exception as problem:
            if not cached or not is_unreachable(problem):
                raise
            return CachedTypes(cached, problem)
    if not found:
        raise not_there(str(named))
    return found


def say_which(named: RepoRef, taken: RepoType, types: list[RepoType]) -> None:
    """Say which of two repos of one name is meant, and how to name the dataset."""
    if len(types) > 1:
        dataset = named._replace(repo_type="dataset")
        console.info(f"`{named.repo_id}` is a model and a dataset: this is the {taken}; `{dataset}` names the dataset")
