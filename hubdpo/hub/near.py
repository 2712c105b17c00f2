"""Find on the Hub what was probably meant by a name that it does not have, with a request or two that may fail."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hubdpo.config.repo_id import SPELLED_AS_DATASET, is_repo_id
from hubdpo.errors import Instead
from hubdpo.hub.reference import RepoType
from hubdpo.hub.transport import api, unrepeated
from hubdpo.hub.versions import newest_first, parse_tag

T = TypeVar("T")
MOST_LISTED = 200
"""Repos of an owner among which a name is looked for."""
LEAST_ALIKE = 0.75


def near_repo(ref: str, repo_type: RepoType | None) -> Instead | None:
    """Return the repo of the same owner whose name is nearest to that in `[datasets/]USER/NAME[@REVISION]`."""
    repo_id = SPELLED_AS_DATASET.sub("", ref).partition("@")[0]
    if not is_repo_id(repo_id):
        return None
    names = [] if repo_type == "dataset" else _names(api().list_models, repo_id)
    names += [] if repo_type == "model" else _names(api().list_datasets, repo_id)
    near = difflib.get_close_matches(repo_id, names, n=1, cutoff=LEAST_ALIKE)
    return Instead(ref, ref.replace(repo_id, near[0], 1)) if near else None


def _names(lists: Callable[..., Iterable[Any]], repo_id: str) -> list[str]:
    owner = repo_id.partition("/")[0]
    return _asked(lambda: [str(repo.id) for repo in lists(author=owner, limit=MOST_LISTED)]) or []


def near_revision(repo_id: str, revision: str, repo_type: RepoType) -> Instead | None:
    """Return the tag or branch that was meant: `v1.0.0` by `1.0.0` and `v1.0`, `main` by `mian`."""
    refs = _asked(lambda: api().list_repo_refs(repo_id, repo_type=repo_type))
    if refs is None:
        return None
    names = [ref.name for ref in (*refs.tags, *refs.branches)]
    bare = revision.removeprefix("v")
    alike = [name for name in newest_first(names) if f"{name}.".startswith(f"v{bare}.")]
    if not alike and parse_tag(f"v{bare}") is None:
        alike = difflib.get_close_matches(revision, names, n=1, cutoff=LEAST_ALIKE)
    return Instead(f"{repo_id}@{revision}", f"{repo_id}@{alike[0]}") if alike else None


def who() -> str | None:
    """Return the user whose token is sent, None where that is not known."""
    found = _asked(lambda: api().whoami())
    return None if found is None else str(found["name"])


def _asked(call: Callable[[], T]) -> T | None:
    """Return what the Hub answers, None where it does not: what is asked is an error's hint, and no more than that."""
    try:
        with unrepeated():
            return call()
    except Exception:
        return None
