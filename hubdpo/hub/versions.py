"""Release versions: tags `vX.Y.Z`, ordered as semver.org orders them, without pre-releases."""

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


def newest_first(tags: Iterable[str]) -> list[str]:
    """Return the tags that are versions, the highest version first."""
    versions = {tag: version for tag in tags if (version := parse_tag(tag)) is not None}
    return sorted(versions, key=versions.__getitem__, reverse=True)


def highest(tags: Iterable[str]) -> str | None:
    """Return the tag of the highest version, or None when no tag is a version."""
    return next(iter(newest_first(tags)), None)


def is_higher(tag: str | None, other: str) -> bool:
    """Tell whether `tag` is a higher version than `other`. No version is lower than any."""
    return (parse_tag(tag or "") or (-1,)) > (parse_tag(other) or (-1,))


def major(tag: str) -> int | None:
    """Return the first number of a version, or None for any other tag."""
    return next(iter(parse_tag(tag) or ()), None)


def bump(tag: str | None, part: str) -> str:
    """Return the version after `tag` with its `major`, `minor` or `patch` number increased, from 0.0.0 on."""
    numbers = list(parse_tag(tag or "") or (0, 0, 0))
    index = BUMPS.index(part)
    return ".".join(map(str, [*numbers[:index], numbers[index] + 1, *[0] * (2 - index)]))
