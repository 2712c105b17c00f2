"""Find the source card of a dataset: licence, languages, provenance and bias of its source.

A source card is used only for the dataset of an `hf://datasets/` address or with `--card`. The format of the rows tells
which converter reads them, but not where they come from.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import part, read_yaml
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.errors import ConfigError
from hubdpo.hub.transport import hub_address

UNKNOWN = """\
It is not recorded who wrote the answers, who compared them, and with what instructions. Before you rely on them, {ask}.
A model trained on these pairs learns the preferences of the annotators, and their mistakes."""


@dataclass(frozen=True)
class SourceCard:
    """A hand-written card of a source: its front matter as `facts`, provenance and bias as `body`.

    Without a card the body is empty, and `facts` has at most the Hub ids as `source_datasets`.
    """

    facts: Mapping[str, Any]
    body: str = ""

    @property
    def license(self) -> str | None:
        value = self.facts.get("license")
        return str(value) if value else None

    @property
    def language(self) -> list[str]:
        return _words(self.facts.get("language"))

    @property
    def attribution(self) -> list[str]:
        """Return the columns to keep for attribution, as the licence asks."""
        return _words(self.facts.get("attribution"))


def source_card(own: str | None, sources: Sequence[str]) -> SourceCard:
    """Return the card given with `--card` (a file, or the name of a shipped card), or the shipped card of the sources.

    The latter takes `sources` that are all from one Hub dataset. Raise ConfigError if the card cannot be read.
    """
    if own is not None:
        return parse_card(card_text(own), Path(own).name)
    ids = [match[1] if (match := re.match(r"hf://datasets/([^@/]+/[^@/]+)", name)) else None for name in sources]
    if len({*ids}) == 1 and ids[0]:
        for path in shipped_files():
            card = parse_card(path.read_text(encoding="utf-8"), path.name)
            if ids[0] in _words(card.facts.get("source_datasets")):
                return card
    known = [name for name in dict.fromkeys(ids) if name]
    return SourceCard({"source_datasets": known} if known else {})


def card_of_shape(converters: Sequence[str]) -> SourceCard | None:
    """Return the shipped card of a dataset that often has rows in these formats. It is only suggested to the user."""
    path = next((path for path in shipped_files() if path.stem in converters), None)
    return parse_card(path.read_text(encoding="utf-8"), path.stem) if path else None


def provenance(manifest: PrepareManifest, card: SourceCard) -> str:
    """Return the provenance section: the body of the source card, or a description of the formats of the rows."""
    if card.body:
        funnel = manifest.funnel
        values = {"pairs": f"{funnel.kept:,}", "read": f"{funnel.read:,}", "converter": manifest.converter}
        return re.sub(r"\{\{ *(\w+) *\}\}", lambda slot: values.get(slot[1], slot[0]), card.body)
    parts = []
    converters = manifest.converter.split(", ")
    for name in converters:
        counts = [source for source in manifest.sources if source.converter == name]
        alone = len(converters) == 1
        kept = manifest.funnel.kept if alone else sum(source.kept or 0 for source in counts)
        read = manifest.funnel.read if alone else sum(source.read or 0 for source in counts)
        how = (shipped_cards() / "formats" / f"{name}.md").read_text(encoding="utf-8").strip()
        pairs, rows = "pair was" if kept == 1 else "pairs were", "row" if read == 1 else "rows"
        parts.append(f"{kept:,} {pairs} made from {read:,} {rows}. {how}")
    ids = _words(card.facts.get("source_datasets"))
    links = ", ".join(f"[{name}]({hub_address()}/datasets/{name})" for name in ids)
    ask = f"read the documentation of the source ({links})" if ids else "ask the provider of the source"
    return "\n\n".join(["## Provenance and bias", *parts, UNKNOWN.format(ask=ask)])


def card_text(own: str) -> str:
    """Return the text of a card file or of a shipped card. Raise ConfigError if there is no such card."""
    path = Path(own)
    if path.is_file():
        return read_text(path)
    names = [card.stem for card in shipped_files()]
    if own not in names:
        near = difflib.get_close_matches(own, names, n=1)
        raise ConfigError(
            f"card not found: {own}",
            hint=f"did you mean `--card {near[0]}`?" if near else f"use a Markdown file, or one of: {', '.join(names)}",
        )
    return (shipped_cards() / f"{own}.md").read_text(encoding="utf-8")


def shipped_cards() -> Path:
    """Return the folder of the shipped source cards: inside the wheel, or at the top of a checkout."""
    inside = Path(str(importlib.resources.files("hubdpo"))) / "dataset_cards"
    return inside if inside.is_dir() else inside.parents[1] / "dataset_cards"


def shipped_files() -> list[Path]:
    return sorted(shipped_cards().glob("*.md"))


def parse_card(text: str, name: str) -> SourceCard:
    """Split a source card into front matter and body. Raise ConfigError without a YAML mapping as front matter."""
    front, body = part(text)
    try:
        facts = read_yaml(front) if front is not None else None
    except ValueError as problem:
        raise ConfigError(f"the front matter of `{name}` is not YAML: {problem}", hint="fix the YAML") from None
    if not isinstance(facts, dict):
        raise ConfigError(f"`{name}` has no YAML front matter", hint="start the card with `---`, `license: ...`, `---`")
    return SourceCard(facts, body.strip())


def _words(value: str | Iterable[object] | None) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value or ()]
