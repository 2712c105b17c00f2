"""The card of a release, put together when it is published: generated text, list of releases, and what people wrote.

What people wrote is taken from `main` of the repo, where the web editor writes, and from the card in the folder; what a
version that is already tagged has between its markers stays as it is there, so a push that is repeated changes nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.kept_sections import Card, Section, join_card, kept_of, merge_kept, split_card
from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.artefacts.manifests.manifest import CARD_FILE, RELEASE_FILE
from hubdpo.errors import ArtefactError
from hubdpo.hub.transport import endpoint
from hubdpo.hub.versions import is_higher
from hubdpo.release.bundle import BundleContent, check_texts, content_of, with_card
from hubdpo.release.changelog import changes
from hubdpo.release.facts import read_facts
from hubdpo.release.remote import Remote

MOST_LINES = 20
KEPT = "the kept sections of README.md"
Lines = list[str]


@dataclass(frozen=True)
class Composed:
    """A bundle with its whole card.

    `lost` are the lines of main's card, as a diff, that the release replaces; `seen` is that card's id in its tree.
    """

    content: BundleContent
    lost: Lines
    seen: str | None


def compose(content: BundleContent, folder: Path, remote: Remote) -> Composed:
    """Put the sections into the card of a bundle.

    Raise ArtefactError when a section is not closed, was changed both here and on the Hub, or holds a credential or a
    path of this machine.
    """
    generated = split_card(content_of(content.files[CARD_FILE]).decode()).generated
    ours = kept_of(folder / CARD_FILE)
    tags, heads = remote.refs() if remote.exists() else ({}, {})
    tag = f"v{content.manifest.version}"
    main = _main_card(remote, tags, heads.get("main"))
    theirs, lost = main.card, main.by_hand
    if tag in tags:
        theirs = _card_at(remote, tags[tag]) or Card("")
        told = theirs.changes
        # main comes to this tag when it is behind: what was written there since the tag was made is not in it
        lost = (
            []
            if main.release and not is_higher(tag, main.release)
            else lost + _difference(_texts(theirs), _texts(main.card))
        )
    else:
        told = changes(
            remote, tags, content.manifest.version, read_facts(content.manifest.files, content.read, of=str(folder))
        )
    kept = merge_kept(_start(folder, remote, tags), theirs=theirs.kept, ours=ours)
    check_texts({KEPT: "\n".join(one.text for one in kept).encode()})
    card = join_card(Card(generated, kept, told))
    return Composed(with_card(content, card, beside=main.files), lost, main.id)


def warn_of_lost(lost: Lines, *, show: bool) -> None:
    """Say that main's card was edited where the release replaces it, and what, when it is to be shown."""
    if not lost:
        return
    console.warn(
        f"{CARD_FILE} on main was edited by hand outside of the kept sections: {len(lost)} "
        f"line{'s differ' if len(lost) > 1 else ' differs'}, which the release replaces"
    )
    if show:
        for line in lost[:MOST_LINES]:
            console.info(f"  {line}")
        if len(lost) > MOST_LINES:
            console.info(f"  … and {len(lost) - MOST_LINES} more")
    console.hint("put what is to stay between lines `<!-- hubdpo:keep -->` and `<!-- /hubdpo:keep -->`")


@dataclass(frozen=True)
class _Main:
    """The card that main has now, the lines of it that no release and no kept section has, main's release and files."""

    card: Card = Card("")
    by_hand: Lines = field(default_factory=list)
    release: str | None = None
    id: str | None = None
    files: Collection[str] = ()


def warn_of_edit_on_the_way(composed: Composed, remote: Remote) -> None:
    """Say when main's card was edited between the look at it and the commit that replaced it."""
    if remote.replaced is None:
        return
    commit, tree = remote.replaced
    if tree.get(CARD_FILE) not in (None, composed.seen):
        console.warn(f"{CARD_FILE} on main was edited while the release was on its way; that text is at {commit}")
        console.hint("put what is to stay between the markers of the new card")


def _main_card(remote: Remote, tags: dict[str, str], head: str | None) -> _Main:
    tree = remote.tree(head) if head else {}
    data = remote.read(head, tree, CARD_FILE) if head else None
    if head is None or data is None:
        return _Main(files=tree)
    now = _parsed(data, f"{CARD_FILE} on main of `{remote.repo_id}`")
    bundle = remote.bundle(head, tree)
    release = f"v{bundle.version}" if bundle else None
    by_hand: Lines = []
    if bundle is None or not bundle.has(CARD_FILE, data):
        commit = tags.get(release) if release else None
        released = _card_at(remote, commit) if commit else None
        by_hand = _difference(released.generated if released else "", now.generated)
    return _Main(now, by_hand, release, tree[CARD_FILE], tree)


def _card_at(remote: Remote, commit: str) -> Card | None:
    """Return the card of a release; None when the commit has none that hubdpo could have written."""
    try:
        data = remote.read(commit, remote.tree(commit), CARD_FILE)
        return split_card(data.decode("utf-8", "replace")) if data is not None else None
    except ArtefactError:  # somebody else's tag
        return None


def _start(folder: Path, remote: Remote, tags: dict[str, str]) -> tuple[Section, ...]:
    """Return what the card in the folder had between its markers when it was last published in this repo."""
    if not (folder / RELEASE_FILE).is_file():
        return ()
    last = Release.read(folder / RELEASE_FILE)
    if (last.repo, last.endpoint) != (remote.repo_id, endpoint()) or tags.get(last.tag) != last.commit:
        return ()
    card = _card_at(remote, last.commit)
    return card.kept if card else ()


def _texts(card: Card) -> str:
    return "\n".join(one.text for one in card.kept)


def _parsed(data: bytes, what: str) -> Card:
    try:
        return split_card(data.decode("utf-8", "replace"))
    except ArtefactError as problem:
        raise ArtefactError(f"{what}: {problem.message}", hint=problem.hint) from None


def _difference(before: str, after: str) -> Lines:
    """Return the lines added and taken out, blank ones apart."""
    old, new = ([line.rstrip() for line in text.split("\n") if line.strip()] for text in (before, after))
    diff = difflib.unified_diff(old, new, n=0, lineterm="")
    return [line for line in diff if not line.startswith(("---", "+++", "@@"))]
