"""Permissions: users own the repos under their name and their organisations' names; readers may propose changes; a read
token changes nothing."""

from __future__ import annotations

import base64

from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, User, as_json
from hubdpo.loopback.names import identifier
from hubdpo.loopback.storage.store import Repo, Store

UNAUTHORIZED = "Invalid username or password."
UNGATED = "this Hub has no gated repos: a private one is visible to its owner, or to an organisation's members, only"
WRONG_CREDENTIALS = "Invalid credentials in Authorization header"


def authenticate(store: Store, request: Request) -> User | None:
    """Return the user of a token, None without one; trust a writer's body. Raise Refusal 401 for an unknown token."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return None
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value).decode("utf-8", "replace").partition(":")[2]
        except ValueError:
            raise Refusal(401, WRONG_CREDENTIALS) from None
    user = store.accounts.user_of(value.strip())
    if user is None:
        raise Refusal(401, WRONG_CREDENTIALS)
    if user.may_write:
        request.body.trust()
    return user


def readable(store: Store, user: User | None, kind: str, repo_id: str) -> Repo | None:
    """Return a repo if the user may read it. Every read goes through here; None is an anonymous reader."""
    repo = store.repo(kind, repo_id)
    return repo if repo and may_see(user, repo) else None


def may_see(user: User | None, repo: Repo) -> bool:
    return not repo.private or (user is not None and user.owns(repo.owner))


def still_readable(store: Store, reader: str, kind: str, repo_id: str) -> Repo:
    """Return the repo of a signed URL or Xet token. Raise Refusal 403 if its reader lost access since."""
    accounts = store.accounts
    user = User(reader, False, accounts.orgs_of(reader)) if reader and accounts.is_known(reader) else None
    repo = readable(store, user, kind, repo_id)
    if repo is None or (reader and user is None):
        raise Refusal(403, "the signed repo was deleted or is now private, or the token was revoked")
    return repo


def may_read(store: Store, request: Request, kind: str, repo_id: str) -> Repo:
    """Return the repo that a request names. Raise the same Refusal for a missing and for an unreadable repo."""
    repo = readable(store, request.user, kind, repo_id)
    if repo is None:
        if request.user is None:
            # huggingface.co sends no error code here; its clients recognise this case only over https
            raise Refusal(401, UNAUTHORIZED, "RepoNotFound")
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return repo


def may_write(request: Request, repo: Repo) -> User:
    """Return the user. Raise Refusal unless the request has a write token of the repo's owner."""
    user = known_user(request, "RepoNotFound")
    if not user.owns(repo.owner) or not user.may_write:
        raise Refusal(403, "Forbidden: you must use a write token of the owner to write to this repository.")
    return user


def may_own(user: User, namespace: str, action: str) -> str:
    """Return a namespace that the user owns, in its own spelling. Raise Refusal 403 for any other, or a read token."""
    own = next((own for own in (user.name, *user.orgs) if own.lower() == namespace.lower()), None)
    if own is None or not user.may_write:
        raise Refusal(403, f'You don\'t have the rights to {action} under the namespace "{namespace}"')
    return own


def may_propose(request: Request, repo: Repo) -> User:
    """Return the user. Raise Refusal unless the request has a write token of anyone who can read the repo."""
    user = known_user(request, "RepoNotFound")
    if not user.may_write:
        raise Refusal(403, "Forbidden: you must use a write token to propose a change.")
    return user


def known_user(request: Request, code: str | None = None) -> User:
    """Return the user. Raise Refusal 401, with this code, for a request without a token."""
    if request.user is None:
        raise Refusal(401, UNAUTHORIZED, code)
    return request.user


def check(request: Request, repo: Repo, access: str) -> None:
    """Answer that the user may read or, for any other `access`, write a repo."""
    if access:
        may_write(request, repo)


def ungated(request: Request, repo: Repo) -> Answer:
    """Refuse what clients ask about requests for access."""
    raise Refusal(501, UNGATED)


def whoami(request: Request) -> Answer:
    user = known_user(request)
    role = "write" if user.may_write else "read"
    token = {"displayName": "token", "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}
    return as_json(
        {
            "type": "user", "id": identifier(user.name), "name": user.name, "fullname": user.name,
            "email": f"{user.name}@localhost", "orgs": [_org(name) for name in sorted(user.orgs)],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )  # fmt: skip


def _org(name: str) -> JSON:
    return {
        "type": "org", "id": identifier(name), "name": name, "fullname": name, "email": None, "avatarUrl": "",
        "roleInOrg": "admin",  # every member may do all that the organisation may
    }  # fmt: skip
