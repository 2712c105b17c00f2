"""A release before it is pushed, and what pushing it would change in a repo."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hubdpo.artefacts.manifests.bundle import Bundle, Kind, bundle_id_of
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, CARD_FILE, FileEntry, bytes_entry, canonical_json
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.snapshot import SHA256_DIGITS, Snapshot, git_blob_id
from hubdpo.release.verify.files import beside, first_loaded

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

State = Literal["new", "changed", "unchanged"]
Content = bytes | Path
"""Bytes made for a release, or a file of the folder that is sent unchanged."""


class ReleaseSnapshot(Snapshot):
    """The files of a release, with `hubdpo.json`, which lists them. None of it need be on the Hub yet."""

    def __init__(self, kind: Kind, version: str, files: dict[str, Content], entries: dict[str, FileEntry]) -> None:
        entries = dict(sorted(entries.items()))
        self.kind, self.version, self.tag = kind, version, f"v{version}"
        self.ref = self.name = f"release {self.tag}"
        self.bundle = self.listing = Bundle(
            kind=kind, version=version, bundle_id=bundle_id_of(version, entries), files=entries
        )
        listing = canonical_json(self.listing.model_dump(mode="json")).encode()
        self.contents = dict(sorted({**files, BUNDLE_FILE: listing}.items()))
        self._sha256 = {name: entry.sha256 for name, entry in [*entries.items(), (BUNDLE_FILE, bytes_entry(listing))]}
        self._blob_ids: dict[str, str] = {}

    @property
    def bundle_line(self) -> str:
        """The line by which commits, tags and pull requests name the release that they hold."""
        return f"Hubdpo-Bundle: {self.listing.bundle_id}"

    @property
    def stage(self) -> str:
        """The branch that the files go to first. A repeated push finds it again by the id in its name."""
        return f"hubdpo-stage-{self.version}-{self.listing.bundle_id[:12]}"

    @cached_property
    def files(self) -> dict[str, int]:
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.contents.items()
        }

    def read(self, name: str) -> bytes:
        content = self.contents[name]
        return content if isinstance(content, bytes) else content.read_bytes()

    def digest(self, name: str) -> str:
        return self._sha256[name]

    def blob_id(self, name: str) -> str:
        if name not in self._blob_ids:
            self._blob_ids[name] = git_blob_id(self.read(name))
        return self._blob_ids[name]


class Plan:
    """The differences between a repo at a commit and a release: what a commit must send and delete there."""

    def __init__(self, old: RepoSnapshot | None, new: ReleaseSnapshot) -> None:
        self.old, self.new = old, new
        self._there = old.files if old else {}

    @cached_property
    def states(self) -> dict[str, State]:
        """Each file of the release, beside the file of its name in the repo."""

        def state(name: str) -> State:
            if self.old is None or name not in self._there:
                return "new"
            digest = self.old.digest(name)  # the only hash that the tree of a repo lists
            own = self.new.digest(name) if len(digest) == SHA256_DIGITS else self.new.blob_id(name)
            return "unchanged" if digest == own else "changed"

        return {name: state(name) for name in self.new.files}

    @cached_property
    def sent(self) -> list[str]:
        return [name for name, state in self.states.items() if state != "unchanged"]

    @property
    def holds(self) -> bool:
        """Whether the repo has every file of the release with its bytes, so that nothing need be sent."""
        return not self.sent

    @cached_property
    def deleted(self) -> list[str]:
        """Files of the release that the repo holds now and that the new one does not have."""
        before = self.old.bundle if self.old else None
        return [name for name in (before.files if before else ()) if name in self._there and name not in self.new.files]

    @cached_property
    def kept(self) -> list[str]:
        """Files that are not hubdpo's, which stay as they are."""
        return sorted(self._there.keys() - self.new.files.keys() - set(self.deleted))

    def first_loaded(self, names: Iterable[str]) -> str | None:
        """Return the first of these files that loading the release would read, although it does not list the file."""
        card = self.new.text(CARD_FILE) if self.new.kind == "dataset" else ""
        return first_loaded(self.new.kind, beside(names, self.new.files), card)

    def operations(self) -> list[CommitOperationAdd | CommitOperationDelete]:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        return [
            *(CommitOperationDelete(path_in_repo=name) for name in self.deleted),
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=self.new.contents[name]) for name in self.sent),
        ]
