"""The dataset card: what the source's card says of provenance, and what prepare measured."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jinja2
import yaml

from hubdpo.artefacts.formats.kept_sections import LOAD_HERE
from hubdpo.artefacts.manifests.funnel import KINDS
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.cards.commands import OWN_CARD, prepare_command
from hubdpo.cards.dataset.source_card import SourceCard, provenance, shipped_files
from hubdpo.cards.dataset.tables import statistics_table, tokens_table
from hubdpo.cards.fences import fence, one_line, shortened, visible, wrapped
from hubdpo.cards.licences import SHARE_ALIKE
from hubdpo.cards.lint.hub_fields import size_category

LONGEST_MESSAGE = 600
MOST_MESSAGES = 6
TAKEN_OVER = ("pretty_name", "source_datasets", "license_name", "license_link")
"""Fields of a source's card that go into the dataset's as they are."""


class Example(Protocol):
    """What a sample must have: three lists of `{role, content}`."""

    prompt: list[dict[str, str]]
    chosen: list[dict[str, str]]
    rejected: list[dict[str, str]]


def render_dataset_card(
    manifest: PrepareManifest,
    *,
    card: SourceCard,
    samples: Sequence[Example],
    split_bytes: Mapping[str, int],
    keep: Sequence[str] = (),
    plots: Sequence[str] = (),
) -> str:
    """Write the card of a dataset folder. Numbers come from the manifest; rows stand in fences they cannot leave."""
    title = manifest.config.get("name") or card.facts.get("pretty_name") or _title(card)
    names = shipped_files() if manifest.config.get("card") else []
    command = prepare_command(manifest, shipped_cards={p.stem: p.read_text(encoding="utf-8") for p in names})
    body, _, citation = provenance(manifest, card).partition("\n## Citation\n")
    text = template().render(
        title=one_line(str(title)), m=manifest, body=body.strip(), citation=citation.strip(), facts=card.facts,
        languages=", ".join(manifest.language), statistics=statistics_table(manifest), tokens=tokens_table(manifest),
        samples=[fence(_sample(sample)) for sample in samples], command=command, own_card=OWN_CARD in command,
        in_memory=any(source.in_memory for source in manifest.sources),
        keep=[one_line(name) for name in keep], unused=_named(manifest.unused_columns),
        markers=[
            (
                f"{side} hold {KINDS[kind]}", found.rows,
                [(visible(name).replace("`", " "), count) for name, count in found.markers.items()],
            )
            for kind, sides in {"template": manifest.template_markers, **manifest.text_markers}.items()
            for side, found in sides.items()
        ],
        sources=[(one_line(s.name), s) for s in manifest.sources], plots=plots,
        share_alike=bool(manifest.license and SHARE_ALIKE.search(manifest.license)), longest=LONGEST_MESSAGE,
        load_here=LOAD_HERE,
    )  # fmt: skip
    front = yaml.safe_dump(_front_matter(manifest, card, title, split_bytes, keep), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{text}"


def _title(card: SourceCard) -> str:
    ids = card.facts.get("source_datasets") or []
    return f"Preference pairs of {ids[0]}" if len(ids) == 1 else "Preference pairs"


@functools.cache
def template() -> jinja2.Template:
    """Return the card's template; compiled at the first call, which `prepare` makes while others work."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hubdpo.cards"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip  # Markdown, whose only untrusted text stands in fences
    environment.filters["thousands"] = "{:,}".format
    return environment.get_template("dataset.md")


def _front_matter(
    manifest: PrepareManifest, card: SourceCard, title: Any, split_bytes: Mapping[str, int], keep: Sequence[str]
) -> dict[str, Any]:
    # a new list for each column: YAML would write a shared one as an alias, which `datasets` cannot read
    features: list[dict[str, Any]] = [
        {"name": column, "list": [{"name": part, "dtype": "string"} for part in ("role", "content")]}
        for column in ("prompt", "chosen", "rejected")
    ]
    features += [{"name": name, "dtype": "string"} for name in keep]
    front: dict[str, Any] = {"pretty_name": one_line(str(title))}
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


def _named(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names as code: with their brackets, and without what would end the code or the row of a table."""
    return [(visible(name).replace("`", " ").replace("|", " ").strip() or "(no name)", n) for name, n in counts.items()]


def _sample(sample: Example) -> str:
    prompt = [(message["role"], message) for message in sample.prompt]
    if len(prompt) > MOST_MESSAGES:
        left_out = {"content": f"{len(prompt) - MOST_MESSAGES} messages are left out here"}
        prompt = [*prompt[:1], ("…", left_out), *prompt[1 - MOST_MESSAGES :]]
    parts = [*prompt, *(("chosen", one) for one in sample.chosen), *(("rejected", one) for one in sample.rejected)]
    return wrapped("\n".join(f"[{role}] {shortened(one['content'], LONGEST_MESSAGE)}" for role, one in parts))
