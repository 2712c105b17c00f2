"""`merge.json`: what a merged model was made of, and how it compares with the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubdpo.artefacts.manifests.accuracy import Count, Number
from hubdpo.artefacts.manifests.file_entries import Files, Sha256, verify_files
from hubdpo.artefacts.manifests.manifest import MERGE_FILE, Manifest, Part
from hubdpo.artefacts.manifests.run import BaseRef, DatasetRef


class AdapterRef(Part):
    """The adapter that was merged: a release (`revision` is its commit, `version` its tag), or a run folder."""

    name: str
    repo_id: str | None = None
    revision: str | None = None
    version: str | None = None
    sha256: Sha256
    """Of its weights."""


class MergeCheck(Part):
    """How far the merged model is from the adapter on its base: differences of log-probabilities, in nats a token."""

    tokens: Count
    mean_difference: Number
    largest_difference: Number
    tolerance: Number
    """What the largest difference had to stay within."""
    noise: Number | None = None
    """What 16-bit arithmetic alone moves the merged model's log-probabilities by at most; 0 where all is float32."""
    adapter_effect: Number
    """Root mean square of what the adapter changes."""
    share_lost: Number
    """Root mean square of the difference, relative to that."""
    compared_in: str
    """The type in which the adapter was computed."""


class MergeManifest(Manifest):
    """`merge.json` of a merged model, written last."""

    hubdpo_version: str
    adapter: AdapterRef
    base: BaseRef
    dataset: DatasetRef
    config: dict[str, Any]
    dtype: str
    dequantised: bool
    """Whether the base's weights are its NF4 weights, de-quantised."""
    parameters: Count
    chat_template_kwargs: dict[str, Any] | None = None
    """What the chat template was given in training."""
    check: MergeCheck
    files: Files
    """Every published file but this one and the card."""


def read_merged_folder(folder: Path) -> MergeManifest:
    """Read and verify a merged model. Raise ArtefactError when it is incomplete or was edited."""
    manifest = MergeManifest.read(folder / MERGE_FILE)
    verify_files(folder, manifest.files, hint="run `hubdpo merge` again, into another folder")
    return manifest
