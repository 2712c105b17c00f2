"""The folder that a command works in until its output is whole: one process holds it, and its lock ends with it.

The folder is the lock of its place, so that none lies about; what a killed process left has no lock and is taken over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.walk import SCRATCH
from hubdpo.errors import ConfigError, DataError, HubdpoError, MachineError
from hubdpo.machine.refusals import AGAIN, CODE_ERRORS

LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What a file system says that knows no locks."""

_held: set[int] = set()


def beside(target: Path) -> Path:
    """Return the scratch folder of a folder that is not there yet."""
    return target.parent / f".{target.name}{SCRATCH}"


def inside(target: Path) -> Path:
    """Return the scratch folder of one that is, which may be a mount point: nothing beside it is on its disk."""
    return target / SCRATCH


@contextlib.contextmanager
def held(scratch: Path, target: Path, *, surely: bool = False) -> Iterator[Callable[[], bool]]:
    """Keep other processes from the scratch folder of `target`, made here if need be, in the body.

    What is given tells whether it still is that folder: anybody may remove it, and then another process make it again.
    Raise ConfigError when another one works there. On a disk that knows no locks, warn and go on; with `surely` raise
    OSError there.
    """
    handle = _lock(scratch, target, surely)
    _held.add(handle)
    try:
        yield lambda: _is_locked_by(handle, scratch)
    finally:
        _held.discard(handle)
        os.close(handle)


@contextlib.contextmanager
def told_of_removal(target: Path, is_whole: Callable[[], bool]) -> Iterator[None]:
    """Raise MachineError for a body that fails where the scratch folder of `target` is no longer whole.

    Mistakes of the code keep their traceback, and what is wrong for another reason keeps its words.
    """
    try:
        yield
    except Exception as problem:
        another = isinstance(problem, HubdpoError) and not isinstance(problem, DataError)
        if another or isinstance(problem, CODE_ERRORS) or is_whole():
            raise
        raise removed(target) from problem


def removed(target: Path) -> MachineError:
    return MachineError(f"the scratch folder of `{target}` was removed while it was in use", hint=AGAIN)


def sweep(folder: Path) -> None:
    """Remove the scratch folders that killed processes left in a folder, whatever their targets were."""
    for left in folder.glob(f".?*{SCRATCH}"):
        with contextlib.suppress(ConfigError, OSError):  # one is at work there, or it is another user's
            if (left / LOCK).is_file():
                with held(left, left, surely=True):
                    shutil.rmtree(left)


def empty(scratch: Path) -> None:
    """Remove what is in a scratch folder that is held here, but its lock."""
    for left in scratch.iterdir():
        if left.name != LOCK:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def entries(folder: Path) -> list[str]:
    """Return the names of what is in a folder, but for the scratch folder, in order; none where it is not there."""
    return sorted(path.name for path in folder.iterdir() if path.name != SCRATCH) if folder.is_dir() else []


def _lock(scratch: Path, target: Path, surely: bool) -> int:
    while True:
        _make(scratch)
        try:
            handle = os.open(scratch / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # who held it has just removed it
            continue
        except OSError as problem:
            if problem.errno not in (errno.ELOOP, errno.EISDIR):
                raise
            raise _not_ours(scratch) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno in NO_LOCKS and not surely:
                console.warn(f"the disk of `{target}` knows no locks: let no second command write there meanwhile")
                return handle
            os.close(handle)
            if isinstance(problem, BlockingIOError):
                raise ConfigError(
                    f"another process is writing `{target}`", hint="wait for it, or give another `--output-dir`"
                ) from None
            raise
        if _is_locked_by(handle, scratch):
            return handle
        os.close(handle)


def _is_locked_by(handle: int, scratch: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), (scratch / LOCK).stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _make(scratch: Path) -> None:
    """Make the folder; one that is there must be ours, for its name can be foreseen and all in it will be removed."""
    try:
        scratch.mkdir(mode=0o700)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            found = scratch.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise _not_ours(scratch) from None


def _not_ours(scratch: Path) -> ConfigError:
    return ConfigError(
        f"`{scratch}` is not as hubdpo makes it, and hubdpo works in a folder of that name",
        hint="look into it and remove it, or give another `--output-dir`",
    )


def _let_go_in_child() -> None:
    # else a worker that lives on for a moment would hold what its killed parent held
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
