"""`run.json` of a run folder: options, base, dataset, versions, measurements, and whether the run is complete."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.manifests.base_memory import BaseMemory
from hubdpo.artefacts.manifests.chosen import ChosenStep, Selection
from hubdpo.artefacts.manifests.manifest import Count, Files, Manifest, Number, Part, Requirement, Sha256
from hubdpo.artefacts.manifests.tracked_run import MOST_TRACKED, TrackedRun
from hubdpo.config.objective import uses_reference


class Ref(Part):
    """What a run needs: on the Hub `repo_id` and `revision`, a commit; otherwise only the name of a folder."""

    name: str
    repo_id: str | None = None
    revision: str | None = None

    @property
    def place(self) -> str:
        """What to type for it: its repo at the commit, else the name that its folder had."""
        return f"{self.repo_id}@{self.revision}" if self.repo_id else self.name

    @property
    def label(self) -> str:
        """Its name, with the beginning of its commit."""
        return f"{self.name}@{self.revision[:12]}" if self.revision else self.name


class DatasetRef(Ref):
    """The dataset of a run."""

    fingerprint: str
    license: str | None = None
    language: list[str] = Field(default_factory=list)
    citation: str | None = None
    """BibTeX entry of the dataset card."""
    train_pairs: Count
    test_pairs: Count


class AdapterRef(Ref):
    """An adapter: a release (`version` is its tag), a repo at a commit, or a folder."""

    version: str | None = None
    sha256: Sha256
    """Hash of the adapter weights."""


class Round(Part):
    """One training of an adapter: on what data and base, and which adapter it started from, if any."""

    started_from: AdapterRef | None = None
    dataset: DatasetRef | None = None
    """The data; None where they are not known, which an adapter of another tool alone may have."""
    base: str
    base_revision: str | None = None
    losses: list[str] = Field(default_factory=lambda: ["sigmoid"])
    steps: Count | None = 0


class StartRef(AdapterRef):
    """The adapter that a run started from, and the trainings that made it."""

    license: str | None = None
    rounds: list[Round] = Field(default_factory=list)
    """Newest first, as far as they are known: that of another tool is not."""


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
    others: list[AdapterRef] = Field(default_factory=list)
    """Further adapters that were merged with it."""
    weights: list[Number] = Field(default_factory=list)


class BaseRef(Ref):
    """The base model."""

    sha256: Sha256 | None = None
    """Hash of the files of a folder that decide what it computes; None for a repo, and in hubdpo 0.4 and earlier."""
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    made_by: list[Ancestor] = Field(default_factory=list)
    """The merges that produced this base, newest first."""
    memory: BaseMemory | None = None
    """What its memory depends on; None where its weights are stored in 4 bits, and in hubdpo 0.4 and earlier."""


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


class Adopted(Part):
    """An adapter that another tool trained, of which a run folder was made: where it was, and what its files tell."""

    source: AdapterRef
    tool: str | None = None
    """The tool that trained it, as far as its files tell."""
    tool_version: str | None = None
    method: str | None = None
    """The method that the files name, such as DPO."""
    named_base: str | None = None
    """The base that its adapter_config.json names, which may be a path of the machine that trained it."""
    named_revision: str | None = None
    """The revision of the base that it names."""
    named_data: list[str] = Field(default_factory=list)
    """Names of datasets in its files, which nobody has looked up."""
    license: str | None = None
    """Licence that the adapter's own card states."""
    own_tokenizer: bool = False
    """Whether the folder's tokenizer is the adapter's own; otherwise its files are those of the base."""
    read: list[str] = Field(default_factory=list)
    """Files that told something of the training."""
    left_out: list[str] = Field(default_factory=list)
    """Files and folders that were not taken."""

    @property
    def words(self) -> str:
        """The tool with its version, as far as they are known."""
        return f"{self.tool} {self.tool_version or ''}".strip() if self.tool else "a tool that is not known"


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
    hubdpo_from: Requirement | None = None
    status: Literal["running", "complete"]
    config: JsonObject
    """Options of the run by name; of an adopted adapter those that are known."""
    dataset: DatasetRef | None = None
    """The data of the training; None where they are not known, which an adopted adapter alone may have."""
    base: BaseRef
    adopted: Adopted | None = None
    """Where another tool trained the adapter, what is known of it; None for a training of hubdpo."""
    started_from: StartRef | None = None
    """The adapter that training started from; None where it started from the base alone."""
    versions: dict[str, str]
    device: str | None = None
    sharding: str | None = None
    """What was sharded over the processes: FSDP 2, ZeRO-2 or ZeRO-3; None in one process and in data parallel."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    tokenization: dict[str, Count] = Field(default_factory=dict)
    """Pairs by what tokenisation did to them (`prompt_cut_by_message`, ...)."""
    planned_steps: Count | None = None
    """Total steps of the learning rate schedule; None in runs of hubdpo 0.2 and earlier."""
    changes: list[Change] = Field(default_factory=list)
    """What each resumption changed, in order; `config`, `versions` and `device` are those of the last start."""
    evaluation_sets: dict[str, EvaluationSet] = Field(default_factory=dict)
    """The further datasets that `--eval-dataset` names, by name; those of the last start."""
    eval_pairs: Count | None = None
    """Pairs of the test split that each evaluation during training measured; None in runs of hubdpo 0.3 and earlier."""
    end_of_turn: EndOfTurn | None = None
    """The token that ends an answer; None if the base's generation config already stops at it."""
    selection: Selection | None = None
    """Its place in the sweep that it belongs to; None for a run of its own."""
    stock_forward: str | None = None
    """Why the run used TRL's own forward pass instead of the packed one; None where it did not."""
    steps: Count | None = 0
    chosen: ChosenStep | None = None
    """The checkpoint whose adapter was taken; None if it is that of the last step."""
    train_seconds: Number | None = None
    tokens_per_second: Number | None = None
    peak_memory_bytes: Count | None = None
    tracked: Annotated[list[TrackedRun], Field(max_length=MOST_TRACKED)] = Field(default_factory=list)
    """Trackers that show the run to others."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Last logged value of each TRL metric."""
    files: Files = Field(default_factory=dict)
    """Every file that a release takes, except card and `run.json`; empty in runs of hubdpo 0.3 and earlier."""

    @model_validator(mode="before")
    @classmethod
    def _own_runs_are_whole(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("adopted") is None and "config" in values:
            for name in ("dataset", "device", "seed"):
                if values.get(name) is None:
                    raise ValueError(f"{name} is needed, unless another tool trained the adapter")
        return values

    @property
    def in_4bit(self) -> bool | None:
        """Whether the base was quantised to NF4 in training; None where it is not known."""
        value = self.config.get("load_in_4bit")
        return value if isinstance(value, bool) else None

    @property
    def dtype(self) -> str:
        """The type in which the base was computed, as `--dtype` says it."""
        return str(self.config.get("dtype", "auto"))

    @property
    def losses(self) -> list[str]:
        """The losses of the training; none where they are not known."""
        losses = self.config.get("loss_type", ["sigmoid"] if self.adopted is None else [])
        return list(map(str, losses)) if isinstance(losses, list) else []

    @property
    def is_compared(self) -> bool:
        """Whether rewards against a reference say something of the training; assumed where its losses are not known."""
        return uses_reference(self.losses)

    @property
    def beta(self) -> float | None:
        """The factor of the rewards; None where it is not known."""
        value = self.config.get("beta")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def max_length(self) -> int | None:
        """Maximum tokens of a pair in training; None where it is not known, or holds no prompt with its answer."""
        value = self.config.get("max_length")
        return value if isinstance(value, int) and value > 1 else None

    @property
    def max_prompt_length(self) -> int | None:
        """Maximum tokens of a prompt; None for half of `max_length`."""
        value = self.config.get("max_prompt_length")
        return value if isinstance(value, int) and value > 0 else None

    @property
    def template_kwargs(self) -> JsonObject | None:
        """Variables with which the chat template was rendered."""
        return self.config.get("chat_template_kwargs")

    @property
    def has_own_template(self) -> bool:
        """Whether the folder's chat template is another than that of the base."""
        return bool(self.config.get("chat_template"))

    @property
    def has_own_tokenizer(self) -> bool:
        """Whether prompts are encoded with the tokenizer of the folder: its chat template or tokens are its own."""
        return self.has_own_template or (self.adopted is not None and self.adopted.own_tokenizer)

    @property
    def is_frozen_reference(self) -> bool:
        """Whether the adapter that training started from is the reference, and not the base without it."""
        return self.started_from is not None and self.config.get("reference_adapter") != "none"

    @property
    def pairs_per_step(self) -> int | None:
        """Pairs of an optimiser step; None where it is not known."""
        names = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_processes")
        sizes = [size for name in names if isinstance(size := self.config.get(name), int)]
        return math.prod(sizes) if len(sizes) == len(names) else None

    @property
    def test_pairs(self) -> int:
        """Held-out pairs of its dataset."""
        return self.dataset.test_pairs if self.dataset is not None else 0

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
        dataset = self.dataset and self.dataset.model_copy(update={"citation": None})
        this = Round(
            started_from=before, dataset=dataset, base=base.name, base_revision=base.revision, steps=self.steps,
            losses=self.losses,
        )  # fmt: skip
        return [this, *(start.rounds if start else ())]
