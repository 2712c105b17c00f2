"""Verify a release: download it by commit into an empty cache, compare every file with the manifest, and load it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from hubdpo import console
from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.bundle import A_KIND, Bundle, Release
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, PROBES_FILE, RUN_FILE, verify_files
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config.push import Check
from hubdpo.config.takes import plain
from hubdpo.errors import ArtefactError, ConfigError, Instead, VerificationFailed
from hubdpo.hub.failures import require_online, translate_errors
from hubdpo.hub.open import find_types, open_repo, say_which
from hubdpo.hub.reference import RepoRef, checked_name, hub_path, parse_ref, published_as
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.hub.transport import endpoint
from hubdpo.hub.versions import highest, parse_tag
from hubdpo.model.probes import ProbeResult
from hubdpo.release.foreign import adopting_it
from hubdpo.release.remote import Remote
from hubdpo.release.verify.files import check_files
from hubdpo.release.verify.loads import DO_NOT_USE, BaseState, check_adapter, check_dataset, check_merged, look_up_base

MOST_NAMED, LONGEST_NAME = 5, 100


class Verified(Release):
    """A verified release; `probes` and `base` belong to an adapter, `splits` (rows by split) to a dataset."""

    probes: ProbeResult | None = None
    base: BaseState | None = None
    splits: dict[str, int] | None = None


@dataclass(frozen=True)
class Findings:
    """What the verification of a commit found."""

    bundle: Bundle
    probes: ProbeResult | None = None
    base: BaseState | None = None
    splits: dict[str, int] | None = None


@plain
def verify(ref: str | Path, *, check: Check = "load") -> Verified:
    """Verify the release `USER/NAME@vX.Y.Z` of a model or a dataset, and return what it is.

    Every file is downloaded and compared with its hash. With `check="load"` an adapter is also loaded on its base and
    its probes are compared, and the rows of a dataset are counted. A base that has moved on since is a warning: without
    a pinned commit, loading would take another base. Raise VerificationFailed when something differs, HubError when
    there is no such release, ConfigError for another `ref` or `check`.
    """
    if check not in get_args(Check):
        raise ConfigError(f"`check` is {check!r}", hint=f"one of: {', '.join(get_args(Check))}")
    named = _named(ref)
    require_online("`verify`")
    repo_id, tag = named.repo_id, named.revision
    if tag is None or parse_tag(tag) is None:
        types = find_types(named)
        say_which(named, types[0], types)
        with translate_errors(repo_id):
            newest = highest(Remote(repo_id, types[0]).refs().tags)
        if newest is not None:
            newest_one = Instead(str(ref), str(named._replace(revision=newest)))
            raise ConfigError(f"name a release of `{repo_id}`: USER/NAME@vX.Y.Z", hint=newest_one)
        adopting = adopting_it(open_repo(named._replace(repo_type=types[0])))
        hint = adopting or f"hubdpo inspect {hub_path(repo_id, types[0])}"
        raise ConfigError(f"`{repo_id}` has no release yet", hint=hint)
    snapshot = open_repo(named, fresh=True)
    findings = verify_commit(snapshot, check=check)
    bundle = findings.bundle
    if bundle.version != tag.removeprefix("v"):
        raise VerificationFailed(
            f"`{ref}` holds version {bundle.version}", hint=f"publish {tag} again as a new version"
        )
    if (bundle.kind, check, findings.probes) == ("adapter", "load", None):
        console.warn(f"`{ref}` has no {PROBES_FILE}: it loads, but there is nothing to compare its answers with")
    return Verified(
        **receipt_of(Remote(repo_id, snapshot.type), bundle, tag, snapshot.sha),
        files=[*bundle.files, BUNDLE_FILE], checked=check, probes=findings.probes, base=findings.base,
        splits=findings.splits,
    )  # fmt: skip


def _named(ref: str | Path) -> RepoRef:
    """Parse the name of a release. Raise ConfigError for a folder, with the release that it was published as."""
    if not Path(checked_name("ref", ref)).is_dir():
        return parse_ref(str(ref))
    push = f"hubdpo push {shlex.quote(str(ref))} USER/NAME --version 0.1.0"
    published = published_as(Path(ref))
    instead = Instead(str(ref), str(published)) if published else None
    hint = instead or adopting_it(FolderSnapshot(Path(ref))) or push
    raise ConfigError(f"`verify` checks releases on the Hub, and `{ref}` is a folder", hint=hint)


def verify_commit(
    snapshot: RepoSnapshot, *, expected: Bundle | None = None, check: Check = "load", base: BaseState | None = None
) -> Findings:
    """Download a commit into an empty folder, compare every SHA-256, with `expected` when given, and load it.

    A download that succeeds proves nothing: the client accepts a body that was changed on its way. The `base` of an
    adapter is looked up unless it was already.
    """
    with TemporaryDirectory(prefix="hubdpo-verify-") as scratch:
        folder = Path(scratch)
        with _as_failure(snapshot, folder, hint=f"run the same command again; where it fails again, {DO_NOT_USE}"):
            bundle = snapshot.manifest(BUNDLE_FILE, Bundle)
            if bundle is None:
                raise ArtefactError(f"`{snapshot.ref}` has no {BUNDLE_FILE}, so it is not a release")
            if expected is not None and bundle != expected:
                raise ArtefactError(f"`{BUNDLE_FILE}` is not the one that was sent")
            if (bundle.kind == "dataset") != (snapshot.repo_type == "dataset"):
                raise ArtefactError(
                    f"`{BUNDLE_FILE}` lists {A_KIND[bundle.kind]}, and the repo is a {snapshot.repo_type}"
                )
            snapshot.fetch_fresh(bundle.files, folder)
            verify_files(folder, bundle.files, hint="")
        with _as_failure(snapshot, folder, hint=DO_NOT_USE):
            if others := check_files(snapshot, bundle):
                names = console.listed((shortened(name, LONGEST_NAME) for name in others), MOST_NAMED)
                console.warn(
                    f"{snapshot.name} holds {len(others)} file{'s' * (len(others) > 1)} that the release does not list "
                    f"and that were not compared; loading reads none of them: {names}"
                )
            if bundle.kind == "dataset":
                return Findings(bundle, splits=check_dataset(folder) if check == "load" else None)
            if bundle.kind == "merged":
                return Findings(bundle, probes=check_merged(folder) if check == "load" else None)
            base = base or look_up_base(RunManifest.read(folder / RUN_FILE).base, needed=check == "load")
            probes = check_adapter(folder) if check == "load" else None
            return Findings(bundle, probes=probes, base=base)


@contextmanager
def _as_failure(snapshot: RepoSnapshot, folder: Path, *, hint: str) -> Iterator[None]:
    """Raise VerificationFailed, naming the release, for whatever is wrong with the files downloaded into `folder`."""
    try:
        yield
    except ArtefactError as problem:
        raise VerificationFailed(problem.message.replace(str(folder), snapshot.ref), hint=hint) from None


def receipt_of(remote: Remote, bundle: Bundle, tag: str, commit: str) -> dict[str, Any]:
    """Return the fields of a release that any of its receipts has."""
    return {
        **bundle.model_dump(include={"kind", "version", "bundle_id"}), "repo": remote.repo_id, "tag": tag,
        "commit": commit, "url": f"{remote.url}/tree/{tag}", "endpoint": endpoint(),
    }  # fmt: skip
