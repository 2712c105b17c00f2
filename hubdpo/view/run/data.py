"""The dataset of a run, whose held-out pairs are shown: the folder on this machine, or the repo at its commit."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from hubdpo.artefacts.folders.run_folder import remembered_folder
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import HubdpoError
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.view.run.state import Run
from hubdpo.view.thing import Thing

WAIT_S, AGAIN_S = 1.0, 30
"""How long a page waits for a Hub, and seconds after which one that did not answer is asked again."""


class Data(NamedTuple):
    """The dataset, or the reason why it is not shown; `is_asked` while a Hub has not answered yet."""

    thing: Thing | None
    why: str = ""
    is_asked: bool = False


class _Asking:
    """The last outcome, which holds while the dataset is there, or for AGAIN_S; no page waits for a network."""

    def __init__(self, run: Run, manifest: RunManifest) -> None:
        self._run, self._manifest = run, manifest
        self._data, self._since = Data(None), 0.0
        self._guard = threading.Lock()
        self._thread = self._start()

    def data(self) -> Data:
        with self._guard:
            is_over = not self._thread.is_alive() and time.monotonic() - self._since > AGAIN_S
            if self._data.thing is None and self._since and is_over:
                self._thread = self._start()
        self._thread.join(WAIT_S)
        if self._thread.is_alive():
            name = self._manifest.dataset.name if self._manifest.dataset is not None else ""
            return Data(None, f"the Hub is being asked for its dataset, `{name}`", is_asked=True)
        return self._data

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._ask, daemon=True, name="dataset of a run")
        thread.start()
        return thread

    def _ask(self) -> None:
        self._data = Data(None, "of a bug in hubdpo, whose traceback was printed")
        self._data = _found(self._run, self._manifest)
        self._since = time.monotonic()


def data_of(run: Run, manifest: RunManifest, *, on_hub: bool) -> Data:
    """Return the dataset that the run was trained on, if it can be read here and is the same.

    With `on_hub`, the pages of a Hub ask: then each visitor sees what this visitor may read, and nothing is kept.
    """
    if on_hub:
        return _found(run, manifest)
    return run.thing.keep("data", lambda: _Asking(run, manifest)).data()


def _found(run: Run, manifest: RunManifest) -> Data:
    ref, found = manifest.dataset, None
    if ref is None:
        return Data(None, "its dataset is not known: another tool trained it")
    try:
        if run.thing.data is not None:
            found = run.thing.data
        elif run.folder is not None and (folder := remembered_folder(run.folder, "dataset")) is not None:
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
