"""Move a finished output from its scratch folder to the target, which is absent or complete after a kill at any moment.

A new target is one rename. In an existing target each entry is renamed, because the folder itself may be a mount point,
the current folder or the target of a link. The file that marks the folder as complete is removed first and put back
last. A plan in the scratch folder lists the moves, so that the next run can finish them.
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

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.errors import ArtefactError

PLAN, NEW, OLD = "plan.json", "new", "old"


def make_target(scratch: Path, target: Path) -> None:
    """Rename `new` of the scratch folder to the target. Raise ArtefactError if the target exists by now."""
    _sync(scratch / NEW)
    try:
        (scratch / NEW).rename(target)
    except OSError as problem:
        if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise _appeared(target, "use another `--output-dir`") from None
    _sync_entries(target.parent)


def put_in_place(scratch: Path, target: Path, before: list[str], last: str) -> None:
    """Replace the entries `before` of the target by the entries of `new`; the entry `last` is moved last.

    Raise ArtefactError, with nothing changed, if another entry with a name of `new` has appeared in the target.
    """
    new = sorted((path.name for path in (scratch / NEW).iterdir()), key=lambda name: (name == last, name))
    for name in new:
        if name not in before and os.path.lexists(target / name):
            raise _appeared(target / name, "move it away")
    _sync(scratch / NEW)
    (scratch / OLD).mkdir()
    old = sorted(before, key=lambda name: (name != last, name))
    plan = {"old": old, "new": new, "folder": _identity(scratch)}
    (scratch / f"{PLAN}.part").write_text(json.dumps(plan), encoding="utf-8")
    storage.secure(str(scratch / f"{PLAN}.part"))
    (scratch / f"{PLAN}.part").rename(scratch / PLAN)
    try:
        finish(target, scratch)
    except KeyboardInterrupt:  # finishing takes milliseconds
        finish(target, scratch)
        raise


def is_begun(scratch: Path) -> bool:
    """Tell whether moves to the target have begun, so that `finish` must be called, now or by the next run."""
    return os.path.lexists(scratch / PLAN)


def finish(target: Path, scratch: Path) -> None:
    """Carry out the moves of the plan that are still to do, if the scratch folder has a plan.

    After an OSError everything is moved back. Raise ArtefactError, with nothing moved, for a plan made elsewhere.
    """
    if not is_begun(scratch):
        return
    plan = _read_plan(scratch)
    new, old = scratch / NEW, scratch / OLD
    # as long as the new entry of a name is still in `new`, the entry in the target is the old one
    replaced = [name for name in plan["old"] if name not in plan["new"] or os.path.lexists(new / name)]
    moves = [(target / name, old / name) for name in replaced]
    moves += [(new / name, target / name) for name in plan["new"]]
    for name in plan["new"]:
        is_old = name in plan["old"] and not os.path.lexists(old / name)
        if os.path.lexists(new / name) and os.path.lexists(target / name) and not is_old:
            raise _appeared(target / name, "move it away")
    done = []
    try:
        for source, destination in moves:
            if os.path.lexists(source):
                _move(source, destination)
                done.append((source, destination))
    except OSError:
        for source, destination in reversed(done):
            _move(destination, source)
        (scratch / PLAN).unlink()
        raise
    _sync_entries(target)
    (scratch / PLAN).unlink()


def _read_plan(scratch: Path) -> dict[str, list[str]]:
    """Return the names in the plan. Raise ArtefactError for a plan that was not made in this very folder.

    Such a plan came with a copied folder and may name any file. It cannot be forged, because nobody can predict the
    inode of a folder on another disk.
    """
    path, plan = scratch / PLAN, {}
    if all(folder.is_dir() and not folder.is_symlink() for folder in (scratch / NEW, scratch / OLD)) and stat.S_ISREG(
        path.lstat().st_mode
    ):
        with contextlib.suppress(ArtefactError):
            plan = read_object(path)
    if plan.get("folder") != _identity(scratch):
        raise ArtefactError(
            f"`{scratch}` was copied from elsewhere, or is broken",
            hint=f"check its content, then: rm -r {shlex.quote(str(scratch))}",
        )
    return plan


def _identity(folder: Path) -> int:
    """Return the inode of a folder, which a copy does not share."""
    return folder.stat().st_ino


def _appeared(path: Path, hint: str) -> ArtefactError:
    return ArtefactError(f"`{path}` has appeared in the meantime, and is not replaced", hint=hint)


def _move(source: Path, destination: Path) -> None:
    try:
        source.rename(destination)
    except OSError as problem:
        if problem.errno != errno.EXDEV:  # a folder in the lower layer of an overlay
            raise
        shutil.move(source, destination)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.secure(str(path))


def _sync_entries(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
