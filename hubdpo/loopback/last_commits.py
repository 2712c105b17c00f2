"""Find the commit that last changed each file and folder, in one walk over the history."""

from __future__ import annotations

import functools
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from dulwich.repo import Repo

ENTRY = re.compile(rb"[0-7]+ [^\0]+\0.{20}", re.DOTALL)
"""An entry of a tree as git stores it: mode, name, object id."""
FOLDER = b"40000"
MOST_FOLDERS = 32
"""Most folders that are kept in memory during a walk."""
MOST_KEPT = 200_000
"""Most paths for which commits are kept in memory, of all revisions together."""


class LastCommits:
    """The commits that last changed the paths of a revision. A revision never changes, so answers are kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Mapping[bytes, bytes]] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, git: Repo, head: bytes) -> Mapping[bytes, bytes]:
        """Return path to commit id for all files and folders at the commit `head`."""
        with self._guard:  # one walk at a time: the next may find what this one has found
            if head not in self._kept:
                self._kept[head] = _walk(git, head, self._kept)
                while sum(map(len, self._kept.values())) > MOST_KEPT and len(self._kept) > 1:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(head)
            return self._kept[head]


def _walk(git: Repo, head: bytes, known: Mapping[bytes, Mapping[bytes, bytes]]) -> dict[bytes, bytes]:
    """Follow each path back, as `git log` does, to a commit all of whose parents have something else there."""

    @functools.lru_cache(MOST_FOLDERS)  # a parent's folders are those of the next commit
    def entries(tree: bytes) -> frozenset[bytes]:
        return frozenset(ENTRY.findall(_content(git, tree)))

    found: dict[bytes, bytes] = {}
    wanted = {head: _changes(entries, None, git.object_store[head].tree)}
    while wanted:
        newest = next(iter(wanted))
        if len(wanted) > 1:
            newest = max(wanted, key=lambda sha: git.object_store[sha].commit_time)
        paths = wanted.pop(newest)
        if newest in known:
            found |= {path: known[newest][path] for path in paths}
            continue
        commit = git.object_store[newest]
        for parent in commit.parents:
            changed = paths & _changes(entries, git.object_store[parent].tree, commit.tree)
            paths -= changed
            if paths:
                wanted[parent] = wanted[parent] | paths if parent in wanted else paths
            paths = changed
        found |= dict.fromkeys(paths, newest)
    return found


def _changes(entries: Callable[[bytes], frozenset[bytes]], old: bytes | None, new: bytes) -> set[bytes]:
    """Return the paths in a tree that an older one does not have, or has with other content; None is an empty tree."""
    changed: set[bytes] = set()
    left: list[tuple[bytes, bytes | None, bytes]] = [(b"", old, new)]
    while left:
        prefix, old, new = left.pop()
        if old == new:
            continue
        before, after = entries(old) if old else frozenset(), entries(new)
        folders = {name: tree for name, tree in map(_parsed, before - after) if tree}
        for name, tree in map(_parsed, after - before):
            changed.add(prefix + name)
            if tree:
                left.append((prefix + name + b"/", folders.get(name), tree))
    return changed


def _content(git: Repo, tree: bytes) -> bytes:
    name = tree.decode()
    try:
        loose = Path(git.object_store.path, name[:2], name[2:]).read_bytes()
    except FileNotFoundError:  # in a pack
        return bytes(git.object_store.get_raw(tree)[1])
    return zlib.decompress(loose).partition(b"\0")[2]  # dulwich would parse each entry as well


def _parsed(entry: bytes) -> tuple[bytes, bytes | None]:
    """Return the name in an entry, and the id of its tree if it is a folder."""
    head, sha = entry[:-21], entry[-20:]
    mode, _, name = head.partition(b" ")
    return name, sha.hex().encode() if mode == FOLDER else None
