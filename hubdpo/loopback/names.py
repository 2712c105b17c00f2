"""Validate names from clients (repo kinds, repos, refs, files) before they reach the file system or git."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from dulwich.index import validate_path, validate_path_element_hfs, validate_path_element_ntfs
from dulwich.refs import check_ref_format

from hubdpo.loopback.http.wire import Refusal

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space", "kernels": "kernel"}
"""The kind of a repo by its name in URLs."""
NAME = re.compile(r"[\w-][\w.-]{0,94}[\w-]|\w", re.ASCII)
RESERVED = {*KINDS, "api", "collections", "login", "settings", "resolve", "raw", "_cdn", "_lfs", "_xet"}
"""Words that start other URLs."""
NO_REPOS = {"resolve", "raw"}
"""Words that follow the id of a repo without an owner in the URLs of its files."""
UNSEEN = re.compile(r"[\x00-\x1f\x7f]")
DRIVE = re.compile(r"[A-Za-z]:(/|$)")
SAFE_ON_DISK = (validate_path_element_ntfs, validate_path_element_hfs)
LONGEST_PATH, LONGEST_PART, DEEPEST = 1024, 255, 64
"""Longest path and longest name in it, in bytes, and most names in a path: clients store them as files."""
LONGEST_REF = 200
OTHERS = re.compile("|HEAD|[0-9a-fA-F]{40}|refs/pr/.*", re.DOTALL)
"""Names that would be mistaken for the ids of commits or the refs of pull requests."""


def repo_kind(value: str) -> str:
    """Return the kind of a repo, `model` for "". Raise Refusal 400 for an unknown kind."""
    kind = value or "model"
    if kind not in KINDS.values():
        raise Refusal(400, f"Invalid repo type: {value}")
    return kind


def owner_name(value: str) -> str:
    """Return the name of a user. Raise Refusal 400 for a name under which no repo could be reached."""
    if value.lower() in RESERVED or value.startswith("-") or value.endswith("-"):
        raise Refusal(400, f"a reserved name: {value}")
    return repo_name(value)


def repo_name(value: str) -> str:
    """Return the name of a repo without its owner. Raise Refusal 400 for names that huggingface.co refuses."""
    if (
        not NAME.fullmatch(value)
        or "--" in value
        or ".." in value
        or value.endswith(".git")
        or value.lower() in NO_REPOS
    ):
        raise Refusal(400, f"Invalid repo name: {value}")
    return value


def ref_name(prefix: str, value: str, present: Iterable[bytes]) -> bytes:
    """Return the ref of a new branch or tag. Raise Refusal 400 if it is invalid, 409 if it clashes with `present`."""
    ref = prefix.encode() + value.encode()
    if OTHERS.fullmatch(value) or len(ref) > LONGEST_REF or not check_ref_format(ref):
        raise Refusal(400, f"Invalid reference name: {value}")
    # git stores a ref as a file, so `a/b` cannot exist beside `a`
    if near := [other for other in present if other.startswith(ref + b"/") or ref.startswith(other + b"/")]:
        raise Refusal(409, f"Reference {value} cannot exist beside {near[0].decode()}")
    return ref


def file_path(value: str) -> bytes:
    """Return the path of a file in a repo. Raise Refusal 422 if git or a common file system would refuse it."""
    path = value.encode()
    parts = path.split(b"/")
    short = len(path) <= LONGEST_PATH and len(parts) <= DEEPEST and max(map(len, parts)) <= LONGEST_PART
    plain = not UNSEEN.search(value) and "\\" not in value and not DRIVE.match(value)
    if not (short and plain and all(validate_path(path, is_safe) for is_safe in SAFE_ON_DISK)):
        raise Refusal(422, f"Invalid path: {value[:LONGEST_PATH]!r}")
    return path


def identifier(*parts: str) -> str:
    """Return the id of an object in the API, 24 hexadecimal digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
