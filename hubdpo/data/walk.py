"""The files of a folder, none left out without a word: what may not be listed is an error, and links are followed."""

from __future__ import annotations

import glob
import os
import shlex
from pathlib import Path
from typing import NoReturn

from hubdpo.errors import DataError

SCRATCH = ".hubdpo-tmp"
"""How the name of a folder ends that prepare and merge work in, until it is done or when a kill left it."""


def files_below(folder: Path) -> list[Path]:
    """Return all that is no folder below `folder`, in the order of the paths; each folder is listed once.

    Links to folders that lie elsewhere are followed. Raise DataError for a folder that may not be listed.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    links: list[Path] = []

    def walk(top: Path) -> None:
        for place, folders, files in os.walk(top, onerror=_refuse):
            seen.add(_identity(Path(place)))
            found.extend(Path(place) / name for name in files)
            links.extend(Path(place) / name for name in folders if (Path(place) / name).is_symlink())
            folders[:] = [name for name in folders if not name.endswith(SCRATCH)]

    walk(folder)
    while links:  # after the folder itself, whose own folders keep their names, so that a loop ends here
        link = links.pop(0)
        if _identity(link) not in seen:
            walk(link)
    return sorted(found)


def check_glob(pattern: str) -> None:
    """Raise DataError when a folder that a glob looks into may not be listed: the glob itself passes it over."""
    place = pattern
    while glob.has_magic(place):
        place = os.path.dirname(place)  # noqa: PTH120 - Path takes `**/` apart in its own way
        for found in glob.glob(place or ".", recursive=True):  # noqa: PTH207
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
        hint=f"ls -ld {shlex.quote(place)}, and ask its owner, or name the files to read",
    ) from None
