"""`hubdpo.json`, which lists the files of a release by hash, and `release.json`, the local receipt of a push."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from hubdpo.artefacts.manifests.manifest import READ, FileEntry, FileNames, Files, Manifest, bytes_entry, fingerprint

Kind = Literal["dataset", "adapter", "merged"]
"""What a release contains."""
A_KIND: dict[Kind, str] = {"dataset": "a dataset", "adapter": "an adapter", "merged": "a merged model"}


def _version(version: str, info: ValidationInfo) -> str:
    # a release in the making may have the version `minor`, until the Hub has told the newest one
    if info.context == READ and re.fullmatch(r"\d+\.\d+\.\d+", version, re.ASCII) is None:
        raise ValueError("must be X.Y.Z")
    return version


class Bundle(Manifest):
    """`hubdpo.json` of a release."""

    kind: Kind
    version: Annotated[str, Field(max_length=100), AfterValidator(_version)]
    bundle_id: str
    files: Files

    def has(self, name: str, data: bytes) -> bool:
        """Tell whether `data` is the content of the release's file `name`."""
        return self.files.get(name) == bytes_entry(data)


def bundle_id_of(version: str, files: dict[str, FileEntry]) -> str:
    """Return the hash of a version and of all its files: equal ids mean equal releases."""
    return fingerprint([version, {name: files[name].model_dump() for name in sorted(files)}])


class Release(Manifest):
    """`release.json` of a dataset, run or merged folder that was published."""

    repo: str
    kind: Kind
    version: str
    tag: str
    commit: str
    bundle_id: str
    url: str
    endpoint: str
    files: FileNames
    checked: Literal["load", "hashes"] | None = None
    """How the release was verified; None if another folder published it."""
    pull_request: str | None = None
    """URL of the pull request, if the files were proposed and not released."""
    collection: str | None = None
    """URL of the collection that the repo was added to."""
