"""What this machine refuses, in our words: room, rights, memory, open files. One line with the place, and a way on.

Libraries wrap such a failure, or keep no more of it than its text, so the whole chain of an error is looked through.
What a server answered is never one, whatever its words.
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

OURS = (
    TypeError, AttributeError, NameError, LookupError, ArithmeticError, AssertionError, SyntaxError, BugElsewhere,
)  # fmt: skip
"""Mistakes of the code, whatever failed before them: they keep their traceback."""
NAMED = frozenset({
    errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ETXTBSY,
})  # fmt: skip
"""Failures that are about one file, and so are those of a user only where a file is named."""
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|CU\w+_STATUS_ALLOC_FAILED"
    # a handle of cuBLAS is the first thing that it allocates
    r"|CUBLAS_STATUS_NOT_INITIALIZED.*cublasCreate|failed to map segment from shared object",
    re.IGNORECASE | re.DOTALL,
)
"""What CUDA, Triton, cuBLAS, bitsandbytes, the loader and the CPU's allocator say, in errors without a number."""
QUOTED_ANSWER = re.compile(
    r"HTTP status (?:client|server) error \((\d{3}) ?(.*?)\)(?:, |$)|^LFS batch API returned errors:", re.DOTALL
)
"""How hf_xet, with status and reason, and huggingface_hub tell of an answer in errors that do not carry it."""
_NUMBER = re.compile(r"\b(?:os error|errno) (\d+)", re.IGNORECASE)
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
    "can't start new thread": errno.EAGAIN,
    "Failed to launch worker thread": errno.EAGAIN,
}
_TORCH_WRITES = re.compile(r"unexpected pos \d+ vs|file write failed|PytorchStreamWriter failed|iostream error")
MOVES = "free some room there; `--output-dir`, TMPDIR and HF_HOME say where files go"
AGAIN = "run the same command again"
MOST_LETTERS = 120
FEW_INODES = 100
"""Free inodes, fewer than which are told of: without one no file can be made, however much room there is."""


def machine_error(problem: BaseException, places: Sequence[Place] = ()) -> MachineError | None:
    """Return what a failure of this machine means, None for any other. `places` are written to where no file is named.

    An error that was raised while another was handled is looked through as well, unless it is a mistake of the code.
    """
    for each in _chain(problem):
        if isinstance(each, HubdpoError):
            return each if isinstance(each, MachineError) else None
        if told := _told(each, places):
            return told
    return None


@contextmanager
def machine_errors(places: Sequence[Place], kept: Callable[[], tuple[str, str | None]]) -> Iterator[None]:
    """Raise MachineError for what this machine refuses in the body, with what is kept and how to go on.

    `kept` returns the two: words that end the message, and words that end the hint, where there are any.
    """
    try:
        yield
    except Exception as problem:
        told = machine_error(problem, places)
        if told is None or problem is told:
            raise
        left, on = kept()
        hint = f"{told.hint}, then: {on}" if told.hint and on else told.hint or on
        raise MachineError(f"{told.message}; {left}", hint=hint) from problem


def in_units(count: float) -> str:
    """Write bytes in the largest unit of which there is a whole one."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def check_room(place: Place, needed: int, what: str, *, hint: str) -> None:
    """Raise MachineError when `what`, so many bytes in a few files, does not fit where `place` is or is to be."""
    found = os.statvfs(existing(place))
    free = found.f_bavail * found.f_frsize
    if free < needed:
        raise MachineError(f"{what}: {in_units(needed)}, and {in_units(free)} are free at `{place}`", hint=hint)
    if found.f_files and found.f_favail < FEW_INODES:
        raise MachineError(f"{what} need files, and `{place}` has room for {found.f_favail} more", hint=hint)


def existing(place: Place) -> Path:
    """Return where a place or a link leads, or where it is not there yet, the nearest folder above that is."""
    path = Path(os.path.realpath(place))
    return next(each for each in (path, *path.parents) if each.exists() or each == each.parent)


def is_answer(problem: BaseException) -> bool:
    """Tell whether an error is, or was raised from, what a server answered: its words are about another machine."""
    seen: set[int] = set()
    each: BaseException | None = problem
    while each is not None and id(each) not in seen:
        if getattr(each, "response", None) is not None or QUOTED_ANSWER.search(str(each)):
            return True
        seen.add(id(each))
        each = each.__cause__
    return False


def _chain(problem: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = problem
    while each is not None and id(each) not in seen and not isinstance(each, OURS):
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _number(problem: BaseException) -> int | None:
    """Return the errno of an error, from its text where a library left it only there."""
    if isinstance(problem, OSError) and problem.errno is not None:
        return problem.errno
    if is_answer(problem):
        return None
    text = str(problem)
    if found := _NUMBER.search(text):
        return int(found[1])
    if isinstance(problem, RuntimeError) and _TORCH_WRITES.search(text):  # torch drops the number
        return errno.ENOSPC if _limit(resource.RLIMIT_FSIZE) is None else errno.EFBIG
    return next((number for words, number in _WORDS.items() if words in text), None)


def _told(problem: BaseException, places: Sequence[Place]) -> MachineError | None:
    if isinstance(problem, BrokenExecutor):
        return MachineError("a worker process ended too early; too little memory is the usual cause", hint=_memory())
    number, name = _number(problem), _name(problem)
    may_say = isinstance(problem, RuntimeError | ImportError | OSError) and not is_answer(problem)
    said = may_say and OUT_OF_MEMORY.search(str(problem))
    if isinstance(problem, MemoryError) or number == errno.ENOMEM or said:
        return MachineError("this machine ran out of memory", hint=_memory())
    if isinstance(problem, UnicodeEncodeError):
        return _not_spelled(problem)
    if number == errno.ENOENT and name is None:
        return _no_folder(str(problem))
    if number is None or (number in NAMED and name is None):
        return None
    place = f"`{name if len(name) <= MOST_LETTERS else name[:MOST_LETTERS] + '...'}`" if name else ""
    match number:
        case errno.ENOSPC | errno.EDQUOT:
            return _no_room(number, [name] if name else [*places, *_everywhere()])
        case errno.EFBIG:
            limit = _limit(resource.RLIMIT_FSIZE)
            if limit is None:
                return MachineError(f"the disk takes no file as large as {place or 'this'}", hint=MOVES)
            return MachineError(
                f"no file may be larger than {in_units(limit)} here{place and f', and {place} is'}",
                hint="ulimit -f unlimited",
            )
        case errno.EROFS:
            return MachineError(f"the disk{place and f' of {place}'} is read-only", hint=MOVES.partition("; ")[2])
        case errno.EACCES | errno.EPERM:
            return MachineError(
                f"{place} may not be read or written by this user", hint=_look_at(str(existing(name or ".")))
            )
        case errno.EMFILE | errno.ENFILE:
            most = _limit(resource.RLIMIT_NOFILE) if number == errno.EMFILE else None
            which = "this machine" if most is None else f"this process, which may have {most:,},"
            return MachineError(f"{which} has too many files open", hint="ulimit -n $(ulimit -Hn)")
        case errno.ENAMETOOLONG:
            return MachineError(f"the name is too long for the disk: {place}", hint="give a shorter one")
        case errno.EEXIST if Path(name or ".").is_file():
            return MachineError(f"{place} is a file, not a folder", hint="give another `--output-dir`")
        case errno.EBUSY | errno.ETXTBSY:
            return MachineError(f"{place} is in use, or another disk is mounted there", hint="give a folder inside it")
        case errno.ENOTDIR | errno.ELOOP:
            why = "a part of it is no folder" if number == errno.ENOTDIR else "its links lead round in a circle"
            return MachineError(f"{place} cannot be reached: {why}", hint=_look_at(str(Path(name or ".").parent)))
        case errno.EIO | errno.ESTALE:
            why = "answers with errors" if number == errno.EIO else "does not know the file any more"
            return MachineError(
                f"the disk{place and f' of {place}'} {why}", hint="look at `dmesg`, then run the same command again"
            )
        case errno.EAGAIN if not isinstance(problem, OSError):
            # each takes megabytes of addresses for its stack
            hint = "ulimit -u $(ulimit -Hu)" if memory_limit() is None else _memory()
            return MachineError("no further thread can be started", hint=hint)
    return None


def _name(problem: BaseException) -> str | None:
    found = [getattr(problem, each, None) for each in ("filename2", "filename")]
    names = [os.fsdecode(name) for name in found if isinstance(name, str | bytes | os.PathLike)]
    return names[0] if names else None


def _no_room(number: int, places: Sequence[Place]) -> MachineError:
    """Name each file system that may be meant, the fullest first: a write that fails does not say where it was."""
    rooms: dict[int, tuple[int, str]] = {}
    for place in places:
        if "://" in str(place):
            continue
        there = existing(place)
        found = os.statvfs(there)
        free = found.f_bavail * found.f_frsize
        files = f" in {found.f_favail:,} files" if found.f_files and found.f_favail < FEW_INODES else ""
        rooms.setdefault(there.stat().st_dev, (free if not files else 0, f"{in_units(free)}{files} at `{place}`"))
    free_now = ", ".join(room for _, room in sorted(rooms.values()))
    what = "the disk is full" if number == errno.ENOSPC else "the disk quota is used up"
    return MachineError(f"{what}; free now: {free_now}", hint=MOVES)


def _everywhere() -> tuple[str, str]:
    """Return where libraries keep temporary files and what they download."""
    cache = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.environ.get("TMPDIR") or "/tmp", str(Path(cache).expanduser())


def _no_folder(text: str) -> MachineError | None:
    """Tell two folders apart that are missed without being named: that of temporary files, and the current one."""
    if "No usable temporary directory" in text:
        return MachineError("no folder for temporary files can be written to", hint="export TMPDIR=DIR")
    try:
        os.getcwd()  # noqa: PTH109 - the failure is what is asked for
    except FileNotFoundError:
        return MachineError("the current folder was deleted", hint="cd to another one")
    return None


def unspelled(arguments: Sequence[str]) -> MachineError | None:
    """Return the error for UTF-8 on a command line that the locale cannot spell, None when there is none."""
    for argument in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            with suppress(UnicodeDecodeError):  # else it is not UTF-8, and told of where it is used
                return _of_locale(os.fsencode(argument).decode())
    return None


def _not_spelled(problem: UnicodeEncodeError) -> MachineError | None:
    """Tell of a path that the locale has no letters for; any other text that cannot be encoded is a mistake of ours."""
    if sys.getfilesystemencoding() == "utf-8":
        return None
    read_so = "surrogates not allowed" in problem.reason  # a name that was read as bytes, amid other text
    return _of_locale(None if read_so else problem.object)


def _of_locale(name: str | None) -> MachineError:
    what = "the name of a file" if name is None else f"`{name}`"
    return MachineError(f"the locale ({sys.getfilesystemencoding()}) cannot spell {what}", hint="export PYTHONUTF8=1")


def memory_limit() -> tuple[str, int] | None:
    """Return the option of `ulimit` that bounds the memory of this process, and its bytes; None where nothing does."""
    for option, which in (("-v", resource.RLIMIT_AS), ("-d", resource.RLIMIT_DATA)):
        if (limit := _limit(which)) is not None:
            return option, limit
    return None


def _memory() -> str:
    if (limited := memory_limit()) is not None:
        return f"ulimit {limited[0]} unlimited: this process may take {in_units(limited[1])}"
    return "end what else runs, or take fewer processes or a machine with more memory"


def _limit(which: int) -> int | None:
    soft = resource.getrlimit(which)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _look_at(place: str) -> str:
    return f"ls -ld {shlex.quote(place or '.')}"
