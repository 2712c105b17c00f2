"""Open what `hubdpo view` shows: folders, sweeps and repos of the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hubdpo.artefacts.folders.kinds import folder_kind
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG
from hubdpo.artefacts.folders.run_folder import is_worked_in
from hubdpo.artefacts.manifests.manifest import (
    CARD_FILE,
    MERGE_FILE,
    METRICS_FILE,
    PREPARE_FILE,
    RUN_FILE,
    SWEEP_FILE,
)
from hubdpo.errors import ConfigError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import COMMIT
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.view.thing import Thing

SHOWN = (PREPARE_FILE, RUN_FILE, METRICS_FILE, SWEEP_FILE, MERGE_FILE, CARD_FILE, ADAPTER_CONFIG, "config.json")
"""Files of which a folder that can be looked at has at least one: a home folder is not listed with all its files."""


def open_thing(refs: Sequence[str], dataset: str | None = None) -> Thing:
    """Open the first of `refs`, with the others over it; only runs can be drawn over each other.

    `dataset` has the held-out pairs of the runs, if they are not where the runs remember them. Raise
    ArtefactError for a folder that is not there, HubError for a repo that is not, ConfigError for others that are no
    runs, and for a `dataset` that is none.
    """
    first, *others = [_open(ref) for ref in refs]
    for thing in (first, *others) if others else ():
        if thing.kind != "run":
            raise ConfigError(
                f"only runs are drawn over each other, and `{thing.snapshot.ref}` is none",
                hint=f"hubdpo view {refs[0]}",
            )
    first.others = others
    if dataset is not None:
        if first.kind != "run":
            raise ConfigError(f"`--dataset` belongs to a run, and `{refs[0]}` is none", hint=f"hubdpo view {refs[0]}")
        data = _open(dataset)
        if data.kind != "dataset":
            raise ConfigError(f"`{dataset}` is no dataset", hint="give the dataset that the run was trained on")
        for thing in (first, *others):
            thing.data = data
    return first


def _open(ref: str) -> Thing:
    path = Path(ref)
    if path.is_dir():
        is_starting = not any(path.iterdir()) and is_worked_in(path)
        if not is_starting and not any((path / name).is_file() for name in SHOWN):
            folder_kind(path)  # which raises
        return Thing(FolderSnapshot(ref, all_files=True), Path(ref).resolve().name)
    snapshot = open_snapshot(ref)
    named = snapshot.revision or (snapshot.commit or "")
    return Thing(snapshot, snapshot.name, named[:12] if COMMIT.fullmatch(named) else named or None)
