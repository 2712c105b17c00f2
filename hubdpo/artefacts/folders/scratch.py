"""The scratch folder in which a command builds its output, locked by one process for as long as that process lives.

The lock file lies in the scratch folder, so no lock files are left behind. A folder that a killed process left is no
longer locked, and the next command takes it over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.walk import SCRATCH
from hubdpo.errors import ConfigError, DataError, HubdpoError, MachineError
from hubdpo.machine.refusals import AGAIN, CODE_ERRORS

LOCK = "lock"
LOOKS_EVERY = 0.2
"""Seconds between two tries to lock a folder that another process has."""
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""Errors of file systems without locks."""

_held: set[int] = set()


def beside(target: Path) -> Path:
    """Return the scratch folder of a target that does not exist yet."""
    return target.parent / f".{target.name}{SCRATCH}"


def inside(target: Path) -> Path:
    """Return the scratch folder of an existing target: inside it, because beside a mount point is another disk."""
    return target / SCRATCH


@contextlib.contextmanager
def held(scratch: Path, target: Path, *, surely: bool = False, waits: bool = False) -> Iterator[Callable[[], bool]]:
    """Create and lock the scratch folder of `target` during the body.

    Yield a function that tells whether the folder is still the locked one, because it may be removed and created again
    by others. Raise ConfigError if another process holds the lock, unless this one `waits` for it. On a disk without
    locks, warn and continue, or with `surely` raise OSError.
    """
    handle = _lock(scratch, target, surely, waits)
    _held.add(handle)
    try:
        yield lambda: _is_locked_by(handle, scratch)
    finally:
        _held.discard(handle)
        os.close(handle)


@contextlib.contextmanager
def told_of_removal(target: Path, is_whole: Callable[[], bool]) -> Iterator[None]:
    """Raise MachineError if the body fails because the scratch folder of `target` was removed.

    Bugs keep their traceback, and errors with another reason stay as they are.
    """
    try:
        yield
    except Exception as problem:
        other_reason = isinstance(problem, HubdpoError) and not isinstance(problem, DataError)
        if other_reason or isinstance(problem, CODE_ERRORS) or is_whole():
            raise
        raise removed(target) from problem


def removed(target: Path) -> MachineError:
    return MachineError(f"the scratch folder of `{target}` was removed while it was in use", hint=AGAIN)


def sweep(folder: Path) -> None:
    """Remove the scratch folders that killed processes left in `folder`, for any target."""
    for left in folder.glob(f".?*{SCRATCH}"):
        with contextlib.suppress(ConfigError, OSError):  # locked, or owned by another user
            if (left / LOCK).is_file():
                with held(left, left, surely=True):
                    shutil.rmtree(left)


def empty(scratch: Path) -> None:
    """Empty a scratch folder that this process has locked, except for the lock."""
    for left in scratch.iterdir():
        if left.name != LOCK:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def entries(folder: Path) -> list[str]:
    """Return the sorted names of the entries of a folder, without its scratch folder; none if it does not exist."""
    return sorted(path.name for path in folder.iterdir() if path.name != SCRATCH) if folder.is_dir() else []


def _lock(scratch: Path, target: Path, surely: bool, waits: bool) -> int:
    told = False
    while True:
        _make(scratch)
        try:
            handle = os.open(scratch / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # its last owner has just removed it
            continue
        except OSError as problem:
            if problem.errno not in (errno.ELOOP, errno.EISDIR):
                raise
            raise _not_ours(scratch) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno in NO_LOCKS and not surely:
                console.warn(f"the disk of `{target}` has no locks; do not start another command that writes there")
                return handle
            os.close(handle)
            if not isinstance(problem, BlockingIOError):
                raise
            if not waits:
                raise ConfigError(
                    f"another process is writing `{target}`", hint="wait for it, or use another `--output-dir`"
                ) from None
            if not told:
                console.info(f"waiting for another process, which is writing {target}")
            told = True
            time.sleep(LOOKS_EVERY)
            continue
        if _is_locked_by(handle, scratch):
            return handle
        os.close(handle)


def _is_locked_by(handle: int, scratch: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), (scratch / LOCK).stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _make(scratch: Path) -> None:
    """Create the folder. An existing one must be ours: its name is predictable, and its content will be deleted."""
    try:
        with made_in(scratch.parent):
            scratch.mkdir(mode=0o700)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            found = scratch.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise _not_ours(scratch) from None


@contextlib.contextmanager
def made_in(place: Path) -> Iterator[None]:
    """Raise MachineError if the body may not make a folder in `place`, and ConfigError if nobody can."""
    try:
        yield
    except PermissionError:
        raise MachineError(f"this user cannot write in `{place}`", hint="use `--output-dir DIR`") from None
    except FileNotFoundError:
        if not place.is_dir():
            raise
        # such as /proc, which is there and takes no folder
        raise ConfigError(f"no folder can be made in `{place}`", hint="use `--output-dir DIR`") from None


def _not_ours(scratch: Path) -> ConfigError:
    return ConfigError(
        f"`{scratch}` was not created by hubdpo, which needs a folder of that name",
        hint="check and remove it, or use another `--output-dir`",
    )


def _release_in_child() -> None:
    # otherwise a worker that outlives its killed parent would keep the locks of the parent
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)
