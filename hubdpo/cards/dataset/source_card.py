"""What is known of a source: its licence, languages, history and bias, claimed only where someone named the source.

The shape of rows tells which converter reads them and nothing about where they come from. So a card is that of the data
set in an `hf://datasets/` address, or the one that `--card` gives.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import part, read_yaml
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.errors import ConfigError

UNKNOWN = """\
Nothing is known here of who wrote the answers, who compared them, or with what instructions; {ask} before you rely on
them. A model trained on these pairs learns the taste of those who compared them, and their mistakes."""


@dataclass(frozen=True)
class SourceCard:
    """A hand-written card of a source: facts in the front matter, provenance and bias in the body.

    Both are empty for a source of which nothing is known but, perhaps, the Hub ids in `facts["source_datasets"]`.
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
        """Return the columns that the licence asks to keep with the text."""
        return _words(self.facts.get("attribution"))


def source_card(own: str | None, sources: Sequence[str]) -> SourceCard:
    """Read the user's own card (a file, or the name of a shipped one), or that of the Hub data set of all `sources`.

    Raise ConfigError when the card cannot be read.
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
    """Return the card of the set that rows of these shapes often come from: to be offered, never to be claimed."""
    found = [path for path in shipped_files() if path.stem in converters]
    return parse_card(found[0].read_text(encoding="utf-8"), found[0].stem) if found else None


def provenance(manifest: PrepareManifest, card: SourceCard) -> str:
    """Return what the card of a dataset says of its source: the source's own words, or only the shapes of its rows."""
    if card.body:
        return _fill(card.body, manifest.funnel.kept, manifest.funnel.read, manifest.converter)
    parts = []
    converters = manifest.converter.split(", ")
    for name in converters:
        files = [source for source in manifest.sources if source.converter == name]
        alone = len(converters) == 1
        kept = manifest.funnel.kept if alone else sum(source.kept or 0 for source in files)
        read = manifest.funnel.read if alone else sum(source.read or 0 for source in files)
        how = (shipped_cards() / "formats" / f"{name}.md").read_text(encoding="utf-8").strip()
        pairs, rows = "pair was" if kept == 1 else "pairs were", "row" if read == 1 else "rows"
        parts.append(f"{kept:,} {pairs} made of {read:,} {rows} that {how}")
    ids = _words(card.facts.get("source_datasets"))
    links = ", ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in ids)
    ask = f"read what its makers say ({links})" if ids else "ask whoever gave you the source"
    return "\n\n".join(["## Provenance and bias", *parts, UNKNOWN.format(ask=ask)])


def card_text(own: str) -> str:
    """Return the text of a card file or of a shipped card. Raise ConfigError when there is neither."""
    path = Path(own)
    if path.is_file():
        return read_text(path)
    names = [card.stem for card in shipped_files()]
    if own not in names:
        near = difflib.get_close_matches(own, names, n=1)
        raise ConfigError(
            f"card not found: {own}",
            hint=f"did you mean `--card {near[0]}`?"
            if near
            else f"give a Markdown file, or one of: {', '.join(names)}",
        )
    return (shipped_cards() / f"{own}.md").read_text(encoding="utf-8")


def shipped_cards() -> Path:
    """Return the folder of source cards: inside the wheel, or at the top of a checkout."""
    inside = Path(str(importlib.resources.files("hubdpo"))) / "dataset_cards"
    return inside if inside.is_dir() else inside.parents[1] / "dataset_cards"


def shipped_files() -> list[Path]:
    return sorted(shipped_cards().glob("*.md"))


def parse_card(text: str, name: str) -> SourceCard:
    """Split front matter and body. Raise ConfigError when there is no YAML mapping in front."""
    front, body = part(text)
    try:
        facts = read_yaml(front) if front is not None else None
    except ValueError as problem:
        raise ConfigError(f"the front matter of `{name}` is not YAML: {problem}", hint="mend the YAML") from None
    if not isinstance(facts, dict):
        raise ConfigError(
            f"`{name}` has no YAML front matter", hint="begin the card with `---`, `license: ...`, `---`, then text"
        )
    return SourceCard(facts, body.strip())


def _words(value: Any) -> list[str]:
    return [str(one) for one in ([value] if isinstance(value, str) else value or [])]


def _fill(body: str, kept: int, read: int, converter: str) -> str:
    """Fill `{{ pairs }}`, `{{ read }}` and `{{ converter }}` of a source card; other braces stay as they are."""
    values = {"pairs": f"{kept:,}", "read": f"{read:,}", "converter": converter}
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda slot: values.get(slot[1], slot[0]), body)
