"""TODO."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hubdpo.artefacts.formats.kept_sections import loading_here, split_card
from hubdpo.artefacts.manifests.accuracy import Count
from hubdpo.artefacts.manifests.file_entries import FileEntry, Files, bytes_entry
from hubdpo.artefacts.manifests.funnel import Funnel, Markers, Source
from hubdpo.artefacts.manifests.manifest import Manifest


def card_entry(text: str) -> FileEntry:
    """Describe a card by what was generated of it, so that what people and releases write in it may change."""
    return bytes_entry(loading_here(split_card(text).generated).encode())


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
