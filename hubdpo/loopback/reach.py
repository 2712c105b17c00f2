"""Everything that the refs of a git repo reach, and histories rewritten without some of their files."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping

from dulwich.objects import Commit, Tag, Tree
from dulwich.repo import Repo


def reachable(git: Repo, also: Iterable[bytes] = ()) -> set[bytes]:
    """Return the ids of all objects that a ref or one of these commits reaches. Raise KeyError if one is missing.

    Blobs are not looked at.
    """
    seen: set[bytes] = set()
    for sha in (*git.refs.as_dict().values(), *also):
        for commit in _history(git, sha, seen):
            seen.update([blob for _, blob in _blobs(git, commit.tree, seen)])
    return seen


def named_blobs(git: Repo, wanted: set[bytes]) -> dict[bytes, tuple[str, str]]:
    """Return a path and a ref for each of these blobs that a ref reaches, the main branch before others and tags."""
    refs = {ref: sha for ref, sha in git.refs.as_dict().items() if ref != b"HEAD"}
    order = (b"refs/heads/main", b"refs/heads/", b"refs/tags/")
    found: dict[bytes, tuple[str, str]] = {}
    seen: set[bytes] = set()
    for ref in sorted(refs, key=lambda ref: ([not ref.startswith(prefix) for prefix in order], ref)):
        for commit in _history(git, refs[ref], seen):
            for path, blob in _blobs(git, commit.tree, seen):
                if blob in wanted and blob not in found:
                    found[blob] = path.decode(), ref.decode().removeprefix("refs/heads/")
    return found


def rewrite_without(git: Repo, blobs: set[bytes], also: Iterable[bytes] = ()) -> dict[bytes, bytes]:
    """Move all refs to histories without these blobs. Return the new id of each commit that they or `also` reach."""
    commits: dict[bytes, bytes] = {}
    trees: dict[bytes, bytes | None] = {}

    def rewritten(head: bytes) -> bytes:
        for commit in _oldest_first(git, head, commits):
            old = commit.id
            commit.tree = _tree_without(git, commit.tree, blobs, trees) or _add_tree(git, Tree())
            commit.parents = [commits[parent] for parent in commit.parents]
            git.object_store.add_object(commit)
            commits[old] = commit.id
        return commits[head]

    for sha in also:
        rewritten(sha)
    for ref, sha in git.refs.as_dict().items():
        if ref == b"HEAD":
            continue
        tag = git.object_store[sha]
        peeled = tag.object[1] if isinstance(tag, Tag) else sha
        new = rewritten(peeled)
        if new == peeled:
            continue
        if isinstance(tag, Tag):
            tag.object = (Commit, new)
            git.object_store.add_object(tag)
            new = tag.id
        git.refs.set_if_equals(ref, sha, new)
    return commits


def _history(git: Repo, sha: bytes, seen: set[bytes]) -> Iterator[Commit]:
    """Yield the commits that a ref reaches and that are not in `seen`, to which they are added; newest first."""
    left = [sha]
    while left:
        sha = left.pop(0)
        if sha in seen:
            continue
        seen.add(sha)
        item = git.object_store[sha]
        if isinstance(item, Tag):
            left.append(item.object[1])
        elif isinstance(item, Commit):
            yield item
            left += item.parents


def _oldest_first(git: Repo, sha: bytes, done: Mapping[bytes, bytes]) -> Iterator[Commit]:
    """Yield the commits that `sha` reaches, each after its parents, without those that are in `done` by then."""
    left = [sha]
    while left:
        commit = git.object_store[left[-1]]
        if commit.id in done:
            left.pop()
        elif missing := [parent for parent in commit.parents if parent not in done]:
            left += missing
        else:
            left.pop()
            yield commit


def _blobs(git: Repo, tree: bytes, seen: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield path and id of the blobs in a tree; trees in `seen` are skipped."""
    left = [(b"", tree)]
    while left:
        prefix, sha = left.pop()
        if sha in seen:
            continue
        seen.add(sha)
        for entry in git.object_store[sha].iteritems():
            if stat.S_ISDIR(entry.mode):
                left.append((prefix + entry.path + b"/", entry.sha))
            else:
                yield prefix + entry.path, entry.sha


def _tree_without(git: Repo, sha: bytes, blobs: set[bytes], done: dict[bytes, bytes | None]) -> bytes | None:
    """Return a tree without these blobs, None if nothing is left. A path has at most 64 names, so recursion is safe."""
    if sha not in done:
        old, new = git.object_store[sha], Tree()
        for entry in old.iteritems():
            is_folder = stat.S_ISDIR(entry.mode)
            kept = _tree_without(git, entry.sha, blobs, done) if is_folder else entry.sha
            if kept is not None and kept not in blobs:
                new.add(entry.path, entry.mode, kept)
        done[sha] = sha if new.id == sha else _add_tree(git, new) if len(new) else None
    return done[sha]


def _add_tree(git: Repo, tree: Tree) -> bytes:
    git.object_store.add_object(tree)
    return bytes(tree.id)
