"""Put what was made in a scratch folder in its place: after a kill at any moment the target is absent or complete.

A target that is not there yet is a rename. Into a folder that is there each entry is renamed, for the folder itself may
be a mount point, the current folder, or where a link leads: the file by which it counts as complete leaves it first and
comes back last. A plan in the scratch folder says what is to be moved, so that the next run can finish it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import shutil
import stat
from pathlib import Path

from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.errors import ArtefactError

PLAN, NEW, OLD = "plan.json", "new", "old"


def make_target(scratch: Path, target: Path) -> None:
    """Make `new` of the scratch folder the target. Raise ArtefactError when there is something by now."""
    _sync(scratch / NEW)
    try:
        (scratch / NEW).rename(target)
    except OSError as problem:
        if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise _meanwhile(target, "give another `--output-dir`") from None
    _sync_entries(target.parent)


def put_in_place(scratch: Path, target: Path, before: list[str], last: str) -> None:
    """Move the entries of `new` into the target, for those of the names `before`; `last` goes last.

    Raise ArtefactError, with nothing changed, when an entry of such a name came into being meanwhile.
    """
    new = sorted((path.name for path in (scratch / NEW).iterdir()), key=lambda name: (name == last, name))
    for name in new:
        if name not in before and _is_there(target / name):
            raise _meanwhile(target / name, "move it away")
    _sync(scratch / NEW)
    (scratch / OLD).mkdir()
    old = sorted(before, key=lambda name: (name != last, name))
    plan = {"old": old, "new": new, "folder": _identity(scratch)}
    (scratch / f"{PLAN}.part").write_text(json.dumps(plan), encoding="utf-8")
    _sync_file(scratch / f"{PLAN}.part")
    (scratch / f"{PLAN}.part").rename(scratch / PLAN)
    try:
        finish(target, scratch)
    except KeyboardInterrupt:  # it takes milliseconds
        finish(target, scratch)
        raise


def is_begun(scratch: Path) -> bool:
    """Tell whether entries are on their way to the target: then `finish` must be called, now or by the next run."""
    return _is_there(scratch / PLAN)


def finish(target: Path, scratch: Path) -> None:
    """Move what the plan of a scratch folder names and is not moved yet; nothing where there is no plan.

    At an OSError all is moved back. Raise ArtefactError, with nothing moved, for a plan that is not ours.
    """
    if not is_begun(scratch):
        return
    plan = _read_plan(scratch)
    new, old = scratch / NEW, scratch / OLD
    # an entry of both kinds is the old one as long as the new one waits
    moves = [(target / name, old / name) for name in plan["old"] if name not in plan["new"] or _is_there(new / name)]
    moves += [(new / name, target / name) for name in plan["new"]]
    for name in plan["new"]:
        is_old = name in plan["old"] and not _is_there(old / name)
        if _is_there(new / name) and _is_there(target / name) and not is_old:
            raise _meanwhile(target / name, "move it away")
    done = []
    try:
        for source, place in moves:
            if _is_there(source):
                _move(source, place)
                done.append((source, place))
    except OSError:
        for source, place in reversed(done):
            _move(place, source)
        (scratch / PLAN).unlink()
        raise
    _sync_entries(target)
    (scratch / PLAN).unlink()


def _read_plan(scratch: Path) -> dict[str, list[str]]:
    """Return the names of a plan. One that was not made in this very folder came with a copy of it from elsewhere, and
    may name whatever its maker liked; nobody foresees the number of a folder on the disk of another.
    """
    path, plan = scratch / PLAN, {}
    if all(place.is_dir() and not place.is_symlink() for place in (scratch / NEW, scratch / OLD)) and stat.S_ISREG(
        path.lstat().st_mode
    ):
        with contextlib.suppress(ArtefactError):
            plan = read_object(path)
    if plan.get("folder") != _identity(scratch):
        raise ArtefactError(
            f"`{scratch}` came from elsewhere with what is in it, or is broken",
            hint=f"look into it, then: rm -r {shlex.quote(str(scratch))}",
        )
    return plan


def _identity(folder: Path) -> int:
    """Return the number of a folder on its disk, which a copy does not have."""
    return folder.stat().st_ino


def _meanwhile(place: Path, hint: str) -> ArtefactError:
    return ArtefactError(f"`{place}` came into being meanwhile, and is not replaced", hint=hint)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _move(source: Path, place: Path) -> None:
    try:
        source.rename(place)
    except OSError as problem:
        if problem.errno != errno.EXDEV:  # a folder from the lower layer of an overlay
            raise
        shutil.move(source, place)


def _sync(folder: Path) -> None:
    """Wait until all that is in a folder is on its disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync_file(path)


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_entries(folder: Path) -> None:
    """Wait until the names in a folder are on its disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
