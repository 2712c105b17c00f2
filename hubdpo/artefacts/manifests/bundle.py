"""TODO."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from hubdpo.artefacts.manifests.accuracy import READ
from hubdpo.artefacts.manifests.file_entries import FileEntry, FileNames, Files, bytes_entry
from hubdpo.artefacts.manifests.manifest import Manifest, fingerprint

Kind = Literal["dataset", "adapter", "merged"]
"""What a release holds."""


def _of_a_release(version: str, info: ValidationInfo) -> str:
    # while a release is made its version may be a word, `minor`, until the Hub has told what it counts on from
    if info.context == READ and re.fullmatch(r"\d+\.\d+\.\d+", version, re.ASCII) is None:
        raise ValueError("must be X.Y.Z")
    return version


class Bundle(Manifest):
    """`hubdpo.json` of a release: what belongs to it, by hash."""

    kind: Kind
    version: Annotated[str, Field(max_length=100), AfterValidator(_of_a_release)]
    bundle_id: str
    files: Files

    def has(self, name: str, data: bytes) -> bool:
        """Tell whether these bytes are those of the release's file `name`."""
        return self.files.get(name) == bytes_entry(data)


def bundle_id_of(version: str, files: dict[str, FileEntry]) -> str:
    """Return the id of a bundle, which stands for its version and for every byte of its files."""
    return fingerprint([version, {name: files[name].model_dump() for name in sorted(files)}])


class Release(Manifest):
    """`release.json`: the local receipt of a verified release."""

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
    """How it was verified when it was published from this folder; None when it was not from here."""
    pull_request: str | None = None
    """Address of the pull request, for what was proposed and not released."""
    collection: str | None = None
    """Address of the collection to which the repo was added just now."""
