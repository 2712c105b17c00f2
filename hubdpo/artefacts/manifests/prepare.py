"""`prepare.json` of a dataset folder: sources, options, row counts, splits and file hashes."""

from __future__ import annotations

from pydantic import Field

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.formats.kept_sections import loading_here, split_card
from hubdpo.artefacts.manifests.accuracy import Count
from hubdpo.artefacts.manifests.file_entries import FileEntry, Files, bytes_entry
from hubdpo.artefacts.manifests.funnel import Funnel, Markers, Source
from hubdpo.artefacts.manifests.manifest import Manifest


def card_entry(text: str) -> FileEntry:
    """Return the entry of a card's generated part: kept sections, the changelog and the load line may change."""
    return bytes_entry(loading_here(split_card(text).generated).encode())


class PrepareManifest(Manifest):
    """`prepare.json`, written last: a folder that has it is complete."""

    hubdpo_version: str
    converter: str
    """Names of the converters, separated by commas."""
    detected: bool
    sources: list[Source]
    config: JsonObject
    funnel: Funnel
    changed: dict[str, Count] = Field(default_factory=dict)
    """Kept rows that were changed, by change (for example `stripped_leading_newlines`)."""
    repaired: dict[str, Count] = Field(default_factory=dict)
    """Rows that were repaired to be readable, kept or not, by repair (for example `nan_as_null`)."""
    unused_columns: dict[str, Count] = Field(default_factory=dict)
    """Rows with a value in an unused column of the source, by column."""
    template_markers: dict[str, Markers] = Field(default_factory=dict)
    text_markers: dict[str, dict[str, Markers]] = Field(default_factory=dict)
    """Markers in `prompts` and `answers`, by the other KINDS; `template_markers` are those of chat templates."""
    secrets: dict[str, Count] = Field(default_factory=dict)
    """Credentials found, by kind."""
    max_length: Count | None = None
    """Maximum tokens of a pair, counted with the tokenizer of `config.model`."""
    splits: dict[str, Count]
    published_split: bool = False
    """Whether rows stayed in their published split; otherwise a hash of the prompt selects the split."""
    shared_prompts: Count = 0
    """Prompts in more than one split; always 0, because prepare stops otherwise."""
    statistics: JsonObject = Field(default_factory=dict)
    license: str | None = None
    language: list[str] = Field(default_factory=list)
    files: Files = Field(default_factory=dict)
    """Every published file except `prepare.json`; the card by its generated part, see `card_entry`."""
    fingerprint: str
    """Hash of hubdpo's version, the sources and the options that affect the data; equal hashes mean equal bytes."""
