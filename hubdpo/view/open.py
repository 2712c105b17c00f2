"""Open what `hubdpo view` shows: folders, sweeps and repos of the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hubdpo.errors import ConfigError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import COMMIT
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.view.thing import Thing


def open_thing(refs: Sequence[str]) -> Thing:
    """Open the first of `refs`, with the others over it; only runs can be drawn over each other.

    Raise ArtefactError for a folder that is not there, HubError for a repo that is not, ConfigError for others that are
    no runs.
    """
    first, *others = [_open(ref) for ref in refs]
    for thing in (first, *others) if others else ():
        if thing.kind != "run":
            raise ConfigError(
                f"only runs are drawn over each other, and `{thing.snapshot.ref}` is none",
                hint=f"hubdpo view {refs[0]}",
            )
    first.others = others
    return first


def _open(ref: str) -> Thing:
    if Path(ref).is_dir():
        return Thing(FolderSnapshot(ref, all_files=True), Path(ref).resolve().name)
    snapshot = open_snapshot(ref)
    named = snapshot.revision or (snapshot.commit or "")
    return Thing(snapshot, snapshot.name, named[:12] if COMMIT.fullmatch(named) else named or None)
