"""Verify a release: download it by commit into an empty cache, compare every file with the manifest, and load it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from hubdpo import console
from hubdpo.artefacts.folders.model_files import COPIED_FILES
from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.bundle import Bundle, Release
from hubdpo.artefacts.manifests.file_entries import verify_files
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config.push import Check
from hubdpo.errors import ArtefactError, ConfigError, HubError, VerificationFailed
from hubdpo.hub.client import RepoType, fetch, resolve
from hubdpo.hub.failures import require_online, translate_errors
from hubdpo.hub.open import find_type
from hubdpo.hub.reference import parse_ref
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import api, endpoint
from hubdpo.hub.versions import highest, parse_tag
from hubdpo.model.probes import ProbeResult
from hubdpo.release.verify.files import check_files
from hubdpo.release.verify.loads import check_adapter, check_dataset, check_merged

MOST_NAMED, LONGEST_NAME = 5, 100
DO_NOT_USE = "do not use this release; where it is yours, publish a new version, else tell its owner"
A_KIND = {"dataset": "a dataset", "adapter": "an adapter", "merged": "a merged model"}
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", *COPIED_FILES)


class BaseState(BaseModel):
    """The base of an adapter: its pinned commit, and where its main branch is now (None when that is not known)."""

    repo_id: str
    revision: str
    main: str | None = None
    moved: bool | None = None
    license: str | None = None
    license_now: str | None = None


class Verified(Release):
    """A release and what was found out about it now; `probes` and `base` are an adapter's, `splits` a dataset's."""

    probes: ProbeResult | None = None
    base: BaseState | None = None
    splits: dict[str, int] | None = None


@dataclass(frozen=True)
class Findings:
    """What verifying a commit found."""

    bundle: Bundle
    probes: ProbeResult | None = None
    base: BaseState | None = None
    splits: dict[str, int] | None = None


def verify(ref: str, *, check: Check = "load") -> Verified:
    """Verify `USER/NAME@vX.Y.Z`, a model or a dataset, and return what it is.

    Every file is compared with its hash. With `check="load"` an adapter is also loaded on its base and its probes are
    compared, and the rows of a dataset are counted. Raise VerificationFailed when something differs, HubError when
    there is no such release. Warns when the base has moved on since: unpinned loading would then take another base.
    """
    repo_id, tag = parse_ref(ref)
    require_online("`verify`")
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
    found = verify_commit(repo_id, repo_type, sha, check=check)
    if found.bundle.version != tag.removeprefix("v"):
        raise VerificationFailed(
            f"`{ref}` holds version {found.bundle.version}", hint=f"publish {tag} again as a new version"
        )
    return Verified(
        repo=repo_id,
        kind=found.bundle.kind,
        version=found.bundle.version,
        tag=tag,
        commit=sha,
        bundle_id=found.bundle.bundle_id,
        url=release_url(repo_id, repo_type, tag),
        endpoint=endpoint(),
        files=[*found.bundle.files, BUNDLE_FILE],
        checked=check,
        probes=found.probes,
        base=found.base,
        splits=found.splits,
    )


def verify_commit(
    repo_id: str, repo_type: RepoType, sha: str, *, expected: Bundle | None = None, check: Check = "load"
) -> Findings:
    """Download a commit into an empty cache, compare every SHA-256, with `expected` when given, and load it.

    A download alone proves nothing: the client accepts a body that was changed on its way.
    """
    with TemporaryDirectory(prefix="hubdpo-verify-") as cache:
        with translate_errors(f"{repo_id}@{sha[:12]}"):
            folder = repeat(lambda: fetch(repo_id, sha, repo_type=repo_type, cache_dir=Path(cache)))
        release = f"{repo_id}@{sha[:12]}"
        with _as_failure(folder, release, hint=f"run the same command again; where it says the same, {DO_NOT_USE}"):
            bundle = Bundle.read(folder / BUNDLE_FILE)
            if expected is not None and bundle != expected:
                raise ArtefactError(f"`{BUNDLE_FILE}` is not the one that was sent")
            if (bundle.kind == "dataset") != (repo_type == "dataset"):
                raise ArtefactError(f"`{BUNDLE_FILE}` lists {A_KIND[bundle.kind]}, and the repo is a {repo_type}")
            verify_files(folder, bundle.files, hint="")
        with _as_failure(folder, release, hint=DO_NOT_USE):
            if others := check_files(folder, bundle, repo_id):
                console.warn(
                    f"{repo_id} holds {len(others)} file{'s' * (len(others) > 1)} that the release does not list, and "
                    f"that were not compared; loading reads none of them: {_named(others)}"
                )
            if bundle.kind == "dataset":
                return Findings(bundle, splits=check_dataset(folder) if check == "load" else None)
            if bundle.kind == "merged":
                return Findings(bundle, probes=check_merged(folder) if check == "load" else None)
            probes = check_adapter(folder) if check == "load" else None
            return Findings(bundle, probes=probes, base=_base_state(folder))


@contextmanager
def _as_failure(folder: Path, release: str, *, hint: str) -> Iterator[None]:
    """Raise VerificationFailed for whatever is wrong with the files of a downloaded release."""
    try:
        yield
    except ArtefactError as problem:
        raise VerificationFailed(problem.message.replace(str(folder), release), hint=hint) from None


def _named(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    told = ", ".join(shortened(name, LONGEST_NAME) for name in names[:MOST_NAMED])
    return f"{told} and {more:,} more" if more > 0 else told


def _base_state(folder: Path) -> BaseState | None:
    """Return where the base is now, with a warning when main holds another model or licence than recorded."""
    base = RunManifest.read(folder / RUN_FILE).base
    if base.repo_id is None or base.revision is None:
        return None
    name, pinned = base.repo_id, base.revision
    state = BaseState(repo_id=name, revision=pinned, license=base.license)
    try:
        with translate_errors(name):
            now = repeat(lambda: api().model_info(name))
            moved = now.sha != pinned and _model_files(name, str(now.sha)) != _model_files(name, pinned)
    except HubError as problem:
        console.warn(f"the base cannot be looked up: {problem.message}")
        return state
    licence = now.card_data.license if now.card_data else None
    state = BaseState(
        repo_id=name, revision=pinned, main=now.sha, moved=moved, license=base.license,
        license_now=licence if isinstance(licence, str) else None,
    )  # fmt: skip
    if state.moved:
        console.warn(f"`{name}` has moved on to {str(now.sha)[:12]}; the adapter stays on {pinned[:12]}")
    if base.license and state.license_now not in (None, base.license):
        console.warn(f"`{name}` is under {state.license_now} now; it was under {base.license}")
    return state


def _model_files(repo_id: str, revision: str) -> dict[str, str | None]:
    """Return the hashes of the files that make a model what it is: another card or history is no other model.

    A release of hubdpo is a commit of its own, beside the one on main with the same files.
    """
    info = repeat(lambda: api().model_info(repo_id, revision=revision, files_metadata=True))
    return {
        file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id
        for file in info.siblings or []
        if any(fnmatch.fnmatchcase(file.rfilename, pattern) for pattern in MODEL_FILES)
    }


def release_url(repo_id: str, repo_type: RepoType, tag: str) -> str:
    prefix = "" if repo_type == "model" else "datasets/"
    return f"{endpoint()}/{prefix}{repo_id}/tree/{tag}"
