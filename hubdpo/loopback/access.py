"""Who may do what: a user owns the repos under their name; others may propose; a read token changes nothing."""

from __future__ import annotations

import base64
from typing import Any

from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Refusal, Request, User


def authenticate(store: Store, request: Request) -> User | None:
    """Return the user of the token, None without one. Raise Refusal 401 for a token that is not known."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if not kind:
        return None
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value).decode("utf-8", "replace").partition(":")[2]
        except ValueError:
            raise Refusal(401, "Invalid credentials in Authorization header") from None
    user = store.user_of(value.strip())
    if user is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return user


def may_read(store: Store, request: Request, kind: str, repo_id: str) -> dict[str, Any]:
    """Return the repo. Raise Refusal when it is missing, or private and another's: the two look alike."""
    found = store.repo(kind, repo_id)
    if found is None or (found["private"] and not _owns(request.user, repo_id)):
        if request.user is None:
            # the public Hub sends no code here, but its clients tell this case by https alone
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return found


def may_write(store: Store, request: Request, kind: str, repo_id: str) -> User:
    """Return the user. Raise Refusal unless they own the repo and hold a write token."""
    may_read(store, request, kind, repo_id)
    if request.user is None:
        raise Refusal(401, "Invalid username or password.", "RepoNotFound")
    if not _owns(request.user, repo_id) or not request.user.may_write:
        raise Refusal(403, "Forbidden: you must use a write token of the owner to write to this repository.")
    return request.user


def may_propose(store: Store, request: Request, kind: str, repo_id: str) -> User:
    """Return the user. Raise Refusal unless they may read the repo and hold a write token, whoever owns it."""
    may_read(store, request, kind, repo_id)
    if request.user is None:
        raise Refusal(401, "Invalid username or password.", "RepoNotFound")
    if not request.user.may_write:
        raise Refusal(403, "Forbidden: you must use a write token to propose a change.")
    return request.user


def _owns(user: User | None, repo_id: str) -> bool:
    return user is not None and repo_id.partition("/")[0] == user.name
