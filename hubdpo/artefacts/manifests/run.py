"""`run.json` of a run folder: options, base, dataset, versions, measurements, and whether the run is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from hubdpo.artefacts.formats.bounded import JsonObject, parse_json, read_text
from hubdpo.artefacts.manifests.manifest import Count, Files, Manifest, Number, Part, Sha256


class DatasetRef(Part):
    """The dataset of a run: on the Hub `repo_id` and `revision`, a commit; otherwise only the name of a folder."""

    name: str
    repo_id: str | None = None
    revision: str | None = None
    fingerprint: str
    license: str | None = None
    language: list[str] = Field(default_factory=list)
    citation: str | None = None
    """BibTeX entry of the dataset card."""
    train_pairs: Count
    test_pairs: Count


class AdapterRef(Part):
    """An adapter: a release (`revision` is its commit, `version` its tag), a repo at a commit, or a folder."""

    name: str
    repo_id: str | None = None
    revision: str | None = None
    version: str | None = None
    sha256: Sha256
    """Hash of the adapter weights."""


class Round(Part):
    """One training of an adapter: on what data and base, and which adapter it started from, if any."""

    started_from: AdapterRef | None = None
    dataset: DatasetRef
    base: str
    base_revision: str | None = None
    losses: list[str] = Field(default_factory=lambda: ["sigmoid"])
    steps: Count = 0


class StartRef(AdapterRef):
    """The adapter that a run started from, and the trainings that made it."""

    license: str | None = None
    rounds: list[Round] = Field(default_factory=list)
    """Newest first. Of an adapter of another tool none is known, and of one that began at it the first is missing."""


class Ancestor(Part):
    """An adapter that was merged into an older base. Revisions are commits, or None for a local folder."""

    adapter: str
    adapter_version: str | None = None
    adapter_revision: str | None = None
    base: str
    base_revision: str | None = None
    dequantised: bool
    """Whether the adapter was merged into de-quantised NF4 weights."""
    started_from: StartRef | None = None
    """The adapter that the training of the merged one started from."""


class BaseRef(Part):
    """The base model. `revision` is a commit; it and `repo_id` are None for a local folder without a Hub id."""

    name: str
    repo_id: str | None = None
    revision: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    made_by: list[Ancestor] = Field(default_factory=list)
    """The merges that produced this base, newest first."""


class Change(Part):
    """Options that a resumed run changed after `step`: `[before, after]` by name."""

    step: Count
    values: dict[str, tuple[Any, Any]]


class EndOfTurn(Part):
    """The token that ends an answer in the chat template, if the base's generation config stops at other tokens."""

    token: str
    id: Count
    base_stops_at: list[Count]

    @property
    def all_stops(self) -> list[int]:
        return [self.id, *self.base_stops_at]


class EvaluationSet(Part):
    """A further dataset that was evaluated during training, as `eval_NAME_...` in the metrics."""

    dataset: DatasetRef
    split: str
    pairs: Count
    in_train: Count
    """Pairs of it that the train split has as well."""


class ChosenStep(Part):
    """The checkpoint whose adapter was taken: the best `of` so many in a metric of the test split."""

    step: Count
    metric: str
    value: Number
    of: Count


class Selection(Part):
    """The place of a run among the finished runs of a sweep, ranked by their held-out reward accuracy."""

    rank: Annotated[Count, Field(ge=1)]
    of: Count
    not_told_apart: Count
    """Other runs whose interval overlaps that of the best one."""


FROM_ADAPTER = frozenset(
    {
        "lora_r", "lora_alpha", "lora_target_modules", "layers_to_transform", "use_rslora", "use_dora",
        "init_lora_weights",
    }
)  # fmt: skip
"""Options that the adapter settles from which a run starts."""


class RunManifest(Manifest):
    """`run.json`; the folder is complete once `status` says so."""

    hubdpo_version: str
    status: Literal["running", "complete"]
    config: JsonObject
    dataset: DatasetRef
    base: BaseRef
    started_from: StartRef | None = None
    """The adapter that training started from; None where it started from the base alone."""
    versions: dict[str, str]
    device: str
    sharding: str | None = None
    """What was sharded over the processes: FSDP 2, ZeRO-2 or ZeRO-3; None in one process and in data parallel."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)]
    tokenization: dict[str, Count] = Field(default_factory=dict)
    """Pairs by what tokenisation did to them (`prompt_cut_by_message`, ...)."""
    planned_steps: Count | None = None
    """Total steps of the learning rate schedule; None in runs of hubdpo 0.2 and earlier."""
    changes: list[Change] = Field(default_factory=list)
    """In order; `config`, `versions` and `device` are those of the last start."""
    evaluation_sets: dict[str, EvaluationSet] = Field(default_factory=dict)
    """By name; those of the last start."""
    end_of_turn: EndOfTurn | None = None
    """None if the base's generation config already stops at it."""
    selection: Selection | None = None
    """Its place in the sweep that it belongs to; None for a run of its own."""
    stock_forward: str | None = None
    """Why the run took TRL's own forward pass, where the packed one was asked for."""
    steps: Count = 0
    chosen: ChosenStep | None = None
    """None if the adapter is that of the last step."""
    train_seconds: Number | None = None
    tokens_per_second: Number | None = None
    peak_memory_bytes: Count | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    """Last logged value of each TRL metric."""
    files: Files = Field(default_factory=dict)
    """Every file that a release takes, except card and `run.json`; empty in runs of hubdpo 0.3 and earlier."""

    @property
    def options(self) -> JsonObject:
        """The recorded options to give again: without those that the adapter settles from which the run started."""
        settled = FROM_ADAPTER if self.started_from is not None else ()
        return {name: value for name, value in self.config.items() if name not in settled}

    @property
    def rounds(self) -> list[Round]:
        """This training and those before it that are known, newest first."""
        start, base = self.started_from, self.base
        before = AdapterRef.model_validate(start.model_dump(include=set(AdapterRef.model_fields))) if start else None
        dataset = self.dataset.model_copy(update={"citation": None})
        this = Round(
            started_from=before, dataset=dataset, base=base.name, base_revision=base.revision, steps=self.steps,
            **({"losses": self.config["loss_type"]} if "loss_type" in self.config else {}),
        )  # fmt: skip
        return [this, *(start.rounds if start else ())]


def read_log(path: Path) -> list[JsonObject]:
    """Return the lines of a metrics.jsonl. Raise ValueError, naming the line, for one that is not a JSON object."""
    lines = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        try:
            line = parse_json(text, ours=True)
        except ValueError as problem:
            raise ValueError(f"line {number}: {problem}") from None
        if not isinstance(line, dict):
            raise ValueError(f"line {number}: it is not a JSON object")
        lines.append(line)
    return lines
