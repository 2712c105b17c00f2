"""Who may do what: a user owns the repos under their name; others may propose; a read token changes nothing."""

from __future__ import annotations

import base64
from typing import Any

from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Refusal, Request, User


def authenticate(store: Store, request: Request) -> User | None:
    """Return the user of the token, None without one; trust who may write. Raise Refusal 401 for an unknown token."""
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
    if user.may_write:
        request.body.trust()
    return user


def readable(store: Store, reader: str, kind: str, repo_id: str) -> dict[str, Any] | None:
    """Return the repo if the user of that name, "" for anybody, may read it; everything that is shown asks here."""
    found = store.repo(kind, repo_id)
    return None if found and found["private"] and not _owns(reader, repo_id) else found


def still_readable(store: Store, reader: str, kind: str, repo_id: str) -> None:
    """Raise Refusal 403 when a repo is gone or private by now, to whom an address or a Xet token was given."""
    if readable(store, reader, kind, repo_id) is None:
        raise Refusal(403, "what this was signed for is gone, or is private by now")


def may_read(store: Store, request: Request, kind: str, repo_id: str) -> dict[str, Any]:
    """Return the repo. Raise Refusal when it is missing, or private and another's: the two look alike."""
    found = readable(store, request.user.name if request.user else "", kind, repo_id)
    if found is None:
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
    if not _owns(request.user.name, repo_id) or not request.user.may_write:
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


def _owns(name: str, repo_id: str) -> bool:
    return bool(name) and repo_id.partition("/")[0] == name
