"""Part `tracked` of `run.json`: where a tracker shows a run, at an address that others can open."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from hubdpo.artefacts.manifests.manifest import Part

MOST_TRACKED = 20
_ADDRESS = re.compile(r"https://[\w.-]+(?::\d+)?(?:/[\w.~%+@:/-]*)?(?:#/[\w.~%/-]*)?", re.ASCII)
"""An address without a user, a password or a query, which may hold a key; MLflow's pages are fragments."""

_OF_A_NETWORK = (".local", ".localhost", ".internal", ".intranet", ".lan", ".corp", ".home.arpa")


def public_address(url: str) -> str | None:
    """Return an address without query, None if others cannot open it: not https, or in this network."""
    bare = re.sub(r"\?[^#]*", "", url.strip())
    if not _ADDRESS.fullmatch(bare):
        return None
    host = urlsplit(bare).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bare if "." in host.strip(".") and not host.endswith(_OF_A_NETWORK) else None
    return None


def _is_public(url: str) -> str:
    if public_address(url) != url:
        raise ValueError("not an address that others can open")
    return url


class TrackedRun(Part):
    """A run in a tracker that shows it to others."""

    tracker: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    """Its name, as `--report-to` takes it."""
    url: Annotated[str, Field(max_length=500), AfterValidator(_is_public)]
    """The address, without a query."""
