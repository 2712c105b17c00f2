"""Versions are tags `vX.Y.Z` (semver.org, without pre-releases)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hubdpo.config.push import BUMPS

Version = tuple[int, int, int]
_TAG = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def parse_tag(tag: str) -> Version | None:
    """Return the numbers of `vX.Y.Z`, or None for any other tag."""
    match = _TAG.fullmatch(tag)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def highest(tags: Iterable[str]) -> str | None:
    """Return the newest version among the tags, or None when there is none."""
    versions = {version: tag for tag in tags if (version := parse_tag(tag))}
    return versions[max(versions)] if versions else None


def is_ahead(tag: str | None, other: str) -> bool:
    """Tell whether a version is the other one or a higher one; False for no version."""
    numbers = parse_tag(tag or "")
    return numbers is not None and numbers >= (parse_tag(other) or numbers)


def bump(tag: str | None, part: str) -> str:
    """Return the version after `tag` with its `major`, `minor` or `patch` counted on; after None, one from 0.0.0."""
    numbers = list(parse_tag(tag or "") or (0, 0, 0))
    place = BUMPS.index(part)
    return ".".join(map(str, [*numbers[:place], numbers[place] + 1, *[0] * (2 - place)]))
