"""One door to the Hub: an HfApi with timeouts, and what is downloaded through it, pinned to commits.

What is in the cache is used without the Hub: a commit is never asked for, and a tag or branch that was asked before is
read from the cache when the Hub does not answer, or must not be asked (`HF_HUB_OFFLINE`).
"""

from __future__ import annotations

import functools
import shlex
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import write_atomic
from hubdpo.errors import HubError, NoSuchRevision
from hubdpo.hub.failures import first_line, is_offline, is_unreachable, translate_errors
from hubdpo.hub.reference import COMMIT, Address, RepoRef, checked_revision, parse_address
from hubdpo.hub.transport import http

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepoType = Literal["model", "dataset"]
PUBLIC_HUB = "https://huggingface.co"
CONNECT_S, READ_S, WRITE_S = 10.0, 60.0, 300.0


@functools.cache
def endpoint() -> str:
    """Return where the Hub is: `HF_ENDPOINT`, or the public Hub.

    Raise HubError for http to another machine, which would send the token in clear.
    """
    console.quiet_libraries()
    from huggingface_hub import constants

    url = urllib.parse.urlsplit(constants.ENDPOINT)
    if url.scheme != "https" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise HubError(
            f"the endpoint is not encrypted, so a token would travel in clear: {constants.ENDPOINT}",
            hint="export HF_ENDPOINT=https://...",
        )
    return str(constants.ENDPOINT)


@functools.cache
def api() -> HfApi:
    """Return the client. Its requests time out; those of huggingface_hub alone wait for ever."""
    where = endpoint()
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import hf_request_event_hook

    def limit(request: Any) -> None:
        # a timeout of the client does not reach the calls that pass `timeout=None`, such as those for refs and trees
        limits = http().Timeout(READ_S, connect=CONNECT_S, write=WRITE_S).as_dict()
        given = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {name: given.get(name) or limit for name, limit in limits.items()}

    def client() -> Any:
        hooks = {"request": [hf_request_event_hook, limit]}
        return http().Client(event_hooks=hooks, follow_redirects=True, timeout=None)

    set_client_factory(client)
    return HfApi(endpoint=where, library_name="hubdpo")


def resolve(repo_id: str, revision: str | None = None, *, repo_type: RepoType = "model") -> str:
    """Return the commit (40 hex digits) that a branch, tag or commit names now.

    In offline mode, and with a warning when no answer comes, the commit that it named when it was last asked for. Raise
    NoSuchRevision when the Hub, or in offline mode the cache, has none of that name; HubError for any other failure.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    ref = RepoRef(repo_id, checked_revision(revision) if revision is not None else None)
    if is_offline():
        return _cached_commit(ref, repo_type) or never_cached(ref, repo_type)
    with translate_errors(str(ref)):
        try:
            sha = api().repo_info(repo_id, revision=revision, repo_type=repo_type).sha
        except Exception as problem:
            cached = _cached_commit(ref, repo_type) if is_unreachable(problem) else None
            if cached is None:
                raise
            console.warn(
                f"{endpoint()} does not answer ({type(problem).__name__}); `{ref}` is {cached[:12]}, from the cache"
            )
            return cached
    if not sha:
        raise HubError(f"{endpoint()} names no commit for `{repo_id}`", hint="try again later")
    _remember(ref, repo_type, str(sha))
    return str(sha)


def resolve_address(address: str) -> Address:
    """Return the repo, at its commit, and the path that `hf://datasets/USER/NAME[@REVISION][/PATH]` means now.

    Raise DataError when it is no such address, NoSuchRevision when the repo has none of the revisions that it can name.
    """
    ways = parse_address(address)
    for (repo_id, revision), path in ways:
        try:
            return Address(RepoRef(repo_id, resolve(repo_id, revision, repo_type="dataset")), path)
        except NoSuchRevision:
            if len(ways) == 1:
                raise
    raise NoSuchRevision(
        f"`{ways[0].repo.repo_id}` has no revision {' or '.join(f'`{way.repo.revision}`' for way in ways)}",
        hint=f"hf repos tag list {ways[0].repo.repo_id} --type dataset",
    )


def cache_of(repo_id: str, repo_type: RepoType) -> Path:
    """Return the folder that the cache has, or would have, for a repo."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(str(constants.HF_HUB_CACHE)) / str(repo_folder_name(repo_id=repo_id, repo_type=repo_type))


def called(folder: Path) -> str:
    """Return the name of the repo that a folder of the cache is of; of any other folder its path."""
    repo = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repo.startswith("models--"):
        return repo.removeprefix("models--").replace("--", "/")
    return str(folder)


def _cached_commit(ref: RepoRef, repo_type: RepoType) -> str | None:
    place = cache_of(ref.repo_id, repo_type) / "refs" / (ref.revision or "main")
    found = place.read_text(encoding="utf-8").strip() if place.is_file() else ""
    return found if COMMIT.fullmatch(found) else None


def _remember(ref: RepoRef, repo_type: RepoType, sha: str) -> None:
    """Note in the cache what a name stands for: the client does so in downloads by name, and ours are by commit."""
    if _cached_commit(ref, repo_type) == sha:
        return
    try:
        write_atomic(cache_of(ref.repo_id, repo_type) / "refs" / (ref.revision or "main"), sha)
    except OSError as problem:  # a cache that others fill need not be writable
        console.info(f"the cache does not keep which commit `{ref}` is: {problem.strerror}")


def never_cached(ref: RepoRef, repo_type: RepoType | None, *, part: str = "") -> NoReturn:
    """Raise NoSuchRevision in offline mode for what is not there, with the command that fetches it."""
    command = ["hf", "download", ref.repo_id]
    command += ["--repo-type", "dataset"] if repo_type == "dataset" else []
    command += ["--revision", ref.revision] if ref.revision else []
    raise NoSuchRevision(
        f"`{ref}` is not in the cache{part}, and offline mode is on", hint=f"HF_HUB_OFFLINE=0 {shlex.join(command)}"
    )


def download(
    repo_id: str,
    sha: str,
    *,
    repo_type: RepoType = "model",
    allow_patterns: list[str] | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Return a folder with the files of a commit, from the cache or the Hub. Raise HubError when one does not come."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    with translate_errors(f"{repo_id}@{sha[:12]}"):
        try:
            return fetch(repo_id, sha, repo_type=repo_type, allow_patterns=allow_patterns, cache_dir=cache_dir)
        except (LocalEntryNotFoundError, OfflineModeIsEnabled):  # the second by huggingface_hub 1
            if is_offline():
                begun = (cache_of(repo_id, repo_type) / "snapshots" / sha).is_dir()
                never_cached(RepoRef(repo_id, sha), repo_type, part=" with all its files" if begun else "")
            raise


def fetch(
    repo_id: str,
    sha: str,
    *,
    repo_type: RepoType = "model",
    allow_patterns: list[str] | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Do as `download`, with the client's own errors, so that the caller can try again."""
    try:
        folder = api().snapshot_download(
            repo_id, revision=sha, repo_type=repo_type, allow_patterns=allow_patterns, cache_dir=cache_dir
        )
    except RuntimeError as problem:  # of hf_xet, whatever kept it from reading; what it cannot send is such an error
        raise ConnectionError(first_line(problem)) from problem
    return Path(folder)
