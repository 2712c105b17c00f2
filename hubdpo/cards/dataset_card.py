"""The dataset card: what the source's card says of provenance, and what prepare measured."""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jinja2
import yaml

from hubdpo.cards.commands import OWN_CARD, prepare_command
from hubdpo.cards.dataset_tables import statistics_table, tokens_table
from hubdpo.cards.fences import fence, one_line, shortened, wrapped
from hubdpo.cards.hub_fields import size_category
from hubdpo.cards.licences import SHARE_ALIKE
from hubdpo.errors import ConfigError
from hubdpo.manifest import PrepareManifest

LONGEST_MESSAGE = 600
MOST_MESSAGES = 6
TAKEN_OVER = ("pretty_name", "source_datasets", "license_name", "license_link")
"""Fields of a source's card that go into the dataset's as they are."""
FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n?(.*)\Z", re.DOTALL)


class Example(Protocol):
    """What a sample must have: three lists of `{role, content}`."""

    prompt: list[dict[str, str]]
    chosen: list[dict[str, str]]
    rejected: list[dict[str, str]]


@dataclass(frozen=True)
class SourceCard:
    """A hand-written card of a source: facts in the front matter, provenance and bias in the body."""

    facts: Mapping[str, Any]
    body: str

    @property
    def license(self) -> str | None:
        value = self.facts.get("license")
        return str(value) if value else None

    @property
    def language(self) -> list[str]:
        return [str(code) for code in self.facts.get("language") or []]


def card_for(converter: str, own: str | None = None, sources: Sequence[str] = ()) -> SourceCard:
    """Read the user's own card (a file, or the name of a shipped one), the one of a known source, or the converter's.

    A source is known by the Hub id in its address. Raise ConfigError when the card cannot be read.
    """
    if own is not None:
        return parse_card(card_text(own), Path(own).name)
    return parse_card(_of_source(sources) or _shipped(converter), converter)


def card_text(own: str) -> str:
    """Return the text of a card file or of a shipped card. Raise ConfigError when there is neither."""
    path = Path(own)
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    names = [card.stem for card in _shipped_files()]
    if own not in names:
        near = difflib.get_close_matches(own, names, n=1)
        raise ConfigError(
            f"card not found: {own}",
            hint=f"did you mean `--card {near[0]}`?"
            if near
            else f"give a Markdown file, or one of: {', '.join(names)}",
        )
    return _shipped(own)


def _shipped(name: str) -> str:
    return (shipped_cards() / f"{name}.md").read_text(encoding="utf-8")


def _of_source(sources: Sequence[str]) -> str | None:
    """Return the card of the one known data set that all sources come from."""
    ids = {match[1] for source in sources if (match := re.match(r"hf://datasets/([^@/]+/[^@/]+)", source))}
    if len(ids) != 1:
        return None
    for path in _shipped_files():
        text = path.read_text(encoding="utf-8")
        if ids <= {str(name) for name in parse_card(text, path.name).facts.get("source_datasets") or []}:
            return text
    return None


def shipped_cards() -> Path:
    """Return the folder of source cards: inside the wheel, or at the top of a checkout."""
    inside = Path(str(importlib.resources.files("hubdpo"))) / "dataset_cards"
    return inside if inside.is_dir() else inside.parents[1] / "dataset_cards"


def _shipped_files() -> list[Path]:
    return sorted(shipped_cards().glob("*.md"))


def parse_card(text: str, name: str) -> SourceCard:
    """Split front matter and body. Raise ConfigError when there is no YAML mapping in front."""
    match = FRONT_MATTER.match(text)
    try:
        facts = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError as problem:
        raise ConfigError(f"the front matter of `{name}` is not YAML: {' '.join(str(problem).split())}") from None
    if match is None or not isinstance(facts, dict):
        raise ConfigError(
            f"`{name}` has no YAML front matter", hint="begin the card with `---`, `license: ...`, `---`, then text"
        )
    return SourceCard(facts, match[2].strip())


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
    title = manifest.config.get("name") or card.facts.get("pretty_name") or f"Preferences ({manifest.converter})"
    names = _shipped_files() if manifest.config.get("card") else []
    command = prepare_command(manifest, shipped_cards={p.stem: p.read_text(encoding="utf-8") for p in names})
    provenance, _, citation = _fill(card.body, manifest).partition("\n## Citation\n")
    body = template().render(
        title=one_line(str(title)), m=manifest, body=provenance.strip(), citation=citation.strip(), facts=card.facts,
        languages=", ".join(manifest.language), statistics=statistics_table(manifest), tokens=tokens_table(manifest),
        samples=[fence(_sample(sample)) for sample in samples], command=command, own_card=OWN_CARD in command,
        keep=[one_line(name) for name in keep], sources=[(one_line(s.name), s) for s in manifest.sources], plots=plots,
        share_alike=bool(manifest.license and SHARE_ALIKE.search(manifest.license)), longest=LONGEST_MESSAGE,
    )  # fmt: skip
    front = yaml.safe_dump(_front_matter(manifest, card, title, split_bytes, keep), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{body}"


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


def _fill(body: str, manifest: PrepareManifest) -> str:
    """Fill `{{ pairs }}`, `{{ read }}` and `{{ converter }}` of a source card; other braces stay as they are."""
    values = {
        "pairs": f"{manifest.funnel.kept:,}",
        "read": f"{manifest.funnel.read:,}",
        "converter": manifest.converter,
    }
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda slot: values.get(slot[1], slot[0]), body)


def _sample(sample: Example) -> str:
    prompt = [(message["role"], message) for message in sample.prompt]
    if len(prompt) > MOST_MESSAGES:
        left_out = {"content": f"{len(prompt) - MOST_MESSAGES} messages are left out here"}
        prompt = [*prompt[:1], ("…", left_out), *prompt[1 - MOST_MESSAGES :]]
    parts = [*prompt, *(("chosen", one) for one in sample.chosen), *(("rejected", one) for one in sample.rejected)]
    return wrapped("\n".join(f"[{role}] {shortened(one['content'], LONGEST_MESSAGE)}" for role, one in parts))
