"""The dataset of a run, whose held-out pairs are shown: the folder on this machine, or the repo at its commit."""

from __future__ import annotations

import time
from typing import NamedTuple

from hubdpo.artefacts.folders.run_folder import remembered_folder
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import HubdpoError
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.view.run.state import Run
from hubdpo.view.thing import Thing

AGAIN_S = 30
"""Seconds after which a Hub that did not answer is asked again."""


class Data(NamedTuple):
    """The dataset, or the reason why it is not shown."""

    thing: Thing | None
    why: str = ""


class _Kept:
    """The last outcome, which holds for as long as the dataset is there, or for AGAIN_S."""

    data: Data | None = None
    since = 0.0


def data_of(run: Run, manifest: RunManifest, *, on_hub: bool) -> Data:
    """Return the dataset that the run was trained on, if it can be read here and is the same.

    With `on_hub`, the pages of a Hub ask: then each visitor sees what this visitor may read, and nothing is kept.
    """
    if on_hub:
        return _found(run, manifest)
    kept = run.thing.keep("data", _Kept)
    if kept.data is None or (kept.data.thing is None and time.monotonic() - kept.since > AGAIN_S):
        kept.data, kept.since = _found(run, manifest), time.monotonic()
    return kept.data


def _found(run: Run, manifest: RunManifest) -> Data:
    ref, found = manifest.dataset, None
    try:
        if run.folder is not None and (folder := remembered_folder(run.folder, "dataset")) is not None:
            found = Thing(FolderSnapshot(folder), folder.name)
        elif ref.repo_id and ref.revision:
            found = run.thing.dataset(ref.repo_id, ref.revision)
        if found is None:
            return Data(None, f"its dataset, `{ref.name}`, cannot be read here")
        prepared = found.snapshot.prepare
    except HubdpoError as problem:
        return Data(None, f"its dataset cannot be read: {problem.message}")
    if prepared is None or prepared.fingerprint != ref.fingerprint:
        return Data(None, f"`{found.title}` holds other data than the run was trained on")
    return Data(found)
