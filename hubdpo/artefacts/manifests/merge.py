"""`merge.json`: the parts of a merged model, and how closely it matches the adapter."""

from __future__ import annotations

from pathlib import Path

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.manifests.manifest import MERGE_FILE, Count, Files, Manifest, Number, Part, verify_files
from hubdpo.artefacts.manifests.run import AdapterRef, BaseRef, DatasetRef, StartRef


class MergeCheck(Part):
    """Differences of log-probabilities, in nats per token, between the merged model and the adapter on its base."""

    tokens: Count
    mean_difference: Number
    largest_difference: Number
    tolerance: Number
    """Upper bound that `largest_difference` had to meet."""
    noise: Number | None = None
    """Largest difference that 16-bit rounding alone makes on the merged model; 0 if everything is float32."""
    adapter_effect: Number
    """Root mean square of the difference between adapter and base."""
    share_lost: Number
    """Root mean square of the difference between merged model and adapter, relative to `adapter_effect`."""
    compared_in: str
    """Data type in which the adapter was computed."""


class MergeManifest(Manifest):
    """`merge.json` of a merged model, written last."""

    hubdpo_version: str
    adapter: AdapterRef
    base: BaseRef
    dataset: DatasetRef | None = None
    """None where the data of the adapter are not known."""
    started_from: StartRef | None = None
    """The adapter that the training of this one started from."""
    config: JsonObject
    dtype: str
    dequantised: bool
    """Whether the adapter was merged into de-quantised NF4 weights."""
    parameters: Count
    method: str | None = "DPO"
    """What the adapter was trained with; None where it is not known."""
    chat_template_kwargs: JsonObject | None = None
    """Variables of the chat template in training."""
    check: MergeCheck
    files: Files
    """Every published file except `merge.json` and the card."""


def read_merged_folder(folder: Path) -> MergeManifest:
    """Read and verify the folder of a merged model. Raise ArtefactError if it is incomplete or was edited."""
    manifest = MergeManifest.read(folder / MERGE_FILE)
    verify_files(folder, manifest.files, hint="run `hubdpo merge` again, into another folder")
    return manifest
