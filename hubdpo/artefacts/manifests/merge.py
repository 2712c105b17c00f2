"""`merge.json`: the parts of a merged model, and how closely it matches the adapter."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.manifests.manifest import (
    MERGE_FILE,
    Count,
    Files,
    Manifest,
    Number,
    Part,
    Requirement,
    verify_files,
)
from hubdpo.artefacts.manifests.run import AdapterRef, Adopted, BaseRef, DatasetRef, StartRef


class MergeCheck(Part):
    """Differences of log-probabilities, in nats per token, between the merged model and the adapter on its base."""

    tokens: Count
    mean_difference: Number
    largest_difference: Number
    tolerance: Number
    """Bound that `largest_difference` had to stay within."""
    noise: Number | None = None
    """Largest difference that 16-bit rounding alone makes on the merged model; 0 if everything is float32."""
    adapter_effect: Number
    """Root mean square of the difference between adapter and base."""
    share_lost: Number
    """Root mean square of the difference between merged model and adapter, relative to `adapter_effect`."""
    compared_in: str
    """Data type in which the adapter was computed for the comparison."""


class MergedAdapter(Part):
    """One of the adapters of a merge, and what its licence and card depend on."""

    adapter: AdapterRef
    weight: Number = 1.0
    dataset: DatasetRef | None = None
    started_from: StartRef | None = None
    adopted: Adopted | None = None
    method: str | None = None
    in_4bit: bool | None = None
    """Whether the base was quantised to NF4 in its training; None where it is not known."""


class MergeManifest(Manifest):
    """`merge.json` of a merged model, written last."""

    hubdpo_version: str
    hubdpo_from: Requirement | None = None
    adapter: AdapterRef
    """The first adapter, where there are several."""
    adapters: list[MergedAdapter] = Field(default_factory=list)
    """All of them, in order; none in merges of hubdpo 0.4 and earlier, which had one."""
    base: BaseRef
    dataset: DatasetRef | None = None
    """The data of the training; None where they are not known, and where several adapters have several."""
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
    """Variables with which training rendered the chat template."""
    check: MergeCheck
    files: Files
    """Every published file except `merge.json` and the card."""

    @property
    def parts(self) -> list[MergedAdapter]:
        """The adapters with their weights, also in merges of earlier versions."""
        only = MergedAdapter(
            adapter=self.adapter, dataset=self.dataset, started_from=self.started_from, method=self.method
        )
        return self.adapters or [only]

    @property
    def contents(self) -> list[tuple[str, float]]:
        """The hash of each adapter's weights, with its weight: equal ones and equal options give equal models."""
        return [(part.adapter.sha256, part.weight) for part in self.parts]

    @property
    def sum(self) -> str:
        """The names of the adapters, with their weights where there are several."""
        if len(self.parts) == 1:
            return self.adapter.name
        return " + ".join(f"{part.weight:g} × {part.adapter.name}" for part in self.parts)


def read_merged_folder(folder: Path) -> MergeManifest:
    """Read and verify the folder of a merged model. Raise ArtefactError if it is incomplete or was edited."""
    manifest = MergeManifest.read(folder / MERGE_FILE)
    verify_files(folder, manifest.files, hint="run `hubdpo merge` again, into another folder")
    return manifest
