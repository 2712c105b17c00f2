"""TODO."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from hubdpo.artefacts.manifests.accuracy import Count, Number
from hubdpo.artefacts.manifests.manifest import Manifest, Part


class DatasetRef(Part):
    """The data a run used. `repo_id` and `revision` (a commit) when it came from the Hub, else a bare folder name."""

    name: str
    repo_id: str | None = None
    revision: str | None = None
    fingerprint: str
    license: str | None = None
    language: list[str] = Field(default_factory=list)
    citation: str | None = None
    """BibTeX of the data, as their card has it."""
    train_pairs: Count
    test_pairs: Count


class Ancestor(Part):
    """A merge: an adapter put into an older base. Revisions are commits, None for what was only a folder."""

    adapter: str
    adapter_version: str | None = None
    adapter_revision: str | None = None
    base: str
    base_revision: str | None = None
    dequantised: bool
    """Whether the weights merged into were the base's NF4 weights, de-quantised."""


class BaseRef(Part):
    """The base model. `revision` is a commit; both are None-able only for a local folder without a Hub id."""

    name: str
    repo_id: str | None = None
    revision: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    made_by: list[Ancestor] = Field(default_factory=list)
    """The merges that it was made by, newest first."""


class Change(Part):
    """What a resumed run took anew: the values `[before, now]` by name, in force after `step`."""

    step: Count
    values: dict[str, tuple[Any, Any]]


class EndOfTurn(Part):
    """The control token with which the chat template ends an answer, where the base's generation stops elsewhere."""

    token: str
    id: Count
    base_stops_at: list[Count]

    @property
    def all_stops(self) -> list[int]:
        return [self.id, *self.base_stops_at]


class RunManifest(Manifest):
    hubdpo_version: str
    status: Literal["running", "complete"]
    config: dict[str, Any]
    dataset: DatasetRef
    base: BaseRef
    versions: dict[str, str]
    device: str
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)]
    tokenization: dict[str, Count] = Field(default_factory=dict)
    """Rows by what the tokeniser did to them (`prompt_cut`, `response_cut`, ...)."""
    planned_steps: Count | None = None
    """Steps that the schedule of the learning rate is made for; None in runs of hubdpo 0.2 and before."""
    changes: list[Change] = Field(default_factory=list)
    """In the order in which they were made. `config`, `versions` and `device` are those of the last start."""
    end_of_turn: EndOfTurn | None = None
    """None where the base's generation stops at it."""
    steps: Count = 0
    train_seconds: Number | None = None
    tokens_per_second: Number | None = None
    peak_memory_bytes: Count | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    """The last logged value of each TRL metric."""
