"""Inspect an adapter, a merged model or a dataset, in a folder or on the Hub, without loading it.

Of weights the header is read, and of Parquet files the footers: rows, columns, and whether DPO can train on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG
from hubdpo.artefacts.formats.bounded import parse_object, shortened
from hubdpo.artefacts.formats.front_matter import fields
from hubdpo.artefacts.formats.parquet_footers import read_footer, wrong_column
from hubdpo.artefacts.manifests.bundle import Bundle, Kind
from hubdpo.artefacts.manifests.manifest import (
    BUNDLE_FILE,
    CARD_FILE,
    MERGE_FILE,
    PREPARE_FILE,
    RUN_FILE,
    Manifest,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.lint.adapter_fields import readable_fields
from hubdpo.cards.lint.data import column_names, split_rows
from hubdpo.cards.lint.finding import Finding
from hubdpo.cards.lint.lint import lint_card
from hubdpo.cards.model.programs import Program, programs
from hubdpo.cards.model.serving import WEIGHTS, Adapter, problems
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError, ConfigError, HubError
from hubdpo.hub.failures import translate_errors
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import RepoRef
from hubdpo.hub.snapshot import Snapshot
from hubdpo.model.tokenizer.load import count_tokens

MOST_WORDS, LONGEST_NAME = 100, 200
MOST_FOOTERS = 200
MOST_WHERE_KNOWN = 20
"""Footers to read of a repo whose card states its rows: each footer takes two requests."""
M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True)
class Inspection:
    """Facts by name, what is wrong, and for an adapter the code that runs it in each program."""

    ref: str
    kind: Kind
    commit: str | None
    facts: Mapping[str, Any]
    findings: list[Finding]
    ways: list[Program] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ref": self.ref,
            "kind": self.kind,
            "commit": self.commit,
            "facts": dict(self.facts),
            "findings": [asdict(finding) for finding in self.findings],
            "programs": [{**asdict(way), "works": way.works, "ran": way.ran} for way in self.ways],
        }


def inspect(ref: str) -> Inspection:
    """Inspect a folder or `USER/NAME[@REVISION]`, made by hubdpo or not.

    Raise ArtefactError when it holds no adapter, merged model or dataset, ConfigError when `ref` is neither a folder
    nor USER/NAME, HubError when the Hub has no such repo or revision.
    """
    snapshot = open_snapshot(ref)
    if MERGE_FILE in snapshot.files:
        return _merged(snapshot)
    if ADAPTER_CONFIG in snapshot.files:
        return _adapter(snapshot)
    if snapshot.repo_type == "dataset" or PREPARE_FILE in snapshot.files or parquet_files(snapshot):
        return _dataset(snapshot)
    raise ArtefactError(
        f"`{ref}` holds no adapter, merged model or dataset: no {ADAPTER_CONFIG}, {MERGE_FILE}, {PREPARE_FILE} or "
        "Parquet file",
        hint="give the folder of a run, a merged model or a dataset, or USER/NAME of one",
    )


def _adapter(snapshot: Snapshot) -> Inspection:
    config, findings = readable_fields(_object(snapshot, ADAPTER_CONFIG))
    shapes = snapshot.shapes(WEIGHTS) if WEIGHTS in snapshot.files else {}
    tokens = count_tokens(_object(snapshot, "tokenizer.json")) if "tokenizer.json" in snapshot.files else None
    adapter = Adapter(config, shapes, snapshot.files, snapshot.name, snapshot.revision, tokens=tokens)
    vocabulary = None
    if adapter.base is not None and is_repo_id(adapter.base, owner_required=False):
        try:
            named = RepoRef(adapter.base, adapter.base_commit)
            base = open_snapshot(str(named), repo_type="model")
            vocabulary = _object(base, "config.json").get("vocab_size") if "config.json" in base.files else None
        except (ConfigError, HubError, ArtefactError) as problem:  # a run on a base in a folder names that alone
            findings.append(Finding("base_model_name_or_path", f"cannot be looked up: {problem.message}", problem.hint))
    vocabulary = vocabulary if isinstance(vocabulary, int) else None
    run = _manifest(snapshot, RUN_FILE, RunManifest, findings)
    own = run is not None and run.has_own_template
    adapter = replace(adapter, vocabulary=vocabulary, own_template=own)
    found = problems(adapter)
    findings += [
        Finding(one.field, one.message + (f" (breaks {', '.join(one.breaks)})" if one.breaks else "")) for one in found
    ]
    if run is not None and (end := run.end_of_turn) is not None:
        message = f"answers end in `{end.token}` (id {end.id}), at which the generation of the base does not stop"
        hint = f"give {end.id} as one of `stop_token_ids` where the base is served"
        findings.append(Finding("eos_token_id", message, hint))
    card, about = _card(snapshot, "adapter")
    facts = {
        "base": adapter.base,
        "base revision": adapter.base_commit,
        "method": config.get("peft_type"),
        "task": config.get("task_type"),
        "rank": adapter.rank,
        "alpha": config.get("lora_alpha"),
        "modules": config.get("target_modules"),
        "parameters": adapter.parameters or None,
        "bytes of weights": snapshot.files.get(WEIGHTS),
        **_origin(run),
        "chat template": run.config.get("chat_template") if run else None,
        "chat template kwargs": run.template_kwargs if run else None,
        **_release(snapshot, about, findings),
    }
    return Inspection(
        snapshot.ref, "adapter", snapshot.commit, _known(facts), findings + card, programs(adapter, found)
    )


def _origin(run: RunManifest | None) -> dict[str, Any]:
    """Return which other tool trained an adapter, or what it was trained on from and the data of each round."""
    if run is None:
        return {}
    data = [one.dataset.label if one.dataset is not None else "not known" for one in run.rounds]
    if (adopted := run.adopted) is not None:
        return {"trained by": adopted.words, "adopted from": adopted.source.place, "data": data[0]}
    if (start := run.started_from) is None:
        return {}
    at = start.version or (start.revision or start.sha256)[:12]
    return {"started from": f"{start.name}@{at}", "data of its rounds": data}


def _merged(snapshot: Snapshot) -> Inspection:
    findings: list[Finding] = []
    manifest = _manifest(snapshot, MERGE_FILE, MergeManifest, findings)
    card, about = _card(snapshot, "merged")
    facts: dict[str, Any] = {}
    if manifest is not None:
        nats = f"largest difference from the adapter{'s' if len(manifest.parts) > 1 else ''}, nats"
        facts = {
            "base": manifest.base.name,
            "base revision": manifest.base.revision,
            **_adapters(manifest),
            "merged into": "NF4 weights, de-quantised" if manifest.dequantised else "the original weights",
            "type": manifest.dtype,
            "parameters": manifest.parameters,
            nats: manifest.check.largest_difference,
        }
    facts |= {
        "bytes of weights": sum(size for name, size in snapshot.files.items() if name.endswith(".safetensors")),
        **_release(snapshot, about, findings),
    }
    return Inspection(snapshot.ref, "merged", snapshot.commit, _known(facts), findings + card)


def _adapters(manifest: MergeManifest) -> dict[str, Any]:
    """Return the adapters of a merge, and what they weigh where there are several."""
    found: dict[str, Any] = {}
    for number, part in enumerate(manifest.parts, start=1):
        word = "adapter" if number == 1 else f"adapter {number}"
        found |= {word: part.adapter.name, f"{word} version": part.adapter.version}
        found |= {f"{word} weighs": part.weight} if len(manifest.parts) > 1 else {}
    if len(manifest.parts) > 1:
        found["combined by"] = manifest.config.get("combination_type")
    return found


def _dataset(snapshot: Snapshot) -> Inspection:
    card, about = _card(snapshot, "dataset")
    facts: dict[str, Any] = {"licence": _words(about.get("license")), "languages": _words(about.get("language"))}
    findings = list(card)
    if (manifest := _manifest(snapshot, PREPARE_FILE, PrepareManifest, findings)) is not None:
        facts |= {
            "rows": manifest.splits,
            "converter": manifest.converter,
            "read": manifest.funnel.read,
            "dropped": manifest.funnel.dropped,
            "kept": manifest.funnel.kept,
            "prompts in two splits": manifest.shared_prompts,
            "fingerprint": manifest.fingerprint,
            "licence": facts["licence"] or manifest.license,
        }
    rows, columns = _stated_rows(about)
    footers = read_footers(snapshot, about, known=rows is not None or "rows" in facts)
    # a broken file is one problem, though its rows cannot be compared with the card either
    broken = [f"`{one.field}` is not" for one in footers.findings]
    findings = [one for one in findings if not any(words in one.message for words in broken)] + footers.findings
    if PREPARE_FILE not in snapshot.files:
        columns = columns or footers.columns
        facts |= {"rows": rows or footers.rows, "columns": columns}
        if columns is not None and not footers.findings and not {"chosen", "rejected"} <= set(columns):
            message = "have no `chosen` and `rejected`, so DPO cannot train on them"
            findings.append(Finding("columns", message, "hubdpo prepare"))
    facts |= {
        "bytes of Parquet": sum(snapshot.files[name] for name in parquet_files(snapshot)),
        "Parquet files looked at": footers.share,
        "release": _version(snapshot, findings),
    }
    if not facts["licence"]:
        message = "is not stated, so nobody knows what may be done with the rows"
        findings.append(Finding("license", message, "license: ID in the card"))
    return Inspection(snapshot.ref, "dataset", snapshot.commit, _known(facts), findings)


def _object(snapshot: Snapshot, name: str) -> dict[str, Any]:
    return parse_object(snapshot.read(name), name, of=snapshot.ref)


def _manifest(snapshot: Snapshot, name: str, model: type[M], findings: list[Finding]) -> M | None:
    """Return a manifest, or None: with a finding when it is invalid, without when there is none."""
    try:
        return snapshot.manifest(name, model)
    except ArtefactError as problem:
        findings.append(Finding(name, problem.message.removeprefix(f"`{name}` "), problem.hint))
        return None


def _card(snapshot: Snapshot, kind: Kind) -> tuple[list[Finding], dict[str, Any]]:
    """Return the findings about the card, and its front matter."""
    if CARD_FILE not in snapshot.files:
        if RUN_FILE in snapshot.files:  # the card is written when the run is pushed
            return [], {}
        return [Finding(CARD_FILE, "is missing", "write one, or let `hubdpo push` write it")], {}
    try:
        text = snapshot.read(CARD_FILE).decode("utf-8", "replace")
    except ArtefactError as problem:
        return [Finding(CARD_FILE, problem.message.removeprefix(f"`{CARD_FILE}` "), problem.hint)], {}
    return lint_card(text, kind, {name: snapshot.path(name) for name in snapshot.files}), fields(text)


def _stated_rows(about: Mapping[str, Any]) -> tuple[dict[str, int] | None, list[str] | None]:
    """Return rows by split, and columns, as the card states them of its first configuration; None where it does not."""
    several = about.get("dataset_info")
    info: Any = several[0] if isinstance(several, list) and several else several
    try:
        rows = split_rows(info)
    except ValueError:  # malformed: the footers tell, as of a card that states nothing
        return None, None
    if rows is None or not (columns := column_names(info)):
        return None, None
    names = [shortened(name, LONGEST_NAME) for name in columns]
    return {shortened(split, LONGEST_NAME): count for split, count in rows.items()}, names


def _release(snapshot: Snapshot, about: Mapping[str, Any], findings: list[Finding]) -> dict[str, Any]:
    """Return the facts that an adapter and a merged model share; `about` is the card's front matter."""
    words = {"licence": _words(about.get("license")), "data": _words(about.get("datasets"))}
    return {"release": _version(snapshot, findings), **words}


def _version(snapshot: Snapshot, findings: list[Finding]) -> str | None:
    bundle = _manifest(snapshot, BUNDLE_FILE, Bundle, findings)
    return f"v{bundle.version}" if bundle is not None else None


def _words(value: object) -> str | list[str] | None:
    """Return a field of a card that is a word or a list of words. None for anything else, which the linter reports."""
    items: list[object] = value if isinstance(value, list) else [value]
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        return None
    words = [shortened(text, LONGEST_NAME) for text in texts[:MOST_WORDS]]
    return words if isinstance(value, list) else words[0]


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, {}, [])}


@dataclass
class Footers:
    """Rows and columns by the footers, both None unless all footers were read."""

    rows: dict[str, int] | None = None
    columns: list[str] | None = None
    share: str | None = None
    findings: list[Finding] = field(default_factory=list)


def read_footers(snapshot: Snapshot, about: Mapping[str, Any], *, known: bool) -> Footers:
    """Read footers and report what is wrong. `about` is the card's front matter, `known` whether it states the rows."""
    parquet = parquet_files(snapshot)
    names = parquet[: MOST_WHERE_KNOWN if known and snapshot.repo_type is not None else MOST_FOOTERS]
    prepared = PREPARE_FILE in snapshot.files
    rows: dict[str, int] = {}
    columns: list[str] | None = None
    wrong: dict[str, str] = {}
    footers = Footers(share=f"{len(names):,} of {len(parquet):,}" if parquet else None)
    for number, name in enumerate(names):
        try:
            with translate_errors(snapshot.ref), snapshot.open(name) as stream:
                count, schema, _ = read_footer(stream, name, hint="tell its owner, or write it again")
        except ArtefactError as problem:
            footers.findings.append(Finding(name, problem.message.removeprefix(f"`{name}` "), problem.hint))
            continue
        except HubError as problem:  # a cached repo can be inspected without a network
            footers.findings.append(Finding(name, f"cannot be read: {problem.message}", problem.hint))
            footers.share = f"{number:,} of {len(parquet):,}"
            break
        split = next((word for word in ("train", "test", "validation") if word in name.rpartition("/")[2]), name)
        rows[split] = rows.get(split, 0) + count
        columns = [shortened(column, LONGEST_NAME) for column in schema.names]
        if (reason := wrong_column(schema, prepared=prepared)) is not None:
            wrong[name] = reason
    if not footers.findings and len(names) == len(parquet):
        footers.rows, footers.columns = rows or None, columns
    configs = about.get("configs")
    several = isinstance(configs, list) and len(configs) > 1  # one of several configurations may hold the pairs
    if wrong and (prepared or not several or len(wrong) == len(names)):
        name, reason = next(iter(wrong.items()))
        message = f"of `{shortened(name, LONGEST_NAME)}` cannot be trained on: {reason}"
        footers.findings.append(Finding("columns", message, "hubdpo prepare"))
    return footers


def parquet_files(snapshot: Snapshot) -> list[str]:
    return sorted(name for name in snapshot.files if name.endswith(".parquet"))
