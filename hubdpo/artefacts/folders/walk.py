"""List the files of a folder and of a glob, following links; a folder that cannot be listed is an error."""

from __future__ import annotations

import fnmatch
import glob
import os
import shlex
from pathlib import Path
from typing import NoReturn

from hubdpo.errors import DataError

SCRATCH = ".hubdpo-tmp"
"""Suffix of the scratch folders of prepare and merge, also of those that a kill left behind."""


def files_below(folder: Path) -> list[Path]:
    """Return all files below `folder`, sorted by path. Links to folders are followed, and each folder is listed once.

    Raise DataError for a folder that cannot be listed.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    tops = [folder]
    while tops:  # links come last, so that real folders keep their names and loops end here
        for place, folders, files in os.walk(tops.pop(0), onerror=_refuse):
            if _identity(Path(place)) in seen:  # a link led to a folder that is listed already
                folders.clear()
                continue
            seen.add(_identity(Path(place)))
            folders.sort()  # the first of several links to a folder names its files
            found.extend(Path(place) / name for name in files)
            tops.extend(Path(place) / name for name in folders if (Path(place) / name).is_symlink())
            folders[:] = [name for name in folders if not name.endswith(SCRATCH)]
    return sorted(found)


def matching(pattern: str) -> list[str]:
    """Return the sorted paths that match a glob.

    Below `**` each folder is listed once, as in `files_below`, because glob follows loops of links until the paths are
    too long. Raise DataError for a folder that cannot be listed, which glob skips silently.
    """
    parts = pattern.split("/")
    at = parts.index("**") if "**" in parts else None
    if at is None:
        _check_listed(pattern)
        return sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
    above = "/".join(parts[:at]) or ("/" if at else ".")
    _check_listed(above)
    tops = [Path(top) for top in sorted(glob.glob(above)) if Path(top).is_dir()]  # noqa: PTH207
    found = [path for top in tops for path in files_below(top) if _fits(path.relative_to(top).parts, parts[at:])]
    return sorted(map(str, found))


def _fits(names: tuple[str, ...], pattern: list[str]) -> bool:
    """Tell whether path parts match the parts of a glob; a leading dot is matched only by a dot."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        shown = next((n for n, name in enumerate(names) if name.startswith(".")), len(names))
        return any(_fits(names[start:], pattern[1:] or ["*"]) for start in range(shown + 1))
    if not names or (names[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatch(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def _check_listed(pattern: str) -> None:
    place = pattern
    while glob.has_magic(place):
        place = os.path.dirname(place)  # noqa: PTH120 - Path splits `**/` differently
        for found in glob.glob(place or "."):  # noqa: PTH207
            if os.path.isdir(found):  # noqa: PTH112
                try:
                    os.scandir(found).close()
                except OSError as problem:
                    _refuse(problem)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _refuse(problem: OSError) -> NoReturn:
    place = str(problem.filename)
    raise DataError(
        f"the folder {place} cannot be listed: {problem.strerror}",
        hint=f"ls -ld {shlex.quote(place)}, then ask its owner, or name the files to read",
    ) from None
