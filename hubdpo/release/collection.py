"""Add a released repo to a collection on the Hub."""

from __future__ import annotations

from hubdpo.errors import HubError
from hubdpo.hub.failures import translate_errors
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import api
from hubdpo.release.remote import Remote


def check_collection(name: str) -> None:
    """Raise HubError when the collection `OWNER/SLUG` does not exist. A new title is no error: it is created."""
    if "/" in name:
        try:
            with translate_errors(name):
                repeat(lambda: api().get_collection(name))
        except HubError as problem:
            raise HubError(
                f"the collection `{name}` cannot be found: {problem.message}",
                hint="give OWNER/SLUG as its address ends, or a title to make one",
            ) from None


def add_to_collection(name: str, remote: Remote) -> str:
    """Add the repo to the collection `OWNER/SLUG`, or to its owner's collection of this title; return its address.

    A collection with a new title is created. A repo that is in the collection already is not added twice.
    """
    with translate_errors(name):
        slug = name
        if "/" not in name:
            owner = remote.repo_id.partition("/")[0]
            slug = repeat(lambda: api().create_collection(name, namespace=owner, exists_ok=True)).slug
        done = repeat(lambda: api().add_collection_item(slug, remote.repo_id, remote.repo_type, exists_ok=True))
    return str(done.url)
