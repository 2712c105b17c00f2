"""Translate failures of this machine (disk space, permissions, memory, open files) to MachineError, with path and hint.

Libraries wrap such failures, or keep only their text, so the whole chain of causes is searched. The answer of a server
is never a failure of this machine, whatever it says.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from hubdpo.errors import BugElsewhere, HubdpoError, MachineError

Place = str | Path

CODE_ERRORS = (
    TypeError, AttributeError, NameError, LookupError, ArithmeticError, AssertionError, SyntaxError, BugElsewhere,
)  # fmt: skip
"""Bugs, whatever failed before them: they keep their traceback."""
NEEDS_PATH = frozenset({
    errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ETXTBSY,
})  # fmt: skip
"""Errors about one file, which a user can only act on if the file is named."""
OUT_OF_MEMORY = re.compile(
    r"out of memory|(?:can't|cannot|unable to) allocate memory|not enough memory|CU\w+_STATUS_ALLOC_FAILED"
    # creating its handle is the first allocation of cuBLAS
    r"|CUBLAS_STATUS_NOT_INITIALIZED.*cublasCreate|failed to map segment from shared object",
    re.IGNORECASE | re.DOTALL,
)
"""Out-of-memory texts of CUDA, Triton, cuBLAS, bitsandbytes, the loader and the CPU allocator, which have no errno."""
HOST_OUT_OF_MEMORY = re.compile(r"\AMemoryError|CPUAllocator|an(?:no|')t allocate memory|not enough memory|map segment")
"""Those that are about the memory of the host, in the `repr` of an error."""
DISK_FAILURE = re.compile(
    r"no space left|disk of this Hub|disk is full|disk quota|readonly database|disk I/O error", re.IGNORECASE
)
"""How a Hub words a full or broken disk of its own."""
QUOTED_ANSWER = re.compile(
    r"HTTP status (?:client|server) error \((\d{3}) ?(.*?)\)(?:, |$)|^LFS batch API returned errors:", re.DOTALL
)
"""Texts of hf_xet (with status and reason) and huggingface_hub for an HTTP answer that the error does not carry."""
_ERRNO = re.compile(r"\b(?:os error|errno) (\d+)", re.IGNORECASE)
_ERRNO_OF_TEXT = {
    "No space left on device": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
    "can't start new thread": errno.EAGAIN,
    "Failed to launch worker thread": errno.EAGAIN,
}
_TORCH_WRITE_FAILED = re.compile(r"unexpected pos \d+ vs|file write failed|PytorchStreamWriter failed|iostream error")
MOVES = "free some space there; `--output-dir`, TMPDIR and HF_HOME select other disks"
AGAIN = "run the same command again"
MAX_PATH_SHOWN = 120
FEW_INODES = 100
"""Fewer free inodes than this are reported: without one, no file can be created on a disk with free space."""


def machine_error(problem: BaseException, places: Sequence[Place] = ()) -> MachineError | None:
    """Return the MachineError for a failure of this machine, or None for any other error.

    `places` are the folders being written to, for errors that name no file.
    """
    for each in _chain(problem, with_context=True):
        if isinstance(each, (HubdpoError, *CODE_ERRORS)):
            return each if isinstance(each, MachineError) else None
        if translated := _translate(each, places):
            return translated
    return None


@contextmanager
def machine_errors(places: Sequence[Place], state: Callable[[], tuple[str, str | None]]) -> Iterator[None]:
    """Raise MachineError for a failure of this machine in the body.

    `state` returns what is appended: to the message what was saved, and to the hint how to continue, or None.
    """
    try:
        yield
    except Exception as problem:
        error = machine_error(problem, places)
        if error is None or problem is error:
            raise
        saved, command = state()
        hint = f"{error.hint}, then: {command}" if error.hint and command else error.hint or command
        raise MachineError(f"{error.message}; {saved}", hint=hint) from problem


def in_units(count: float) -> str:
    """Format a number of bytes in the largest unit that gives 1.0 or more."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def check_room(place: Place, needed: int, subject: str, *, hint: str) -> None:
    """Raise MachineError if `subject`, `needed` bytes in a few files, does not fit on the disk of `place`."""
    disk = os.statvfs(existing(place))
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise MachineError(f"{subject}: {in_units(needed)}, and {in_units(free)} are free at `{place}`", hint=hint)
    if disk.f_files and disk.f_favail < FEW_INODES:
        raise MachineError(f"{subject} need files, and `{place}` has room for {disk.f_favail} more", hint=hint)


def existing(place: Place) -> Path:
    """Resolve a path. If it does not exist yet, return its nearest parent that does."""
    path = Path(os.path.realpath(place))
    return next(each for each in (path, *path.parents) if each.exists() or each == each.parent)


def _is_answer(problem: BaseException) -> bool:
    """Tell whether an error is, or was caused by, an answer of a server, whose text is about another machine."""
    return any(
        getattr(each, "response", None) is not None or QUOTED_ANSWER.search(str(each))
        for each in _chain(problem, with_context=False)
    )


def _chain(problem: BaseException, *, with_context: bool) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = problem
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (each.__context__ if with_context and not each.__suppress_context__ else None)


def _errno(problem: BaseException) -> int | None:
    """Return the errno of an error, taken from its text if a library kept only that."""
    if isinstance(problem, OSError) and problem.errno is not None:
        return problem.errno
    if _is_answer(problem):
        return None
    text = str(problem)
    if match := _ERRNO.search(text):
        return int(match[1])
    if isinstance(problem, RuntimeError) and _TORCH_WRITE_FAILED.search(text):  # torch drops the errno
        return errno.ENOSPC if _limit(resource.RLIMIT_FSIZE) is None else errno.EFBIG
    return next((number for words, number in _ERRNO_OF_TEXT.items() if words in text), None)


def _translate(problem: BaseException, places: Sequence[Place]) -> MachineError | None:
    if isinstance(problem, BrokenExecutor):
        return MachineError("a worker process ended too early, usually for lack of memory", hint=_memory())
    number, name = _errno(problem), _path(problem)
    has_text = isinstance(problem, RuntimeError | ImportError | OSError) and not _is_answer(problem)
    out_of_memory = has_text and OUT_OF_MEMORY.search(str(problem))
    if isinstance(problem, MemoryError) or number == errno.ENOMEM or out_of_memory:
        return MachineError("this machine ran out of memory", hint=_memory())
    if isinstance(problem, UnicodeEncodeError):
        if sys.getfilesystemencoding() == "utf-8":  # any other text that cannot be encoded is a bug
            return None
        # a name that was read as bytes, within other text, is not spelled out
        return _locale_error(None if "surrogates not allowed" in problem.reason else problem.object)
    if number == errno.ENOENT and name is None:
        return _no_folder(str(problem))
    if number is None or (number in NEEDS_PATH and name is None):
        return None
    place = f"`{name if len(name) <= MAX_PATH_SHOWN else name[:MAX_PATH_SHOWN] + '...'}`" if name else ""
    match number:
        case errno.ENOSPC | errno.EDQUOT:
            return _disk_full(number, name, places)
        case errno.EFBIG if (limit := _limit(resource.RLIMIT_FSIZE)) is not None:
            subject = f"here{place and f', and {place} is'}"
            return MachineError(f"no file may be larger than {in_units(limit)} {subject}", hint="ulimit -f unlimited")
        case errno.EFBIG:
            return MachineError(f"the disk does not allow a file as large as {place or 'this'}", hint=MOVES)
        case errno.EROFS:
            return MachineError(f"the disk{place and f' of {place}'} is read-only", hint=MOVES.partition("; ")[2])
        case errno.EACCES | errno.EPERM:
            return MachineError(f"this user may not read or write {place}", hint=_look_at(str(existing(name or "."))))
        case errno.EMFILE | errno.ENFILE:
            most = _limit(resource.RLIMIT_NOFILE) if number == errno.EMFILE else None
            which = "this machine" if most is None else f"this process, which may have {most:,},"
            return MachineError(f"{which} has too many files open", hint="ulimit -n $(ulimit -Hn)")
        case errno.ENAMETOOLONG:
            return MachineError(f"the name is too long for the disk: {place}", hint="use a shorter name")
        case errno.EEXIST if Path(name or ".").is_file():
            return MachineError(f"{place} is a file, not a folder", hint="use another `--output-dir`")
        case errno.EBUSY | errno.ETXTBSY:
            return MachineError(f"{place} is in use, or is a mount point", hint="use a folder inside it")
        case errno.ENOTDIR | errno.ELOOP:
            why = "a part of it is not a folder" if number == errno.ENOTDIR else "its links form a loop"
            return MachineError(f"{place} cannot be reached: {why}", hint=_look_at(str(Path(name or ".").parent)))
        case errno.EIO | errno.ESTALE:
            why = "reports I/O errors" if number == errno.EIO else "no longer has the file"
            return MachineError(f"the disk{place and f' of {place}'} {why}", hint=f"check `dmesg`, then {AGAIN}")
        case errno.EAGAIN if not isinstance(problem, OSError):
            # the stack of each thread takes megabytes of address space
            hint = "ulimit -u $(ulimit -Hu)" if memory_limit() is None else _memory()
            return MachineError("no more threads can be started", hint=hint)
    return None


def _path(problem: BaseException) -> str | None:
    names = (getattr(problem, attribute, None) for attribute in ("filename2", "filename"))
    return next((os.fsdecode(name) for name in names if isinstance(name, str | bytes | os.PathLike)), None)


def _disk_full(number: int, name: str | None, places: Sequence[Place]) -> MachineError:
    """List the file systems that may be full, the fullest first, because a failed write does not say where it was."""
    if not name:  # libraries have folders for temporary files and for downloads
        cache = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        places = [*places, os.environ.get("TMPDIR") or "/tmp", Path(cache).expanduser()]
    disks: dict[int, tuple[int, str]] = {}
    for place in [name] if name else places:
        if "://" in str(place):
            continue
        path = existing(place)
        disk = os.statvfs(path)
        free = disk.f_bavail * disk.f_frsize
        files = f" in {disk.f_favail:,} files" if disk.f_files and disk.f_favail < FEW_INODES else ""
        disks.setdefault(path.stat().st_dev, (free if not files else 0, f"{in_units(free)}{files} at `{place}`"))
    free_now = ", ".join(text for _, text in sorted(disks.values()))
    problem = "the disk is full" if number == errno.ENOSPC else "the disk quota is used up"
    return MachineError(f"{problem}; free now: {free_now}", hint=MOVES)


def _no_folder(text: str) -> MachineError | None:
    """Return the error for a missing temporary or current folder, which the exception does not name."""
    if "No usable temporary directory" in text:
        return MachineError("no folder for temporary files is writable", hint="export TMPDIR=DIR")
    try:
        os.getcwd()  # noqa: PTH109 - to see it fail
    except FileNotFoundError:
        return MachineError("the current folder was deleted", hint="cd to another folder")
    return None


def undecodable(arguments: Sequence[str]) -> MachineError | None:
    """Return the error for a UTF-8 argument that the locale cannot decode, or None."""
    for argument in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            with suppress(UnicodeDecodeError):  # not UTF-8: reported where it is used
                return _locale_error(os.fsencode(argument).decode())
    return None


def _locale_error(name: str | None) -> MachineError:
    locale, subject = sys.getfilesystemencoding(), "the name of a file" if name is None else f"`{name}`"
    return MachineError(f"the locale ({locale}) cannot encode {subject}", hint="export PYTHONUTF8=1")


def memory_limit() -> tuple[str, int] | None:
    """Return the `ulimit` option that limits the memory of this process, with its bytes, or None."""
    for option, which in (("-v", resource.RLIMIT_AS), ("-d", resource.RLIMIT_DATA)):
        if (limit := _limit(which)) is not None:
            return option, limit
    return None


def _memory() -> str:
    if (limited := memory_limit()) is not None:
        return f"ulimit {limited[0]} unlimited: this process may use {in_units(limited[1])}"
    return "stop other programs, or use fewer processes or a machine with more memory"


def _limit(which: int) -> int | None:
    soft = resource.getrlimit(which)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _look_at(place: str) -> str:
    return f"ls -ld {shlex.quote(place or '.')}"
