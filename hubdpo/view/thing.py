"""What is looked at: a dataset, a run or a release, in a folder or at a commit of a repo."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hubdpo.artefacts.folders.run_folder import is_worked_in
from hubdpo.artefacts.manifests.manifest import CARD_FILE, METRICS_FILE, PREPARE_FILE, RUN_FILE, SWEEP_FILE
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot

if TYPE_CHECKING:
    from hubdpo.view.page import Asked

Made = TypeVar("Made")
Kind = Literal["dataset", "run", "files"]


@dataclass
class Thing:
    """A Snapshot that pages show, with the other runs that are drawn over it.

    `title` names it in the head of each page; `revision` is the branch, tag or commit in its addresses, None for a
    folder.
    """

    snapshot: Snapshot
    title: str
    revision: str | None = None
    others: Sequence[Thing] = ()
    data: Thing | None = None
    """The dataset of a run, if it was given."""
    _kept: dict[str, Any] = field(default_factory=dict)
    _guard: threading.RLock = field(default_factory=threading.RLock)

    def keep(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what pages have made of the thing before, or make it: a snapshot never changes."""
        with self._guard:
            if name not in self._kept:
                self._kept[name] = make()
            made: Made = self._kept[name]
        return made

    @cached_property
    def kind(self) -> Kind:
        """`run` is also a sweep of runs, or one that is starting; `files` is anything else, such as a merged model."""
        files = self.snapshot.files
        is_starting = not files and isinstance(self.snapshot, FolderSnapshot) and is_worked_in(self.snapshot.folder)
        if is_starting or RUN_FILE in files or METRICS_FILE in files or SWEEP_FILE in files:
            return "run"
        return "dataset" if PREPARE_FILE in files else "files"

    def frame(self, asked: Asked) -> dict[str, Any]:
        """Return what stands above the tabs: `crumbs` are names with their addresses, the last one its own."""
        return {"crumbs": [(self.title, asked.link())], "revision": self.revision}

    @property
    def has_card(self) -> bool:
        return CARD_FILE in self.snapshot.files

    def dataset(self, repo_id: str, revision: str) -> Thing | None:
        """Open a dataset of the same Hub at a commit, None where this reader cannot see it. Raise HubError."""
        return Thing(open_snapshot(f"{repo_id}@{revision}", repo_type="dataset"), repo_id)
