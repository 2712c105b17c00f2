"""The list of releases in a card: one line for each, from what the releases themselves say.

It depends on nothing but this bundle and on tags of lower versions, which never move: the same push, whenever it is
repeated, makes the same card. A line that the card of the release before already has is taken over as it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from hubdpo.artefacts.formats.kept_sections import split_card
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.errors import ArtefactError
from hubdpo.hub.versions import Version, parse_tag
from hubdpo.release.facts import Facts, read_facts, what_changed
from hubdpo.release.remote import Remote

FIRST, THIS = "first release", "this release"
_ROW = re.compile(r"\| (v\d+\.\d+\.\d+) \| ([^|]*) \| ([^|]*) \|")


@dataclass(frozen=True)
class Row:
    tag: str
    date: str
    what: str


def changes(remote: Remote, tags: dict[str, str], version: str, facts: Facts) -> str:
    """Write the section for `version`, whose manifests say `facts`: itself and every lower release, newest first."""
    own = _Earlier(remote, tags)
    lower = own.below(f"v{version}")
    known = own.rows_in_card(lower[0]) if lower else {}
    rows = [Row(f"v{version}", THIS, own.since(facts, lower))]
    for number, tag in enumerate(lower):
        row = known.get(tag)
        date = row.date if row and row.date != THIS else remote.date(tags[tag])
        rows.append(Row(tag, date, row.what if row else own.since(own.facts(tag), lower[number + 1 :])))
    lines = ["## Changes", "", "| version | date | what changed |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.tag} | {row.date} | {row.what} |" for row in rows)])


class _Earlier:
    """Earlier releases, each read once."""

    def __init__(self, remote: Remote, tags: dict[str, str]) -> None:
        self._remote, self._tags = remote, tags
        self._facts: dict[str, Facts | None] = {}

    def below(self, tag: str) -> list[str]:
        """Return the lower versions, newest first."""
        return sorted((t for t in self._tags if parse_tag(t) and _number(t) < _number(tag)), key=_number, reverse=True)

    def facts(self, tag: str) -> Facts | None:
        """Return what a release says of itself; None for a tag that hubdpo did not make."""
        if tag not in self._facts:
            commit = self._tags[tag]
            tree = self._remote.tree(commit)
            bundle = self._remote.bundle(commit, tree)
            made = bundle is not None and tag == f"v{bundle.version}"
            read = partial(self._remote.read, commit, tree)
            self._facts[tag] = (
                read_facts(bundle.files, read, of=f"{self._remote.repo_id}@{tag}") if made and bundle else None
            )
        return self._facts[tag]

    def since(self, facts: Facts | None, lower: list[str]) -> str:
        """Compare with the newest of `lower` that hubdpo made."""
        if facts is None:
            return "not by hubdpo"
        before = next((found for tag in lower if (found := self.facts(tag)) is not None), None)
        return what_changed(before, facts) if before else FIRST

    def rows_in_card(self, tag: str) -> dict[str, Row]:
        commit = self._tags[tag]
        try:
            card = self._remote.read(commit, self._remote.tree(commit), CARD_FILE)
            told = split_card(card.decode("utf-8", "replace")).changes if card else None
        except ArtefactError:  # a card that hubdpo did not write
            told = None
        return {match[1]: Row(*match.groups()) for match in _ROW.finditer(told or "")}


def _number(tag: str) -> Version:
    return parse_tag(tag) or (0, 0, 0)
