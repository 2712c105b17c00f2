"""Write the dataset card: provenance from the source's card, numbers from prepare's manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.formats.kept_sections import LOAD_HERE
from hubdpo.artefacts.manifests.prepare import EXTRAS, KINDS, PrepareManifest, split_in_memory
from hubdpo.cards.commands import OWN_CARD, config_file, prepare_command
from hubdpo.cards.dataset.source_card import SourceCard, provenance, shipped_files
from hubdpo.cards.fences import code_names, fence, one_line, wrapped
from hubdpo.cards.licences import SHARE_ALIKE
from hubdpo.cards.lint.fields import size_category
from hubdpo.cards.render import Front, render
from hubdpo.cards.results import percent

LONGEST_MESSAGE = 600
"""Characters of a message that a sample shows."""
MOST_MESSAGES = 6
"""Messages of a prompt that a sample shows."""
MOST_NAMED = 2
"""Sources that a title names one by one."""
SIDES = ("prompt", "chosen", "rejected")
TAKEN_OVER = ("pretty_name", "source_datasets", "license_name", "license_link")
"""Fields of the source's card that are copied to the dataset's card."""


class Example(Protocol):
    """A preference pair: three lists of `{role, content}`, and the JSON of the tools."""

    prompt: list[dict[str, str]]
    chosen: list[dict[str, str]]
    rejected: list[dict[str, str]]
    tools: str


def render_dataset_card(
    manifest: PrepareManifest,
    *,
    card: SourceCard,
    samples: Sequence[Example],
    split_bytes: Mapping[str, int],
    plots: Sequence[str] = (),
    passed_over: Mapping[str, int] | None = None,
) -> str:
    """Return the card of a dataset folder. Samples are untrusted text, so they are fenced.

    `passed_over` counts the pairs that were drawn for a sample and are not shown, by reason."""
    title = str(manifest.config.get("name") or card.facts.get("pretty_name") or _title(manifest, card))
    shipped = shipped_files() if manifest.config.get("card") else []
    command = prepare_command(manifest, shipped_cards={p.stem: p.read_text(encoding="utf-8") for p in shipped})
    in_memory = [split_in_memory(source.name) for source in manifest.sources]
    body, _, citation = provenance(manifest, card).partition("\n## Citation\n")
    return render(
        "dataset.md", _front_matter(manifest, card, title, split_bytes),
        title=one_line(title), m=manifest, body=body.strip(), citation=citation.strip(), facts=card.facts,
        languages=", ".join(manifest.language), statistics=_table(manifest, "", _statistics(manifest)),
        tokens=_tokens_table(manifest), tools="tools" in manifest.extras,
        extras=[
            f"{count:,} {'has' if count == 1 else 'have'} {EXTRAS[kind]}"
            for kind, count in manifest.extras.items() if kind in EXTRAS
        ],
        samples=[fence(_sample(sample)) for sample in samples], passed_over=list((passed_over or {}).items()),
        command=command, own_card=OWN_CARD in command,
        config_file=fence(text.rstrip(), "yaml") if (text := config_file(manifest)) else "",
        in_memory=[one_line(split) for split in in_memory if split is not None],
        columns=[(one_line(name), meaning) for name, meaning in manifest.columns.items()],
        unused=code_names(manifest.unused_columns),
        markers=[
            (f"{side} contain {KINDS[kind]}", marked.rows, code_names(marked.markers))
            for kind, sides in {"template": manifest.template_markers, **manifest.text_markers}.items()
            for side, marked in sides.items()
        ],
        sources=[(one_line(s.name), s) for s in manifest.sources], plots=plots,
        share_alike=bool(manifest.license and SHARE_ALIKE.search(manifest.license)), longest=LONGEST_MESSAGE,
        load_here=LOAD_HERE,
    )  # fmt: skip


def _title(manifest: PrepareManifest, card: SourceCard) -> str:
    """Return a title that names the Hub datasets or else the files of the source; rows in memory have no name."""
    ids = card.facts.get("source_datasets") or []
    files = [s.name.rpartition("/")[2] for s in manifest.sources if split_in_memory(s.name) is None]
    names = list(dict.fromkeys(map(str, ids or files)))
    if len(names) > MOST_NAMED:
        return f"Preference pairs of {names[0]} and {len(names) - 1} other {'datasets' if ids else 'files'}"
    return f"Preference pairs of {' and '.join(names)}" if names else "Preference pairs"


def _front_matter(manifest: PrepareManifest, card: SourceCard, title: str, split_bytes: Mapping[str, int]) -> Front:
    # a new list for each column: YAML would write a shared list as an alias, which `datasets` cannot read
    features: list[Front] = [
        {
            "name": column,
            "list": "json" if manifest.extras else [{"name": part, "dtype": "string"} for part in ("role", "content")],
        }
        for column in SIDES
    ]
    features += [{"name": "tools", "list": "json"}] if "tools" in manifest.extras else []
    features += [{"name": name, "dtype": "string"} for name in manifest.columns]
    front: Front = {"pretty_name": one_line(title)}
    if manifest.language:
        front["language"] = manifest.language
    if manifest.license:
        front["license"] = manifest.license
        if manifest.license == "other":
            front |= {key: card.facts[key] for key in ("license_name", "license_link") if card.facts.get(key)}
    front["task_categories"] = ["text-generation"]
    front["size_categories"] = [size_category(manifest.funnel.kept)]
    if card.facts.get("source_datasets"):
        front["source_datasets"] = list(card.facts["source_datasets"])
    front["tags"] = ["preference", "dpo", "rlhf", "trl", "hubdpo"]
    front["configs"] = [
        {
            "config_name": "default",
            "default": True,
            "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in manifest.splits],
        }
    ]
    front["dataset_info"] = {
        "config_name": "default",
        "features": features,
        "splits": [
            {"name": split, "num_bytes": split_bytes[split], "num_examples": pairs}
            for split, pairs in manifest.splits.items()
        ],
        "download_size": sum(entry.size for entry in manifest.files.values()),
        "dataset_size": sum(split_bytes.values()),
    }
    return front


def _said(message: Mapping[str, str]) -> str:
    """Return the text of a message, and its other members as JSON."""
    return " ".join(text for text in (message["content"], message.get("extra", "")) if text)


def _sample(sample: Example) -> str:
    prompt = [(message["role"], message) for message in sample.prompt]
    if len(prompt) > MOST_MESSAGES:
        omitted = {"content": f"{len(prompt) - MOST_MESSAGES} messages omitted"}
        prompt = [*prompt[:1], ("…", omitted), *prompt[1 - MOST_MESSAGES :]]
    if sample.tools:
        prompt.insert(0, ("tools", {"content": sample.tools}))
    answers = [
        (side if message["role"] == "assistant" else f"{side}, {message['role']}", message)
        for side in ("chosen", "rejected")
        for message in getattr(sample, side)
    ]
    return wrapped("\n".join(f"[{role}] {shortened(_said(m), LONGEST_MESSAGE)}" for role, m in [*prompt, *answers]))


def _tokens_table(manifest: PrepareManifest) -> str:
    """Return a Markdown table of lengths in tokens; "" if tokens were not counted."""
    splits = list(manifest.statistics.values())
    if any("tokens" not in facts for facts in splits):
        return ""
    rows = [
        ["prompt and longer answer" if side == "pair" else side]
        + [" / ".join(f"{facts['tokens'][side][part]:,}" for part in ("p50", "p95", "p99", "max")) for facts in splits]
        for side in (*SIDES, "pair")
    ]
    return _table(manifest, "tokens ¹ (p50 / p95 / p99 / max)", rows)


def _statistics(manifest: PrepareManifest) -> Iterator[list[str]]:
    splits = list(manifest.statistics.values())
    yield ["pairs", *(f"{facts['pairs']:,}" for facts in splits)]
    yield ["distinct prompts", *(f"{facts['distinct_prompts']:,}" for facts in splits)]
    messages = [facts["prompt_messages"] for facts in splits]
    yield [
        "messages in a prompt (min / median / max)",
        *(f"{spread['min']} / {spread['median']} / {spread['max']}" for spread in messages),
    ]
    for side in SIDES:
        lengths = [facts["characters"][side] for facts in splits]
        yield [
            f"characters of {side} (p50 / p95 / max)",
            *(f"{spread['p50']:,} / {spread['p95']:,} / {spread['max']:,}" for spread in lengths),
        ]
    yield ["chosen is the longer answer", *(percent(facts["chosen_is_longer"]) for facts in splits)]


def _table(manifest: PrepareManifest, corner: str, rows: Iterable[list[str]]) -> str:
    heads = [corner, *manifest.statistics]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * len(manifest.statistics)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
