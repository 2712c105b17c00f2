"""Parse references to the Hub: `[datasets/]USER/NAME[@REVISION]`, and `hf://datasets/USER/NAME[@REVISION][/PATH]`.

A model and a dataset may have the same name. A revision is a commit, tag, branch or pull request, and may contain
slashes: `refs/pr/1`, `feature/x`. Every option and argument that takes a repo is parsed here.
"""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Literal, NamedTuple

from hubdpo.artefacts.folders.named import ANY, check_named
from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.artefacts.manifests.manifest import RELEASE_FILE
from hubdpo.config.flags import quoted
from hubdpo.config.repo_id import SPELLED_AS_DATASET, is_repo_id, repo_in
from hubdpo.errors import ArtefactError, ConfigError, DataError, Instead

RepoType = Literal["model", "dataset"]
HUB = "hf://"
DATASETS = f"{HUB}datasets/"
COMMIT = re.compile(r"[0-9a-f]{40}")
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|\.lock(?:/|$)|(?:^|/)\.|^[/-]|[./]$|^$")


class RepoRef(NamedTuple):
    """A repo on the Hub at a revision; None is the main branch. `repo_type` is None where the name does not tell."""

    repo_id: str
    revision: str | None = None
    repo_type: RepoType | None = None

    def __str__(self) -> str:
        return hub_path(self.repo_id, self.repo_type) + (f"@{self.revision}" if self.revision is not None else "")

    def at(self, revision: str | None) -> RepoRef:
        """Return the repo at a revision given separately. Raise ConfigError for two different revisions."""
        if revision is None or revision == self.revision:
            return self
        if self.revision is not None:
            raise ConfigError(f"two revisions are given: `{self}` and `{revision}`", hint="leave out one of them")
        return self._replace(revision=checked_revision(revision))


class Address(NamedTuple):
    """The files of a repo below `path`, or all files where the path is empty."""

    repo: RepoRef
    path: str


def ref_of(release: Release) -> RepoRef:
    """Name a release; a dataset as one, because its name alone means a model where there is one."""
    return RepoRef(release.repo, release.tag, "dataset" if release.kind == "dataset" else None)


def published_as(folder: Path) -> RepoRef | None:
    """Return the release as which a folder was published, None where it was not."""
    try:
        return ref_of(Release.read(folder / RELEASE_FILE))
    except ArtefactError:
        return None


def hub_path(repo_id: str, repo_type: RepoType | None) -> str:
    """Return the name of a repo as the Hub spells it in addresses: `datasets/USER/NAME`, but `USER/NAME` of a model."""
    return f"{'datasets/' * (repo_type == 'dataset')}{repo_id}"


def type_option(repo_type: RepoType) -> str:
    """Return the option by which `hf` commands are told the type of a repo, with a space before it, or ""."""
    return " --type dataset" * (repo_type == "dataset")


def checked_name(parameter: str, ref: object) -> str:
    """Return what a caller named as a folder or a repo, as text. Raise ConfigError for anything but a name."""
    if isinstance(ref, str | Path) and str(ref):
        return str(ref)
    hint = "give a folder, or USER/NAME[@REVISION]"
    if ref is None or ref == "":
        raise ConfigError(f"`{parameter}` is needed", hint=hint)
    raise ConfigError(f"`{parameter}` must be a name, not {shortened(repr(ref), 80)}", hint=hint)


def parse_ref(ref: str) -> RepoRef:
    """Parse `[datasets/]USER/NAME[@REVISION]`, whose revision may be quoted as in a URL.

    Raise ConfigError for any other form.
    """
    bare = SPELLED_AS_DATASET.sub("", ref)
    repo_type: RepoType | None = "dataset" if bare != ref else None
    repo_id, at, revision = bare.partition("@")
    if not is_repo_id(repo_id):
        if Path(ref).is_dir():
            published, push = published_as(Path(ref)), f"hubdpo push {quoted(ref)} USER/NAME --version 0.1.0"
            hint = Instead(ref, str(published._replace(revision=None))) if published else push
            raise ConfigError(f"`{ref}` is a folder, and a repo on the Hub is meant", hint=hint)
        raise ConfigError(
            f"not a repo: `{ref}`; write USER/NAME, or USER/NAME@v1.0.0 for a release", hint=Instead(ref, repo_in(ref))
        )
    return RepoRef(repo_id, checked_revision(urllib.parse.unquote(revision)) if at else None, repo_type)


def parse_unless_folder(ref: str) -> RepoRef:
    """Like `parse_ref`, but raise ArtefactError for a path: the folder does not exist."""
    check_named(ref, ANY)
    return parse_ref(ref)


def parse_address(address: str) -> list[Address]:
    """Return every possible reading of `hf://datasets/USER/NAME[@REVISION][/PATH]`, the likeliest first.

    Without quoting, only the repo can tell where a branch `feature/x` ends and the path begins. Raise DataError for any
    other address.
    """
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    form = f"{DATASETS}USER/NAME@REVISION/path/file.parquet"
    try:
        uri = parse_hf_uri(address)
    except HfUriError:
        raise DataError(f"not a Hub address: {address}", hint=form) from None
    if uri.type != "dataset" or not is_repo_id(uri.id):
        raise DataError(f"not a dataset on the Hub: {address}", hint=form)
    if uri.revision is None:
        return [Address(RepoRef(uri.id), uri.path_in_repo)]
    readings = [Address(RepoRef(uri.id, checked_revision(uri.revision)), uri.path_in_repo)]
    if "/" in uri.revision:  # quoted, or a pull request: its end is known
        return readings
    parts = [part for part in uri.path_in_repo.split("/") if part]
    for end in range(1, len(parts) + 1):
        revision = "/".join([uri.revision, *parts[:end]])
        if not _NO_REF.search(revision):
            readings.append(Address(RepoRef(uri.id, revision), "/".join(parts[end:])))
    return readings


def checked_revision(revision: str) -> str:
    """Return a revision unchanged. Raise ConfigError for a name that git does not allow (git-check-ref-format).

    So no revision can lead out of the cache, whose folders are named after revisions.
    """
    if not isinstance(revision, str) or _NO_REF.search(revision):
        raise ConfigError(
            f"not a revision: `{revision}`", hint="write a tag, branch or commit: USER/NAME@v1.0.0, USER/NAME@refs/pr/1"
        )
    return revision
