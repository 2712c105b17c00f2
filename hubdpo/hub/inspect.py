"""Look at an adapter or a dataset, in a folder or on the Hub, without loading it.

Weights are known by their header alone, and Parquet files by their footers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hubdpo.cards.finding import Finding
from hubdpo.cards.hub_fields import is_id
from hubdpo.cards.lint import Beside, lint_card
from hubdpo.cards.serving import WEIGHTS, Adapter, Way, problems, ways
from hubdpo.errors import ArtefactError, HubError
from hubdpo.front_matter import fields
from hubdpo.hub.adapter_files import count_tokens
from hubdpo.hub.places import Place, find_place
from hubdpo.manifest import BUNDLE_FILE, CARD_FILE, MERGE_FILE, PREPARE_FILE, RUN_FILE, Kind

ADAPTER_CONFIG = "adapter_config.json"
MOST_FOOTERS = 200


@dataclass(frozen=True)
class Inspection:
    """What was found: facts by their names, what is wrong, and for an adapter what to type for each program."""

    ref: str
    kind: Kind
    commit: str | None
    facts: Mapping[str, Any]
    findings: list[Finding]
    ways: list[Way] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ref": self.ref,
            "kind": self.kind,
            "commit": self.commit,
            "facts": dict(self.facts),
            "findings": [asdict(finding) for finding in self.findings],
            "programs": [{**asdict(way), "works": way.works} for way in self.ways],
        }


def inspect(ref: str) -> Inspection:
    """Look at a folder or at `USER/NAME[@REVISION]`, made by hubdpo or not.

    Raise ArtefactError when it holds neither an adapter nor a dataset, ConfigError when `ref` is neither a folder nor
    USER/NAME, HubError when the Hub has no such repo or revision.
    """
    place = find_place(ref)
    if MERGE_FILE in place.files:
        return _merged(place)
    if ADAPTER_CONFIG in place.files:
        return _adapter(place)
    if place.repo_type == "dataset" or PREPARE_FILE in place.files or _parquet(place):
        return _dataset(place)
    raise ArtefactError(
        f"`{ref}` holds neither an adapter nor a dataset: no {ADAPTER_CONFIG}, no {PREPARE_FILE}, no Parquet file",
        hint="give a run folder, a dataset folder, or USER/NAME of an adapter or a dataset",
    )


def _adapter(place: Place) -> Inspection:
    config = place.read_json(ADAPTER_CONFIG)
    shapes = place.shapes(WEIGHTS) if WEIGHTS in place.files else {}
    tokens = count_tokens(place.read_json("tokenizer.json")) if "tokenizer.json" in place.files else None
    adapter = Adapter(config, shapes, place.files, place.name, place.pin, tokens=tokens)
    findings: list[Finding] = []
    vocabulary = None
    if adapter.base is not None and is_id(adapter.base):
        try:
            base = find_place(f"{adapter.base}@{adapter.base_commit}" if adapter.base_commit else adapter.base)
            vocabulary = base.read_json("config.json").get("vocab_size") if "config.json" in base.files else None
        except (HubError, ArtefactError) as problem:  # a run on a base in a folder names that alone
            findings.append(Finding("base_model_name_or_path", f"cannot be looked up: {problem.message}", problem.hint))
    adapter = Adapter(config, shapes, place.files, place.name, place.pin, tokens, vocabulary)
    found = problems(adapter)
    findings += [
        Finding(one.field, one.message + (f" (breaks {', '.join(one.breaks)})" if one.breaks else "")) for one in found
    ]
    run = place.read_json(RUN_FILE) if RUN_FILE in place.files else {}
    findings += _stopping(run)
    card, about = _card(place, "adapter")
    facts = {
        "base": adapter.base,
        "base revision": adapter.base_commit,
        "method": config.get("peft_type"),
        "task": config.get("task_type"),
        "rank": adapter.rank,
        "alpha": config.get("lora_alpha"),
        "modules": config.get("target_modules"),
        "parameters": adapter.parameters or None,
        "bytes of weights": place.files.get(WEIGHTS),
        "chat template kwargs": (run.get("config") or {}).get("chat_template_kwargs"),
        "release": _version(place),
        "licence": about.get("license"),
        "data": about.get("datasets"),
    }
    return Inspection(place.ref, "adapter", place.commit, _known(facts), findings + card, ways(adapter, found))


def _stopping(run: Mapping[str, Any]) -> list[Finding]:
    """Say where answers end at a token at which the base's generation does not stop."""
    if not isinstance(end := run.get("end_of_turn"), dict):
        return []
    where = f"`{end.get('token')}` (id {end.get('id')})"
    message = f"answers end in {where}, at which the generation of the base does not stop"
    return [
        Finding("eos_token_id", message, f"give {end.get('id')} as one of `stop_token_ids` where the base is served")
    ]


def _merged(place: Place) -> Inspection:
    made = place.read_json(MERGE_FILE)
    card, about = _card(place, "merged")
    adapter, base, check = (made.get(name) or {} for name in ("adapter", "base", "check"))
    facts = {
        "base": base.get("name"),
        "base revision": base.get("revision"),
        "adapter": adapter.get("name"),
        "adapter version": adapter.get("version"),
        "merged into": "NF4 weights, de-quantised" if made.get("dequantised") else "the original weights",
        "type": made.get("dtype"),
        "parameters": made.get("parameters"),
        "bytes of weights": sum(size for name, size in place.files.items() if name.endswith(".safetensors")),
        "largest difference from the adapter, nats": check.get("largest_difference"),
        "release": _version(place),
        "licence": about.get("license"),
        "data": about.get("datasets"),
    }
    return Inspection(place.ref, "merged", place.commit, _known(facts), card)


def _dataset(place: Place) -> Inspection:
    card, about = _card(place, "dataset")
    facts: dict[str, Any] = {"licence": about.get("license"), "languages": about.get("language")}
    findings = list(card)
    if PREPARE_FILE in place.files:
        made = place.read_json(PREPARE_FILE)
        funnel = made.get("funnel") or {}
        facts |= {
            "rows": made.get("splits"),
            "converter": made.get("converter"),
            "read": funnel.get("read"),
            "dropped": funnel.get("dropped"),
            "kept": funnel.get("kept"),
            "prompts in two splits": made.get("shared_prompts"),
            "fingerprint": made.get("fingerprint"),
            "licence": facts["licence"] or made.get("license"),
        }
    else:
        rows, columns = _rows(place, about)
        facts |= {"rows": rows, "columns": columns}
        if columns is not None and not {"chosen", "rejected"} <= set(columns):
            findings.append(
                Finding("columns", "have no `chosen` and `rejected`, so DPO cannot train on them", "hubdpo prepare")
            )
    facts |= {"bytes of Parquet": sum(place.files[name] for name in _parquet(place)), "release": _version(place)}
    if not facts["licence"]:
        findings.append(
            Finding(
                "license", "is not stated, so nobody knows what may be done with the rows", "license: ID in the card"
            )
        )
    return Inspection(place.ref, "dataset", place.commit, _known(facts), findings)


def _card(place: Place, kind: Kind) -> tuple[list[Finding], dict[str, Any]]:
    """Return what is wrong with the card, and its front matter."""
    if CARD_FILE not in place.files:
        if RUN_FILE in place.files:  # the card is written when the run is pushed
            return [], {}
        return [Finding(CARD_FILE, "is missing", "write one, or let `hubdpo push` write it")], {}
    text = place.read(CARD_FILE).decode("utf-8", "replace")
    return lint_card(text, Beside(kind, {name: place.local(name) for name in place.files})), fields(text)


def _rows(place: Place, about: Mapping[str, Any]) -> tuple[dict[str, int] | None, list[str] | None]:
    """Return rows by split and the columns, as the card tells them, or by the footers of the Parquet files."""
    info = about.get("dataset_info")
    info = info[0] if isinstance(info, list) and info else info
    if isinstance(info, dict) and isinstance(info.get("splits"), list) and isinstance(info.get("features"), list):
        rows = {str(split.get("name")): int(split.get("num_examples") or 0) for split in info["splits"]}
        return rows, [str(feature.get("name")) for feature in info["features"]]
    import pyarrow.parquet as pq

    names = _parquet(place)
    if not names or len(names) > MOST_FOOTERS:
        return None, None
    rows, columns = {}, None
    for name in names:
        with place.open(name) as stream:
            footer = pq.ParquetFile(stream)
            split = next((word for word in ("train", "test", "validation") if word in name.rpartition("/")[2]), name)
            rows[split] = rows.get(split, 0) + footer.metadata.num_rows
            columns = list(footer.schema_arrow.names)
    return rows, columns


def _version(place: Place) -> str | None:
    if BUNDLE_FILE not in place.files:
        return None
    try:
        return f"v{json.loads(place.read(BUNDLE_FILE))['version']}"
    except (ValueError, KeyError, TypeError):
        return None


def _parquet(place: Place) -> list[str]:
    return sorted(name for name in place.files if name.endswith(".parquet"))


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, {}, [])}
