"""Errors for a repo that is not there, or not this user's: what they are told depends on who asks."""

from __future__ import annotations

import os

from hubdpo.config.repo_id import SPELLED_AS_DATASET, is_repo_id
from hubdpo.errors import HubError, Instead
from hubdpo.hub.near import near_repo, who
from hubdpo.hub.reference import RepoType
from hubdpo.hub.transport import hub_address


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
