"""What is looked at: a dataset, a run or a release, in a folder or at a commit of a repo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from hubdpo.artefacts.folders.run_folder import is_worked_in
from hubdpo.artefacts.manifests.manifest import CARD_FILE, METRICS_FILE, PREPARE_FILE, RUN_FILE, SWEEP_FILE
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.view.kept import Kept, Made

if TYPE_CHECKING:
    from hubdpo.view.markdown import Formatted
    from hubdpo.view.page import Asked

Kind = Literal["dataset", "run", "files"]
FEW = 8
"""Comparisons and changes of commits that are kept."""

MOST_TEXT = 8_000_000
"""Characters of HTML of formatted texts that are kept."""


def kept_texts() -> Kept:
    return Kept(MOST_TEXT, lambda made: len(made.html))


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
    kept: Kept = field(default_factory=Kept)
    texts: Kept = field(default_factory=kept_texts)
    few: Kept = field(default_factory=lambda: Kept(FEW))
    scope: str = ""
    """Begins the names in `texts` and `few` where other things have the same."""

    def keep(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what pages have made of the thing before, or make it: a snapshot never changes."""
        return self.kept.take(name, make)

    def keep_few(self, name: str, make: Callable[[], Made]) -> Made:
        """Do as `keep` for what visitors can ask for without an end: what was used last stays."""
        return self.few.take(self.scope + name, make)

    def keep_text(self, name: str, make: Callable[[], Formatted]) -> Formatted:
        """Do as `keep` for formatted texts, of which the last ones shown stay."""
        return self.texts.take(self.scope + name, make)

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
