"""The whole card of a release: generated text, the list of releases, and the sections that people wrote.

The kept sections come from main, where the web editor writes, and from the card in the folder. A version that is tagged
already keeps the sections of its tag, so a repeated push changes nothing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.kept_sections import Card, Section, join_card, kept_of, merge_kept, split_card
from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.artefacts.manifests.manifest import CARD_FILE, RELEASE_FILE
from hubdpo.errors import ArtefactError
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.snapshot import Snapshot
from hubdpo.hub.transport import endpoint
from hubdpo.hub.versions import highest, is_higher
from hubdpo.release.changelog import changes
from hubdpo.release.drafts import Draft, check_texts
from hubdpo.release.remote import Refs, Remote
from hubdpo.release.snapshot import ReleaseSnapshot

MOST_LINES = 20
KEPT = "the kept sections of README.md"


@dataclass(frozen=True)
class Composed:
    """A release with its whole card.

    `replaced_lines` are edits of main's card, as lines of a diff, that the release replaces. `main` is the state of
    main that was looked at.
    """

    release: ReleaseSnapshot
    replaced_lines: list[str]
    main: RepoSnapshot | None


def compose(draft: Draft, version: str, folder: Path, remote: Remote, refs: Refs) -> Composed:
    """Return a version of the draft with its whole card.

    Raise ArtefactError when a section is not closed, was changed both here and on the Hub, or holds a credential or a
    path of this machine.
    """
    generated = split_card(draft.card(version)).generated
    tag = f"v{version}"
    main = remote.at(refs.main) if refs.main else None
    on_main = _card_of(main) if main else None
    main_card = on_main or Card("")
    edits = _edits(main, main_card, remote, refs) if main and on_main else []
    if tag in refs.tags:
        theirs = _card_or_none(remote.at(refs.tags[tag])) or Card("")
        section = theirs.changes
        main_tag = f"v{main.bundle.version}" if main and main.bundle else None
        # main stays when it holds this version or a higher one, and takes this card when it is behind
        stays = main_tag is not None and not is_higher(tag, main_tag)
        edits = [] if stays else edits + _difference(_kept_text(theirs), _kept_text(main_card))
    else:
        theirs = main_card
        section = changes(remote, refs.tags, draft.release(version, generated))
    kept = merge_kept(_last_published(folder, remote, refs), theirs=theirs.kept, ours=kept_of(folder / CARD_FILE))
    check_texts({KEPT: "\n".join(section.text for section in kept).encode()})
    card = join_card(Card(generated, kept, section))
    return Composed(draft.release(version, card, beside=main.files if main else ()), edits, main)


def warn_of_edits(composed: Composed, *, show: bool) -> None:
    """Warn of edits outside of the kept sections that the release replaces, and show them if asked."""
    lines = composed.replaced_lines
    if not lines:
        return
    console.warn(
        f"{CARD_FILE} on main was edited by hand outside of the kept sections: {len(lines)} "
        f"line{'s differ' if len(lines) > 1 else ' differs'}, which the release replaces"
    )
    if show:
        for line in lines[:MOST_LINES]:
            console.info(f"  {line}")
        if len(lines) > MOST_LINES:
            console.info(f"  … and {len(lines) - MOST_LINES} more")
    console.hint("to keep a text, put it between lines `<!-- hubdpo:keep -->` and `<!-- /hubdpo:keep -->`")


def warn_of_late_edit(composed: Composed, replaced: RepoSnapshot | None) -> None:
    """Warn when main's card was edited after it was composed and before the commit that replaced it."""
    if replaced is None or CARD_FILE not in replaced.files:
        return
    seen = composed.main.digest(CARD_FILE) if composed.main and CARD_FILE in composed.main.files else None
    if replaced.digest(CARD_FILE) != seen:
        console.warn(
            f"{CARD_FILE} on main was edited while the release was on its way; that text is at {replaced.commit}"
        )
        console.hint("to keep it, put it between the markers of the new card")


def _edits(main: RepoSnapshot, card: Card, remote: Remote, refs: Refs) -> list[str]:
    """Return the lines of main's generated text that no release wrote.

    Main's own manifest tells whether its card is untouched. Where the manifest was deleted, the card is compared with
    that of the highest version, which main follows.
    """
    bundle = main.bundle
    if bundle is not None and bundle.has(CARD_FILE, main.read(CARD_FILE)):
        return []
    tag = f"v{bundle.version}" if bundle else highest(refs.tags)
    released = _card_or_none(remote.at(refs.tags[tag])) if tag in refs.tags else None
    return _difference(released.generated if released else "", card.generated)


def _card_of(main: RepoSnapshot) -> Card | None:
    if CARD_FILE not in main.files:
        return None
    try:
        return split_card(main.text(CARD_FILE))
    except ArtefactError as problem:
        raise ArtefactError(f"{CARD_FILE} on main of `{main.name}`: {problem.message}", hint=problem.hint) from None


def _card_or_none(snapshot: Snapshot) -> Card | None:
    """Return the card of a tag, or None when it has none that hubdpo could have written."""
    try:
        return split_card(snapshot.text(CARD_FILE)) if CARD_FILE in snapshot.files else None
    except ArtefactError:
        return None


def _last_published(folder: Path, remote: Remote, refs: Refs) -> tuple[Section, ...]:
    """Return the kept sections with which the folder was last published in this repo."""
    if not (folder / RELEASE_FILE).is_file():
        return ()
    last = Release.read(folder / RELEASE_FILE)
    if (last.repo, last.endpoint) != (remote.repo_id, endpoint()) or refs.tags.get(last.tag) != last.commit:
        return ()
    card = _card_or_none(remote.at(last.commit))
    return card.kept if card else ()


def _kept_text(card: Card) -> str:
    return "\n".join(section.text for section in card.kept)


def _difference(before: str, after: str) -> list[str]:
    """Return the added and removed lines of a diff, without blank lines."""
    old, new = ([line.rstrip() for line in text.split("\n") if line.strip()] for text in (before, after))
    diff = difflib.unified_diff(old, new, n=0, lineterm="")
    return [line for line in diff if not line.startswith(("---", "+++", "@@"))]
