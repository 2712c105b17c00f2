"""Remove from the disk what nothing refers to any more. The server is stopped meanwhile: nothing is being uploaded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, Tag, Tree

from hubdpo.errors import MachineError
from hubdpo.loopback import gitio, reach
from hubdpo.loopback.storage.folder import read_document, size_of
from hubdpo.loopback.storage.store import Repo, Store

ORDER = (Commit, Tag, Tree, Blob)
"""Objects of git go in this order, so that after a kill no commit is left without its files."""


@dataclass
class Part:
    """A number of files, or of git objects, and their bytes on the disk."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.files += 1
        self.bytes += size


@dataclass
class Garbage:
    """What can be removed, by kind, and how: rows of tables first, because a file without a row does not count."""

    parts: dict[str, Part] = field(default_factory=dict)
    rows: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Statements that delete rows, with their values."""
    removals: list[Callable[[], None]] = field(default_factory=list)

    @property
    def total(self) -> Part:
        return Part(sum(part.files for part in self.parts.values()), sum(part.bytes for part in self.parts.values()))


def find_garbage(store: Store) -> Garbage:
    """Find what no repo refers to. Raise MachineError if a repo is damaged, so that what it refers to is unknown."""
    found = Garbage({"git objects": Part(), "deleted repos": Part(), "LFS files": Part(), "Xet blocks": Part()})
    repos = store.all_repos()
    linked: set[str] = set()
    for repo in repos:
        linked |= _of_repo(store, repo, found)
    places = {repo.place for repo in repos}
    for (place,) in store.query("SELECT DISTINCT place FROM large"):
        if place not in places:
            found.rows.append(("DELETE FROM large WHERE place = ?", (place,)))
    _folders_of_no_repo(store, places, found)
    _files(store.large, linked, found, "LFS files")
    used: set[str] = set()
    for name, oid, terms in store.query("SELECT hash, oid, terms FROM xet"):
        if oid in linked:
            used |= {term["xorb"] for term in json.loads(terms)}
        else:
            found.rows.append(("DELETE FROM xet WHERE hash = ?", (name,)))
    for (xorb,) in store.query("SELECT hash FROM xorb"):
        if xorb not in used:
            found.rows.append(("DELETE FROM xorb WHERE hash = ?", (xorb,)))
            found.rows.append(("DELETE FROM chunk WHERE xorb = ?", (xorb,)))
    _files(store.root / "xorbs", used, found, "Xet blocks")
    return found


def remove(store: Store, garbage: Garbage) -> None:
    """Remove all of it. A second run finds what one that was killed has left."""
    with store.tables.transaction():
        for statement, values in garbage.rows:
            store.query(statement, *values)
        if any(statement.startswith("DELETE FROM xorb") for statement, _ in garbage.rows):
            store.query("INSERT INTO collected VALUES (?)", time.time())
    for removal in garbage.removals:
        removal()


def _of_repo(store: Store, repo: Repo, found: Garbage) -> set[str]:
    """Add the garbage of a repo, and return the SHA-256 of the large files that it refers to."""
    folder, reached = store.git_folder(repo), _reachable(store, repo)
    with store.git(repo) as git:
        packed = {sha for pack in git.object_store.packs for sha in pack} - reached
        loose = {path: path.parent.name + path.name for path in (folder / "objects").glob(f"??/{'?' * 38}")}
        dead = {path: sha.encode() for path, sha in loose.items() if sha.encode() not in reached}
        in_order = sorted(dead, key=lambda path: ORDER.index(type(git.object_store[dead[path]])))
    for path in in_order:
        found.parts["git objects"].add(size_of(path))
        found.removals.append(path.unlink)
    if packed:
        found.parts["git objects"].files += len(packed)  # their bytes are known when the rest is packed again
        found.removals.append(lambda: _repack(store, repo, packed))
    linked: set[str] = set()
    for large in store.large_of(repo):
        if gitio.pointer_id(large.oid, large.size) in reached:
            linked.add(large.oid)
        else:
            found.rows.append(("DELETE FROM large WHERE place = ? AND oid = ?", (repo.place, large.oid)))
    return linked


def _reachable(store: Store, repo: Repo) -> set[bytes]:
    try:
        with store.git(repo) as git:
            # a pull request is merged by what changed since its base
            discussions = read_document(store.git_folder(repo) / "discussions.json")
            bases = {entry["base"].encode() for entry in discussions if entry["pull_request"]}
            return reach.reachable(git, bases & {*git.object_store})
    except (KeyError, NotGitRepository) as problem:
        raise MachineError(
            f"the repo {repo.id} is damaged, nothing was removed: {problem} is missing",
            hint=f"git -C {store.git_folder(repo)} fsck",
        ) from None


def _repack(store: Store, repo: Repo, dead: set[bytes]) -> None:
    with store.git(repo) as git:
        git.object_store.repack(exclude=dead)


def _folders_of_no_repo(store: Store, places: Iterable[str], found: Garbage) -> None:
    known = {store.root / "repos" / place for place in places}
    for folder in store.root.glob("repos/*/*/*.git"):
        if folder not in known:
            for path in folder.rglob("*"):
                if path.is_file():
                    found.parts["deleted repos"].add(size_of(path))
            found.removals.append(lambda folder=folder: shutil.rmtree(folder))  # type: ignore[misc]


def _files(folder: Path, used: set[str], found: Garbage, kind: str) -> None:
    """Add the files below a folder whose names nothing uses."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in used:
            found.parts[kind].add(size_of(path))
            found.removals.append(path.unlink)
