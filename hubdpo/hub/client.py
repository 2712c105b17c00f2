"""Resolve revisions to commits and download files at a commit, from the local cache where possible.

A commit never changes, so a cached one is used without asking the Hub. A tag or branch is read from the cache when the
Hub does not answer, and in offline mode (`HF_HUB_OFFLINE`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import write_atomic
from hubdpo.errors import HubError, NoSuchRevision
from hubdpo.hub.failures import (
    CHECK_NETWORK,
    NotCached,
    OtherType,
    first_line,
    in_words,
    is_offline,
    is_unreachable,
    translate_errors,
)
from hubdpo.hub.reference import COMMIT, Address, RepoRef, RepoType, checked_revision, parse_address
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import api, download_bars, endpoint

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

WHERE_IT_GOES: dict[RepoType, str] = {
    "model": "a base goes to `--model-name-or-path`, an adapter to `hubdpo load`, or `load_adapter` in Python",
    "dataset": "a dataset goes to `--dataset`, or `load_preferences` in Python",
}


class CachedCommit(str):
    """A commit that the cache named in place of a Hub that did not answer. Its files come from the cache as well."""


def resolve(
    repo_id: str, revision: str | None = None, *, repo_type: RepoType = "model", unanswered: Exception | None = None
) -> str:
    """Return the commit (40 hex digits) that a branch, tag or commit names now.

    In offline mode, and with a warning when the Hub does not answer, return the commit that the cache remembers. A
    Hub that left a request `unanswered` just now is not asked for it first. Raise NoSuchRevision when the repo
    (offline: the cache) has no such revision, HubError for any other failure, such as a repo of the other type.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    ref = RepoRef(repo_id, checked_revision(revision) if revision is not None else None)
    cached = _cached_commit(ref, repo_type)
    if is_offline():
        if cached is None:
            check_type(repo_id, repo_type)
            not_cached(ref, repo_type)
        return cached
    with errors_of_repo(str(ref), repo_id, repo_type):
        try:
            if cached and unanswered:
                raise unanswered
            sha = repeat(
                lambda: api().repo_info(repo_id, revision=revision, repo_type=repo_type), cached=bool(cached)
            ).sha
        except Exception as problem:
            if cached is None or not is_unreachable(problem):
                raise
            console.warn(f"{endpoint()} {in_words(problem)}; `{ref}` is {cached[:12]}, from the cache")
            return CachedCommit(cached)
    if not sha:
        raise HubError(f"{endpoint()} names no commit for `{repo_id}`", hint="try again later")
    _remember(ref, repo_type, str(sha))
    return str(sha)


def exists(repo_id: str, repo_type: RepoType, *, cached: bool = False) -> bool:
    """Tell whether there is a model or a dataset of this name on the Hub; offline, in the cache."""
    if is_offline():
        return cache_of(repo_id, repo_type).is_dir()
    return bool(repeat(lambda: api().repo_exists(repo_id, repo_type=repo_type), cached=cached))


def other_type(repo_type: RepoType) -> RepoType:
    return "dataset" if repo_type == "model" else "model"


def check_type(repo_id: str, wanted: RepoType, found: RepoType | None = None) -> None:
    """Raise HubError when a repo is of the other type, which was `found` already, or is found out now."""
    other = other_type(wanted)
    if found == other or (found is None and exists(repo_id, other)):
        raise OtherType(f"`{repo_id}` is a {other}, not a {wanted}", hint=WHERE_IT_GOES[other])


@contextmanager
def errors_of_repo(what: str, repo_id: str, repo_type: RepoType) -> Iterator[None]:
    """Like `translate_errors`, for requests to a repo: where there is none, raise what `check_type` raises."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with translate_errors(what):
        try:
            yield
        except RepositoryNotFoundError as problem:
            if not isinstance(problem, GatedRepoError):  # which is derived from it
                check_type(repo_id, repo_type)
            raise


def resolve_address(address: str) -> Address:
    """Resolve `hf://datasets/USER/NAME[@REVISION][/PATH]` to a repo at a commit, and the path within it.

    Raise DataError for any other address, NoSuchRevision when the repo has none of the revisions it could mean.
    """
    readings = parse_address(address)
    for (repo_id, revision, _), path in readings:
        try:
            return Address(RepoRef(repo_id, resolve(repo_id, revision, repo_type="dataset")), path)
        except NoSuchRevision:
            if len(readings) == 1:
                raise
    repo_id = readings[0].repo.repo_id
    raise NoSuchRevision(
        f"`{repo_id}` has no revision {' or '.join(f'`{reading.repo.revision}`' for reading in readings)}",
        hint=f"hf repos tag list {repo_id} --type dataset",
    )


def download(
    repo_id: str,
    sha: str,
    *,
    repo_type: RepoType = "model",
    allow_patterns: list[str] | None = None,
    needed: list[str] | None = None,
) -> Path:
    """Return a folder with the files of a commit, from the cache or the Hub. Raise HubError when a file is missing.

    Other tools cache single files, without the list of the commit's files, and then only the Hub knows whether the
    cache has all of them. Where it does not answer, such a cache is enough if it has a file for each pattern in
    `needed`, else in `allow_patterns`.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    cached, patterns = cache_of(repo_id, repo_type) / "snapshots" / sha, needed or allow_patterns
    is_listed = cached_tree(repo_id, sha, repo_type) is not None
    is_enough = not is_listed and patterns is not None and all(any(cached.glob(name)) for name in patterns)
    if is_cache_only(sha) and not is_listed and not is_enough:
        not_cached(RepoRef(repo_id, sha), repo_type)
    with errors_of_repo(f"{repo_id}@{sha[:12]}", repo_id, repo_type):
        try:
            return repeat(
                lambda: fetch(repo_id, sha, repo_type=repo_type, allow_patterns=allow_patterns), cached=is_enough
            )
        except (LocalEntryNotFoundError, OfflineModeIsEnabled):  # huggingface_hub 1 raises the second
            if is_cache_only(sha):
                not_cached(RepoRef(repo_id, sha), repo_type)
            raise
        except Exception as problem:
            if not is_enough or not is_unreachable(problem):
                raise
            console.warn(f"{endpoint()} {in_words(problem)}; the files of `{repo_id}@{sha[:12]}` are from the cache")
            return cached


def fetch(
    repo_id: str,
    sha: str,
    *,
    repo_type: RepoType = "model",
    allow_patterns: list[str] | None = None,
    local_dir: Path | None = None,
) -> Path:
    """Like `download`, but raise the client's own errors, so that the caller can retry.

    With `local_dir` the files go into that folder, and the cache has no part in it.
    """
    try:
        folder = api().snapshot_download(
            repo_id, revision=sha, repo_type=repo_type, allow_patterns=allow_patterns, local_dir=local_dir,
            tqdm_class=download_bars(),
            local_files_only=is_cache_only(sha),  # huggingface_hub 1 asks the Hub for a list even in offline mode
        )  # fmt: skip
    except RuntimeError as problem:  # hf_xet raises it for every failed read; a failed write is a ConnectionError
        raise ConnectionError(first_line(problem)) from problem
    return Path(folder)


def cache_of(repo_id: str, repo_type: RepoType) -> Path:
    """Return the cache folder of a repo, which need not exist."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(str(constants.HF_HUB_CACHE)) / str(repo_folder_name(repo_id=repo_id, repo_type=repo_type))


def called(folder: Path) -> str:
    """Return the name to show for a folder: the repo id for a cached model, else the path."""
    repo = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repo.startswith("models--"):
        return repo.removeprefix("models--").replace("--", "/")
    return str(folder)


def cached_tree(repo_id: str, sha: str, repo_type: RepoType) -> list[RepoFile] | None:
    """Return the files of a commit as the cache lists them, or None where it does not."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return list(get_cached_repo_tree(repo_id, revision=sha, repo_type=repo_type))
    except CachedRepoTreeNotFoundError:
        return None


def is_cache_only(sha: str | None) -> bool:
    """Tell whether the files of a commit can come from the cache alone."""
    return isinstance(sha, CachedCommit) or is_offline()


def not_cached(ref: RepoRef, repo_type: RepoType | None) -> NoReturn:
    """Raise NoSuchRevision for files that the cache, which alone is asked, does not have, and say how to get them."""
    is_partial = repo_type and (cache_of(ref.repo_id, repo_type) / "snapshots" / (ref.revision or "main")).is_dir()
    what = f"`{ref}` is not in the cache" + (" with all its files" if is_partial else "")
    if not is_offline():
        raise NotCached(f"{what}, and {endpoint()} does not answer", hint=CHECK_NETWORK)
    command = ["hf", "download", ref.repo_id]
    command += ["--repo-type", "dataset"] if repo_type == "dataset" else []
    command += ["--revision", ref.revision] if ref.revision else []
    raise NotCached(f"{what}, and offline mode is on", hint=f"HF_HUB_OFFLINE=0 {shlex.join(command)}")


def _cached_commit(ref: RepoRef, repo_type: RepoType) -> str | None:
    path = cache_of(ref.repo_id, repo_type) / "refs" / (ref.revision or "main")
    sha = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return sha if COMMIT.fullmatch(sha) else None


def _remember(ref: RepoRef, repo_type: RepoType, sha: str) -> None:
    """Record in the cache which commit a revision names. The client does so only for downloads by name."""
    if _cached_commit(ref, repo_type) == sha:
        return
    try:
        write_atomic(cache_of(ref.repo_id, repo_type) / "refs" / (ref.revision or "main"), sha)
    except OSError as problem:  # a shared cache need not be writable
        console.info(f"the cache does not keep which commit `{ref}` is: {problem.strerror}")
