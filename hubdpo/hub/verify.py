"""Verify a release: download it by commit into an empty cache, and compare every file with the manifest."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hubdpo import console
from hubdpo.errors import ArtefactError, ConfigError, HubError, VerificationFailed
from hubdpo.hub.client import RepoType, api, download, endpoint, parse_ref, resolve, translate_errors
from hubdpo.hub.remote import repeat
from hubdpo.hub.versions import highest, parse_tag
from hubdpo.manifest import BUNDLE_FILE, RUN_FILE, Bundle, Release, RunManifest, verify_files


def verify(ref: str) -> Release:
    """Verify `USER/NAME@vX.Y.Z`, a model or a dataset, and return what it is.

    Raise VerificationFailed when a file differs from `hubdpo.json`, HubError when there is no such release. Warns when
    the base has moved on since: unpinned loading would then take another base.
    """
    repo_id, tag = parse_ref(ref)
    repo_type = find_type(repo_id)
    if tag is None or parse_tag(tag) is None:
        with translate_errors(repo_id):
            tags = [t.name for t in repeat(lambda: api().list_repo_refs(repo_id, repo_type=repo_type)).tags]
        newest = highest(tags)
        raise ConfigError(
            f"name a release of `{repo_id}`: USER/NAME@vX.Y.Z",
            hint=f"hubdpo verify {repo_id}@{newest}" if newest else "it has no release yet",
        )
    sha = resolve(repo_id, tag, repo_type=repo_type)
    bundle = verify_commit(repo_id, repo_type, sha)
    if bundle.version != tag.removeprefix("v"):
        raise VerificationFailed(
            f"`{ref}` holds version {bundle.version}", hint=f"publish {tag} again as a new version"
        )
    return Release(
        repo=repo_id,
        kind=bundle.kind,
        version=bundle.version,
        tag=tag,
        commit=sha,
        bundle_id=bundle.bundle_id,
        url=release_url(repo_id, repo_type, tag),
        endpoint=endpoint(),
        files=[*bundle.files, BUNDLE_FILE],
    )


def verify_commit(repo_id: str, repo_type: RepoType, sha: str, *, expected: Bundle | None = None) -> Bundle:
    """Download a commit into an empty cache and compare the SHA-256 of every file, with `expected` when given.

    A download alone proves nothing: the client accepts a body that was changed on its way.
    """
    with TemporaryDirectory(prefix="hubdpo-verify-") as cache:
        folder = repeat(lambda: download(repo_id, sha, repo_type=repo_type, cache_dir=Path(cache)))
        try:
            bundle = Bundle.read(folder / BUNDLE_FILE)
            if expected is not None and bundle != expected:
                raise ArtefactError(f"`{BUNDLE_FILE}` is not the one that was sent")
            verify_files(folder, bundle.files, hint="")
        except ArtefactError as problem:
            message = problem.message.replace(str(folder), f"{repo_id}@{sha[:12]}")
            raise VerificationFailed(
                message, hint="run the same command again; the release is not to be trusted"
            ) from None
        if bundle.kind == "adapter":
            _warn_of_drift(folder)
    return bundle


def _warn_of_drift(folder: Path) -> None:
    base = RunManifest.read(folder / RUN_FILE).base
    if base.repo_id is None:
        return
    try:
        now = resolve(base.repo_id)
    except HubError as problem:
        console.warn(f"the base cannot be looked up: {problem.message}")
        return
    if now != base.revision:
        console.warn(f"`{base.repo_id}` has moved on to {now[:12]}; the adapter stays on {str(base.revision)[:12]}")


def find_type(repo_id: str) -> RepoType:
    """Tell whether a name is a model or a dataset. Raise HubError when it is neither."""
    kinds: tuple[RepoType, ...] = ("model", "dataset")
    with translate_errors(repo_id):
        for repo_type in kinds:
            if repeat(lambda repo_type=repo_type: api().repo_exists(repo_id, repo_type=repo_type)):  # type: ignore[misc]
                return repo_type
    raise HubError(f"`{repo_id}` is not on {endpoint()}, or is private", hint="hf auth login, or check the name")


def release_url(repo_id: str, repo_type: RepoType, tag: str) -> str:
    prefix = "" if repo_type == "model" else "datasets/"
    return f"{endpoint()}/{prefix}{repo_id}/tree/{tag}"
