"""`prepare.json` of a dataset folder: sources, rows read, kept and dropped, options, splits and file hashes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, Field

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.formats.kept_sections import loading_here, split_card
from hubdpo.artefacts.manifests.manifest import Count, FileEntry, Files, LanguageCode, Manifest, Part, bytes_entry
from hubdpo.config.unknown import RENAMED

MOST_LANGUAGES = 200
IN_MEMORY = "rows in memory"
"""Name of a source that is no file; for rows of several splits `rows in memory (SPLIT)`."""


def split_in_memory(name: str) -> str | None:
    """Return the split of rows that were handed to `prepare` from Python, "" if they had none, and None for a file."""
    match = re.fullmatch(rf"{IN_MEMORY}(?: \((.*)\))?", name, re.DOTALL)
    return match and (match[1] or "")


class Source(BaseModel):
    """A raw input: its name (never an absolute path), size and hash, and what became of its rows.

    `split` is the published split, or both (`train, test`), if rows of it stay there; `kept` counts the pairs whose
    chosen answer it gave; `address` is its place on the Hub at a commit: a repo, a configuration, a folder or a file.
    The fields with a default are missing from manifests of earlier versions.
    """

    name: str
    sha256: str
    size: Count
    converter: str | None = None
    split: str | None = None
    read: Count | None = None
    kept: Count | None = None
    repeated: Count = 0
    """Pairs of `kept` that are copies, because the source has a weight above 1."""
    pairs: dict[str, Count] = Field(default_factory=dict)
    """Pairs of `kept` by split; in the files they follow those of the earlier sources."""
    address: str | None = None
    dropped: dict[str, Count] = Field(default_factory=dict)

    def identity(self) -> dict[str, str | int]:
        """Return the fields that identify the input."""
        return {"name": self.name, "sha256": self.sha256, "size": self.size}


KINDS = {
    "template": "marks of a chat template",
    "speakers": "names of speakers",
    "tool_calls": "tool calls or their results",
    "media": "placeholders of pictures, video or sound",
    "repeats": "their prompt once more",
}
"""Kinds of markers in texts, in words."""


EXTRAS = {"tools": "tools", "tool_calls": "tool calls", "reasoning_content": "reasoning beside the text"}
"""What pairs may have beside text, in words."""


class Markers(BaseModel):
    """How many pairs contain markers of one kind, and how many contain each marker."""

    rows: Count
    markers: dict[str, Count]


class Funnel(BaseModel):
    """Every row that was read is either kept, or dropped for one named reason.

    A row counts as one pair. `added` counts the further pairs of rows with several answers, and the pairs that the
    weight of their source repeats; `joined` counts the rows that became the second answer of another row's pair.
    """

    read: Count
    kept: Count
    dropped: dict[str, Count] = Field(default_factory=dict)
    added: Count = 0
    joined: Count = 0

    def adds_up(self) -> bool:
        return self.read + self.added == self.kept + self.joined + sum(self.dropped.values())


class ToldLanguages(Part):
    """The languages of texts that were drawn from a split: the last message of each prompt, and the chosen answer."""

    by: Annotated[str, Field(pattern=r"^[\w .+-]{1,100}$")]
    """What told them, with its version."""
    split: str
    pairs: Count
    """Pairs that were drawn, with the seed of the dataset."""
    texts: Count
    """Different texts of these pairs."""
    languages: Annotated[dict[LanguageCode, Count], Field(max_length=MOST_LANGUAGES)] = Field(default_factory=dict)
    """Texts by language. The others are too short, code or formulas, or not sure."""

    @property
    def told(self) -> int:
        """Texts whose language was told."""
        return sum(self.languages.values())

    @property
    def ranked(self) -> list[tuple[str, int]]:
        """Languages with their texts, the most frequent first."""
        return sorted(self.languages.items(), key=lambda item: (-item[1], item[0]))


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
    """Kept rows whose texts were changed, by kind of change (such as `stripped_leading_newlines`)."""
    repaired: dict[str, Count] = Field(default_factory=dict)
    """Rows that had to be repaired to be read, kept or not, by kind of repair (such as `nan_as_null`)."""
    extras: dict[str, Count] = Field(default_factory=dict)
    """Kept rows that have more than text: `tools`, `tool_calls`, `reasoning_content`, or `other` members of messages.

    Empty if messages are `{role, content}`; otherwise they are JSON objects.
    """
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns of text beside the messages, with their meaning."""
    unused_columns: dict[str, Count] = Field(default_factory=dict)
    """Rows with a value in an unused column of the source, by column."""
    template_markers: dict[str, Markers] = Field(default_factory=dict)
    text_markers: dict[str, dict[str, Markers]] = Field(default_factory=dict)
    """Other markers by kind (`speakers`, `tool_calls`, `media`, `repeats`), each in `prompts` and in `answers`."""
    secrets: dict[str, Count] = Field(default_factory=dict)
    """Credentials found, by kind."""
    max_length: Count | None = None
    """Maximum tokens of a pair, counted with the tokenizer of `config.model`."""
    splits: dict[str, Count]
    published_split: bool = False
    """Whether rows stayed in their published split; otherwise a hash of the prompt selects the split."""
    shared_prompts: Count = 0
    """Prompts in more than one split: 0, but for published splits that share prompts and `--on-leak keep`."""
    statistics: JsonObject = Field(default_factory=dict)
    license: str | None = None
    language: list[str] = Field(default_factory=list)
    told_languages: ToldLanguages | None = None
    """From what `language` was found; None where it was stated, and in hubdpo 0.4 and earlier."""
    files: Files = Field(default_factory=dict)
    """Every published file except `prepare.json`; of the card only its generated part, as you may edit the rest."""
    fingerprint: str
    """Hash of hubdpo's version, the sources and the options that affect the data; equal hashes mean equal bytes."""

    @property
    def options(self) -> JsonObject:
        """The recorded options to give again, by their names now: `converter` was `format` until 0.4."""
        named = _by_names_now(self.config)
        if "sources" in named:
            named["sources"] = [_by_names_now(item) for item in named["sources"] or ()]
        return named

    @property
    def repeated(self) -> int:
        """Pairs that were written once more, by the weight of their source; `funnel.added` counts them as well."""
        return sum(source.repeated for source in self.sources)


def _by_names_now(options: JsonObject) -> JsonObject:
    return {RENAMED.get(name, name): value for name, value in options.items()}
