"""Git trees, commits and refs in the terms of the Hub API: revisions, entries, LFS pointers."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime

from dulwich.index import commit_tree
from dulwich.object_store import iter_tree_contents
from dulwich.objects import Blob, Commit, ShaFile, Tag, Tree
from dulwich.repo import Repo
from dulwich.walk import Walker

from hubdpo.loopback.http.wire import JSON, Refusal

Files = dict[bytes, tuple[int, bytes]]
"""Path to mode and blob id."""
MOVED = "The branch was updated since you opened this page. Please refresh and try again."
FILE_MODE = 0o100644
COMMIT_ID = re.compile("[0-9a-f]{40}")
POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")


def peeled(repo: Repo, sha: bytes) -> bytes:
    """Return the commit behind an annotated tag, or the commit itself."""
    target = repo.object_store[sha]
    return bytes(target.object[1]) if isinstance(target, Tag) else sha


def resolve(repo: Repo, revision: str) -> bytes:
    """Return the commit of a branch, tag, ref or (abbreviated) sha. Raise Refusal 404 RevisionNotFound."""
    wanted = revision.encode()
    # before branches and tags: what a commit id names never changes, whatever names a repo has
    if COMMIT_ID.fullmatch(revision) and wanted in repo.object_store and isinstance(repo.object_store[wanted], Commit):
        return wanted
    refs = repo.refs.as_dict()
    for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):  # whole names first, as git does
        if sha := refs.get(name.encode()):
            return peeled(repo, sha)
    if re.fullmatch(r"[0-9a-f]{5,39}", revision):
        hits = {entry.commit.id for entry in Walker(repo.object_store, [peeled(repo, sha) for sha in refs.values()])}
        if len(matches := [sha for sha in hits if sha.startswith(wanted)]) == 1:
            return bytes(matches[0])
    raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def files_of(repo: Repo, commit: bytes) -> Files:
    tree = repo.object_store[commit].tree
    return {entry.path: (entry.mode, entry.sha) for entry in iter_tree_contents(repo.object_store, tree)}


def read(repo: Repo, commit: bytes, path: str) -> tuple[bytes, bytes]:
    """Return the blob id and content of a file. Raise Refusal 404 EntryNotFound."""
    blob = find(repo.object_store.__getitem__, commit, path)
    item = repo.object_store[blob]
    if not isinstance(item, Blob):
        raise Refusal(404, "Entry not found", "EntryNotFound")
    return blob, item.data


def find(read: Callable[[bytes], ShaFile], commit: bytes, path: str) -> bytes:
    """Return the object id at a path, without reading the object. Raise Refusal 404 EntryNotFound."""
    try:
        sha: bytes = read(read(commit).tree).lookup_path(read, path.strip("/").encode())[1]
    except Exception:  # dulwich raises KeyError, NotTreeError or ValueError for a missing path
        raise Refusal(404, "Entry not found", "EntryNotFound") from None
    return sha


def pointer(oid: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def pointer_id(oid: str, size: int) -> bytes:
    """Return the id of the blob that stands for a large file."""
    return bytes(Blob.from_string(pointer(oid, size)).id)


def parse_pointer(data: bytes) -> tuple[str, int] | None:
    """Return the SHA-256 and size in an LFS pointer, or None for any other blob."""
    match = POINTER.fullmatch(data) if len(data) < 200 else None
    return (match[1].decode(), int(match[2])) if match else None


def tree_entry(repo: Repo, path: bytes, sha: bytes) -> JSON:
    """Return the tree API's entry of a file or folder; `size` is that of a file's content, not of its LFS pointer."""
    item = repo.object_store[sha]
    entry: JSON = {"type": "directory", "oid": sha.decode(), "size": 0, "path": path.decode()}
    if not isinstance(item, Tree):
        entry |= {"type": "file", "size": len(item.data)}
        if large := parse_pointer(item.data):
            entry["size"] = large[1]
            entry["lfs"] = {"oid": large[0], "size": large[1], "pointerSize": len(item.data)}
    return entry


def list_tree(repo: Repo, tree: bytes, prefix: bytes, *, recursive: bool) -> list[tuple[bytes, bytes]]:
    """Return path and object id of what is in a tree, folders first."""
    entries = list(repo.object_store[tree].iteritems())
    folders: list[tuple[bytes, bytes]] = []
    for name, _, sha in (entry for entry in entries if stat.S_ISDIR(entry[1])):
        folders.append((prefix + name, sha))
        folders += list_tree(repo, sha, prefix + name + b"/", recursive=True) if recursive else []
    return folders + [(prefix + name, sha) for name, mode, sha in entries if not stat.S_ISDIR(mode)]


def add_blob(repo: Repo, data: bytes) -> bytes:
    blob = Blob.from_string(data)
    if blob.id not in repo.object_store:
        repo.object_store.add_object(blob)
    return bytes(blob.id)


def write_commit(
    repo: Repo, ref: bytes, parent: bytes | None, files: Files, message: str, user: str, *,
    replaced: bytes | None = None,
) -> bytes:  # fmt: skip
    """Commit files and move the ref, from the parent, or from the commit that is replaced.

    Raise Refusal 400 for a path that is file and folder, 412 if the ref has moved.
    """
    for path in files:
        parts = path.split(b"/")
        if any(b"/".join(parts[:depth]) in files for depth in range(1, len(parts))):
            raise Refusal(400, f"a file and a folder have the same name: {path.decode()}")
    commit = Commit()
    commit.tree = commit_tree(repo.object_store, [(path, sha, mode) for path, (mode, sha) in files.items()])
    commit.parents = [parent] if parent else []
    commit.author = commit.committer = identity(user)
    commit.author_time = commit.commit_time = int(time.time())
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = _message(message)
    repo.object_store.add_object(commit)
    before = replaced or parent
    moved = repo.refs.set_if_equals(ref, before, commit.id) if before else repo.refs.add_if_new(ref, commit.id)
    if not moved:
        raise Refusal(412, MOVED)
    return bytes(commit.id)


def write_tag(repo: Repo, ref: bytes, commit: bytes, message: str, user: str) -> None:
    """Create a tag, annotated if there is a message. Raise Refusal 409 if it exists."""
    target = commit
    name = ref.removeprefix(b"refs/tags/")
    if message:
        tag = Tag()
        tag.name, tag.message, tag.object = name, _message(message) + b"\n", (Commit, commit)
        tag.tagger = identity(user)
        tag.tag_time, tag.tag_timezone = int(time.time()), 0
        repo.object_store.add_object(tag)
        target = tag.id
    if not repo.refs.add_if_new(ref, target):
        raise Refusal(409, f"Tag {name.decode()} already exists")


def _message(text: str) -> bytes:
    if "\0" in text:
        raise Refusal(400, "a git message cannot contain NUL")
    return text.encode()


def identity(user: str) -> bytes:
    return f"{user} <{user}@users.noreply.localhost>".encode()


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
