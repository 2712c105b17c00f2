"""What the stages leave for each other: small JSON files, written last, that say what a folder holds.

A dataset folder is complete when it has `prepare.json`; a run folder when its `run.json` says `complete`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from hubdpo.bounded import check_size, parse_json, read_bytes, shortened
from hubdpo.errors import ArtefactError
from hubdpo.file_entries import FileEntry, FileNames, Files, bytes_entry
from hubdpo.funnel import Funnel, Markers, Source
from hubdpo.ranking import READ, Accuracy, Count, Number, Share, Stratum
from hubdpo.sections import loading_here, split_card

PREPARE_FILE = "prepare.json"
RUN_FILE = "run.json"
EVAL_FILE = "eval.json"
PROBES_FILE = "probes.json"
METRICS_FILE = "metrics.jsonl"
RELEASE_FILE = "release.json"
REJECTED_FILE = "rejected.jsonl"
BUNDLE_FILE = "hubdpo.json"
MERGE_FILE = "merge.json"
CARD_FILE = "README.md"
LOCAL_FILE = "local.json"

Kind = Literal["dataset", "adapter", "merged"]
"""What a release holds."""

LOCAL_ONLY = (REJECTED_FILE, RELEASE_FILE, LOCAL_FILE)
"""Files of a dataset or run folder that never leave the machine; checkpoints are the third kind."""


LONGEST_TEXT = 10_000
"""Characters of a name, a licence, a citation or another fact in a manifest; the texts of samples and rows apart."""


class Part(BaseModel):
    """A part of a manifest, whose texts are short: a repo's manifest is somebody else's."""

    model_config = ConfigDict(str_max_length=LONGEST_TEXT, protected_namespaces=())


def card_entry(text: str) -> FileEntry:
    """Describe a card by what was generated of it, so that what people and releases write in it may change."""
    return bytes_entry(loading_here(split_card(text).generated).encode())


def canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with scratch.open("xb") as stream:  # with the rights that the umask leaves
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


class Manifest(BaseModel):
    """Base of the files: versioned, refusing unknown fields, read with an error that names the file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), str_max_length=LONGEST_TEXT)

    schema_version: Literal[1] = 1

    def write(self, path: Path) -> None:
        write_atomic(path, canonical_json(self.model_dump(mode="json")))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raise ArtefactError when the file is missing, is not JSON or does not have the fields of this version."""
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            folder = path.parent
            state = f"has no {path.name}, so it is not complete" if folder.is_dir() else "is not there"
            raise ArtefactError(f"`{folder}` {state}", hint="check the path, or make the folder again") from None
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Self:
        """Read a manifest from its bytes. Raise ArtefactError, naming the file, field and limit; `name` may be long."""
        check_size(name, len(data))
        try:
            return cls.model_validate(parse_json(data, ours=True), context=READ)
        except ValidationError as problem:
            first = problem.errors()[0]
            where = shortened(".".join(str(part) for part in first["loc"]), 100) or "the file"
            told = f"{where}: {shortened(first['msg'], 300)}"
        except ValueError as problem:
            told = str(problem)
        raise ArtefactError(f"`{name}` cannot be read: {told}", hint="make the folder again with the stage's command")


class PrepareManifest(Manifest):
    hubdpo_version: str
    converter: str
    """Name of the converter; of several, all of them, with a comma between two."""
    detected: bool
    sources: list[Source]
    config: dict[str, Any]
    funnel: Funnel
    changed: dict[str, Count] = Field(default_factory=dict)
    """Rows kept but altered, by what was done (for example `stripped_leading_whitespace`)."""
    repaired: dict[str, Count] = Field(default_factory=dict)
    """Rows that had to be put right to be read at all, kept or not, by what was done (for example `nan_as_null`)."""
    unused_columns: dict[str, Count] = Field(default_factory=dict)
    """Rows that have a value in a column of the source that was not used, by the column."""
    template_markers: dict[str, Markers] = Field(default_factory=dict)
    text_markers: dict[str, dict[str, Markers]] = Field(default_factory=dict)
    """Of `prompts` and `answers`, those that hold marks of a chat template, and of the other KINDS in texts."""
    secrets: dict[str, Count] = Field(default_factory=dict)
    """Credentials that were found, by kind."""
    max_length: Count | None = None
    """Most tokens of a pair, counted with the tokenizer of `config.model`."""
    splits: dict[str, Count]
    published_split: bool = False
    """Whether rows stayed in the split that their source was published in; else a hash of the prompt decided."""
    shared_prompts: Count = 0
    """Prompts that are in more than one split: 0, or prepare would have stopped."""
    statistics: dict[str, Any] = Field(default_factory=dict)
    license: str | None = None
    language: list[str] = Field(default_factory=list)
    files: Files = Field(default_factory=dict)
    """Every published file but this one, by its path in the folder; the card as it was generated, see `card_entry`."""
    fingerprint: str
    """Of sources, converter and config: equal fingerprints mean byte-equal folders."""


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


class Sample(BaseModel):
    """A prompt that hubdpo asks of every adapter, with the greedy answers of base and adapter."""

    prompt: str
    base: str
    adapter: str


class EvalReport(Manifest):
    split: str
    pairs: Count
    reward_accuracy: Accuracy
    """DPO implicit reward (arXiv 2305.18290, eq. 5) of chosen above rejected."""
    reward_margin: Number
    base_accuracy: Accuracy
    """Length-normalised log-likelihood of chosen above rejected, under the base."""
    adapter_accuracy: Accuracy
    """The same under the adapter."""
    longer_answer_accuracy: Accuracy
    """The trivial baseline: pick the answer with more tokens."""
    base_margin: Number
    """Mean difference of length-normalised log-probability, chosen less rejected, nats per token, under the base."""
    adapter_margin: Number
    base_summed_accuracy: Accuracy | None = None
    """Log-likelihood of the whole answer, not divided by its length, of chosen above rejected, under the base."""
    adapter_summed_accuracy: Accuracy | None = None
    only_adapter_right: Count | None = None
    """Pairs that the adapter ranks right and the base wrong, length-normalised."""
    only_base_right: Count | None = None
    mcnemar_p: Share | None = None
    """Exact McNemar test of base and adapter on the same pairs, two-sided."""
    chosen_longer: Stratum | None = None
    """Pairs whose chosen answer has more tokens; None when there is none."""
    chosen_shorter: Stratum | None = None
    samples: list[Sample] = Field(default_factory=list)

    def balanced(self, who: Literal["base", "adapter"]) -> Accuracy | None:
        """Return the accuracy with longer and shorter chosen answers counting alike: 50 % for picking the longer one.

        None when the pairs are of one kind.
        """
        if self.chosen_longer is None or self.chosen_shorter is None:
            return None
        return Accuracy.mean(getattr(self.chosen_longer, who), getattr(self.chosen_shorter, who))


class Probe(BaseModel):
    """An answer of our own to a question of our own, its tokens, and the log-probability of each of them in nats."""

    prompt: str
    answer: str
    prompt_ids: list[Count]
    answer_ids: list[Count]
    log_probs: list[Number] = Field(default_factory=list)


class Probes(Manifest):
    """`probes.json` of a run: what the trained adapter gave, and on what it was computed."""

    environment: dict[str, str]
    probes: list[Probe]
    chat_template_kwargs: dict[str, Any] | None = None
    """With which the chat template wrote them."""


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
