"""The list of releases in a card: one line for each version, newest first.

It depends on this release and on the tags of lower versions alone, which never move, so a repeated push makes the same
card. Lines that the card of the release before already has are taken over unchanged.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hubdpo.artefacts.formats.kept_sections import split_card
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import Snapshot
from hubdpo.hub.versions import is_higher, newest_first
from hubdpo.release.remote import Remote
from hubdpo.release.snapshot import ReleaseSnapshot
from hubdpo.release.summary import what_changed

FIRST, THIS, FOREIGN = "first release", "this release", "not by hubdpo"
_ROW = re.compile(r"\| (v\d+\.\d+\.\d+) \| ([^|]*) \| ([^|]*) \|")


class Row(NamedTuple):
    tag: str
    date: str
    change: str


def changes(remote: Remote, tags: dict[str, str], release: ReleaseSnapshot) -> str:
    """Write the section for a release: itself, and every release of a lower version."""
    lower = [tag for tag in newest_first(tags) if is_higher(release.tag, tag)]
    known = _rows_in_card(remote.at(tags[lower[0]])) if lower else {}
    rows = [Row(release.tag, THIS, _change(remote, tags, release, lower))]
    for number, tag in enumerate(lower, start=1):
        row = known.get(tag)
        date = row.date if row and row.date != THIS else remote.date(tags[tag])
        rows.append(
            Row(tag, date, row.change if row else _change(remote, tags, _release(remote, tags, tag), lower[number:]))
        )
    lines = ["## Changes", "", "| version | date | what changed |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.tag} | {row.date} | {row.change} |" for row in rows)])


def _release(remote: Remote, tags: dict[str, str], tag: str) -> Snapshot | None:
    """Return the release that a tag names, or None for a tag that hubdpo did not make."""
    snapshot = remote.at(tags[tag])
    return snapshot if snapshot.bundle is not None and tag == f"v{snapshot.bundle.version}" else None


def _change(remote: Remote, tags: dict[str, str], release: Snapshot | None, lower: list[str]) -> str:
    """Compare a release with the newest of the `lower` tags that hubdpo made."""
    if release is None:
        return FOREIGN
    before = next((found for tag in lower if (found := _release(remote, tags, tag)) is not None), None)
    return what_changed(before, release) if before else FIRST


def _rows_in_card(snapshot: Snapshot) -> dict[str, Row]:
    try:
        section = split_card(snapshot.text(CARD_FILE)).changes if CARD_FILE in snapshot.files else None
    except ArtefactError:  # a card that hubdpo did not write
        section = None
    return {match[1]: Row(*match.groups()) for match in _ROW.finditer(section or "")}
