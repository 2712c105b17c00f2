"""What is looked at: a dataset, a run or a release, in a folder or at a commit of a repo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hubdpo.artefacts.manifests.manifest import CARD_FILE, METRICS_FILE, PREPARE_FILE, RUN_FILE
from hubdpo.hub.snapshot import Snapshot

Kind = Literal["dataset", "run", "files"]


@dataclass
class Thing:
    """A Snapshot that pages show, with the other runs that are drawn over it.

    `title` names it in the head of each page; `revision` is the branch, tag or commit in its addresses, None for a
    folder. `kept` holds what pages have computed once, by name: a snapshot never changes.
    """

    snapshot: Snapshot
    title: str
    revision: str | None = None
    others: Sequence[Thing] = ()
    kept: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def kind(self) -> Kind:
        """`run` is also what training left in a repo; `files` is anything else, such as a merged model."""
        files = self.snapshot.files
        if RUN_FILE in files or METRICS_FILE in files:
            return "run"
        return "dataset" if PREPARE_FILE in files else "files"

    @property
    def has_card(self) -> bool:
        return CARD_FILE in self.snapshot.files
