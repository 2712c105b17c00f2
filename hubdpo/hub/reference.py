"""How people name what is on the Hub: `USER/NAME[@REVISION]`, and `hf://datasets/USER/NAME[@REVISION][/PATH]`.

A revision is a commit, tag, branch or pull request, and may have slashes: `refs/pr/1`, `feature/x`. Every option and
argument that takes a repo is read here.
"""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError, ConfigError, DataError

DATASETS = "hf://datasets/"
COMMIT = re.compile(r"[0-9a-f]{40}")
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|\.lock(?:/|$)|(?:^|/)\.|^[/-]|[./]$|^$")


class RepoRef(NamedTuple):
    """A repo on the Hub; `revision` is None for its main branch."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"

    def at(self, revision: str | None) -> RepoRef:
        """Return the repo at a revision that was given apart. Raise ConfigError when both name one, and another."""
        if revision is None or revision == self.revision:
            return self
        if self.revision is not None:
            raise ConfigError(f"two revisions are given: `{self}` and `{revision}`", hint="leave out one of them")
        return RepoRef(self.repo_id, checked_revision(revision))


class Address(NamedTuple):
    """Files of a repo: those below `path`, or all where that is empty."""

    repo: RepoRef
    path: str


def parse_ref(ref: str) -> RepoRef:
    """Read `USER/NAME[@REVISION]`; the revision may be quoted as in a URL. Raise ConfigError for another form."""
    repo_id, at, revision = ref.partition("@")
    if not is_repo_id(repo_id):
        raise ConfigError(f"not a repo: `{ref}`", hint="write USER/NAME or USER/NAME@v1.0.0")
    if not at:
        return RepoRef(repo_id)
    return RepoRef(repo_id, checked_revision(urllib.parse.unquote(revision)))


def parse_unless_folder(ref: str) -> RepoRef:
    """Do as `parse_ref` with what is no folder but could have been. Raise ArtefactError when it was meant to be one."""
    if Path(ref).is_file():
        raise ArtefactError(
            f"`{ref}` is a file, not a folder", hint="give a run folder or dataset folder, or USER/NAME"
        )
    if looks_like_folder(ref):
        raise ArtefactError(f"folder not found: {ref}", hint="give a folder that is there, or USER/NAME")
    return parse_ref(ref)


def looks_like_folder(ref: str) -> bool:
    """Tell whether a name that is no folder was meant as one: by how it starts, or by the slashes before any `@`."""
    return ref.startswith((".", "/", "~")) or ref.partition("@")[0].count("/") != 1


def parse_address(address: str) -> list[Address]:
    """Read `hf://datasets/USER/NAME[@REVISION][/PATH]` in every way that it can be meant, the likeliest first.

    After an `@` without quoting, only the repo can tell where a branch `feature/x` ends and the path begins. Raise
    DataError when it is no such address.
    """
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    form = f"{DATASETS}USER/NAME@REVISION/path/file.parquet"
    try:
        found = parse_hf_uri(address)
    except HfUriError:
        raise DataError(f"not a Hub address: {address}", hint=form) from None
    if found.type != "dataset" or not is_repo_id(found.id):
        raise DataError(f"not a dataset on the Hub: {address}", hint=form)
    if found.revision is None:
        return [Address(RepoRef(found.id), found.path_in_repo)]
    ways = [Address(RepoRef(found.id, checked_revision(found.revision)), found.path_in_repo)]
    if "/" in found.revision:  # quoted, or a pull request: it is known where it ends
        return ways
    parts = [part for part in found.path_in_repo.split("/") if part]
    for end in range(1, len(parts) + 1):
        revision = "/".join([found.revision, *parts[:end]])
        if not _NO_REF.search(revision):
            ways.append(Address(RepoRef(found.id, revision), "/".join(parts[end:])))
    return ways


def checked_revision(revision: str) -> str:
    """Return a revision as it is. Raise ConfigError for what can be no name in git (git-check-ref-format).

    So none can lead out of the folders that are named after revisions in the cache.
    """
    if _NO_REF.search(revision):
        raise ConfigError(
            f"not a revision: `{revision}`", hint="write a tag, branch or commit: USER/NAME@v1.0.0, USER/NAME@refs/pr/1"
        )
    return revision
