"""Errors for what is not on the Hub, or not this user's: who asks, and what was probably meant, takes a request or two.

These requests may fail: what they find is a hint, and no more than that.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hubdpo.config.repo_id import SPELLED_AS_DATASET, is_repo_id
from hubdpo.errors import HubError, Instead
from hubdpo.hub.reference import RepoType
from hubdpo.hub.transport import api, hub_address, unrepeated
from hubdpo.hub.versions import newest_first, parse_tag

T = TypeVar("T")
MOST_LISTED = 200
"""Repos of an owner among which a name is looked for."""
LEAST_ALIKE = 0.75


def not_there(what: str, repo_type: RepoType | None = None) -> HubError:
    """Return the error for a repo that is not on the Hub, as far as this login sees: only others' private ones are."""
    bare = SPELLED_AS_DATASET.sub("", what)
    message = f"`{bare.partition('@')[0]}` is not on {hub_address()}, or is private"
    repo_type = repo_type or (None if bare == what else "dataset")
    if (near := near_repo(what, repo_type)) is not None:
        return HubError(message, hint=near)
    if token() is None or who() is None:
        return HubError(f"{message}: check the name, or log in", hint=log_in())
    hint = f"hf {repo_type or 'model'}s ls --author {bare.partition('/')[0]}"
    return HubError(f"{message}, and not for this login to see", hint=hint)


def not_yours(what: str) -> HubError:
    """Return the error for a repo that this token may not write to: of another user, or of a token that reads."""
    user, (owner, _, name) = who(), what.partition("/")
    is_other = user not in (None, owner) and is_repo_id(what)
    whose = "this token" if user is None else f"the token of `{user}`"
    return HubError(f"{whose} cannot write to `{what}`", hint=Instead(what, f"{user}/{name}") if is_other else log_in())


def log_in() -> str:
    """Return the command that logs in with another token; one in the environment would win over it."""
    return f"{'unset HF_TOKEN && ' * ('HF_TOKEN' in os.environ)}hf auth login"


def token() -> str | None:
    """Return the token that is sent, None where nobody is logged in."""
    from huggingface_hub import get_token

    found: str | None = get_token()
    return found


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
    return _asked(lambda: str(api().whoami()["name"]))


def _asked(call: Callable[[], T]) -> T | None:
    """Return what the Hub answers, None where it does not."""
    try:
        with unrepeated():
            return call()
    except Exception:
        return None
