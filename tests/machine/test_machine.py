"""What the machine refuses is one line with its place and a hint; a mistake of the code keeps its traceback."""

from __future__ import annotations

import errno
import os
import re
import resource
import sqlite3
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from safetensors import SafetensorError

from hubdpo.errors import ArtefactError, MachineError
from hubdpo.machine.refusals import in_units, machine_error, machine_errors


def because(outer: Exception, inner: BaseException, *, while_handling: bool = False) -> Exception:
    if while_handling:
        outer.__context__ = inner
    else:
        outer.__cause__ = inner
    return outer


FULL = OSError(errno.ENOSPC, "No space left on device")
TOLD: dict[str, tuple[Exception, str, str]] = {
    "full": (FULL, "the disk is full; free now: .* at `out`", "--output-dir"),
    "full, named": (OSError(errno.ENOSPC, "no", "/tmp/x"), "the disk is full; free now: .* at `/tmp/x`", "TMPDIR"),
    "quota": (OSError(errno.EDQUOT, "no"), "quota is used up; free now: .* at `out`", "free some space"),
    "file size": (OSError(errno.EFBIG, "no", "/tmp/x"), "does not allow a file as large as `/tmp/x`", "--output-dir"),
    "read-only": (OSError(errno.EROFS, "no", "/r/x"), "the disk of `/r/x` is read-only", "TMPDIR"),
    "read-only, not named": (OSError(errno.EROFS, "no"), "the disk is read-only", "--output-dir"),
    "no right": (PermissionError(errno.EACCES, "no", "/etc/x y"), "may not read or write `/etc/x y`", "ls -ld /etc"),
    "not allowed": (PermissionError(errno.EPERM, "no", "/etc/x"), "may not read or write `/etc/x`", "ls -ld /etc"),
    "open files": (OSError(errno.EMFILE, "no"), "this process, which may have .* too many files open", "ulimit -n"),
    "open files of all": (OSError(errno.ENFILE, "no"), "this machine has too many files open", "ulimit -n"),
    "long name": (OSError(errno.ENAMETOOLONG, "no", "n" * 5000), r"too long for the disk: `n{120}\.\.\.`", "shorter"),
    "busy": (OSError(errno.EBUSY, "no", "a", None, "/mnt"), "`/mnt` is in use, or is a mount point", "inside it"),
    "no folder": (NotADirectoryError(errno.ENOTDIR, "no", "/f/x"), "`/f/x` cannot be reached", "ls -ld /f"),
    "a file in the way": (FileExistsError(errno.EEXIST, "no", __file__), "is a file, not a folder", "--output-dir"),
    "round": (OSError(errno.ELOOP, "no", "/l/x"), "`/l/x` cannot be reached: its links", "ls -ld /l"),
    "broken disk": (OSError(errno.EIO, "no", "/x"), "the disk of `/x` reports I/O errors", "dmesg"),
    "stale": (OSError(errno.ESTALE, "no"), "the disk no longer has the file", "again"),
    "memory": (MemoryError(), "this machine ran out of memory", "more memory"),
    "memory by number": (OSError(errno.ENOMEM, "no"), "this machine ran out of memory", "more memory"),
    "memory of Arrow": (pa.ArrowMemoryError("malloc of size 64 failed"), "ran out of memory", "more memory"),
    "memory of torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory", "memory"),
    "memory of the loader": (ImportError("x.so: failed to map segment from shared object"), "memory", "memory"),
    "threads": (RuntimeError("can't start new thread"), "no more threads", "ulimit -u"),
    "threads of Arrow": (
        pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
        "no more threads", "ulimit -u",
    ),
    "a worker": (BrokenProcessPool("terminated abruptly"), "a worker process ended too early", "memory"),
    "temporary": (FileNotFoundError(2, "No usable temporary directory found in ['/t']"), "temporary", "TMPDIR"),
    "safetensors": (SafetensorError("I/O error: No space left on device (os error 28)"), "disk is full", "space"),
    "tokenizers": (Exception("No space left on device (os error 28)"), "the disk is full", "free some space"),
    "Arrow": (pa.ArrowInvalid("Error writing. Detail: [errno 28] No space left on device"), "disk is full", "space"),
    "SQLite": (sqlite3.OperationalError("database or disk is full"), "the disk is full", "free some space"),
    "SQLite, read-only": (sqlite3.OperationalError("attempt to write a readonly database"), "is read-only", "DIR"),
    "torch": (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "is full", "space"),
    "behind": (because(RuntimeError("while saving"), FULL), "the disk is full", "free some space"),
    "before": (because(RuntimeError("while closing"), FULL, while_handling=True), "disk is full", "free some space"),
    "further behind": (because(ValueError("x"), because(RuntimeError("y"), FULL)), "disk is full", "free some space"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_the_machine_refuses_is_told(name: str) -> None:
    problem, message, hint = TOLD[name]
    told = machine_error(problem, ["out"])
    assert told is not None
    assert (told.exit_code, "\n" in told.message) == (9, False)
    assert re.search(message, told.message), told.message
    assert hint in (told.hint or "")


def hidden(outer: Exception, inner: Exception) -> Exception:
    try:
        try:
            raise inner
        except type(inner):
            raise outer from None
    except type(outer) as problem:
        return problem


OURS: dict[str, Exception] = {
    "a missing file": FileNotFoundError(errno.ENOENT, "no", "/x"),
    "a right to what?": PermissionError(errno.EPERM, "Operation not permitted"),
    "a mistake": TypeError("x"),
    "a mistake after a full disk": because(NameError("x"), FULL, while_handling=True),
    "an error of its own": because(RuntimeError("x"), KeyError("y")),
    "an error instead": hidden(RuntimeError("x"), FULL),
    "the network": ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    "a folder that is there": FileExistsError(errno.EEXIST, "no", "/"),
    "a lock": BlockingIOError(errno.EAGAIN, "busy"),
    "text": UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    "a user's mistake": because(RuntimeError("x"), ArtefactError("y")),
}


@pytest.mark.parametrize("name", OURS)
def test_what_the_machine_does_not_refuse_keeps_its_traceback(name: str) -> None:
    assert machine_error(OURS[name], ["out"]) is None


def test_the_words_and_the_hint_say_what_is_kept_and_how_to_go_on() -> None:
    with pytest.raises(MachineError) as caught, machine_errors(["out"], lambda: ("step 6 is saved", "--resume")):
        raise OSError(errno.ENFILE, "no")
    assert caught.value.message == "this machine has too many files open; step 6 is saved"
    assert caught.value.hint == "ulimit -n $(ulimit -Hn), then: --resume"
    with pytest.raises(KeyError), machine_errors(["out"], lambda: ("", None)):
        raise KeyError("x")


def test_a_disk_without_inodes_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(f_files=10, f_favail=0, f_bavail=10**6, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda place: full)
    told = machine_error(FULL, ["out"])
    assert told is not None
    assert "free now: 4.1 GB in 0 files at `out`" in told.message


@pytest.mark.parametrize(
    ("problem", "which", "words"),
    [
        (OSError(errno.EFBIG, "no"), "RLIMIT_FSIZE", "no file may be larger than 1.5 MB here"),
        (RuntimeError("basic_ios::clear: iostream error"), "RLIMIT_FSIZE", "no file may be larger than 1.5 MB here"),
        (MemoryError(), "RLIMIT_AS", "ulimit -v unlimited: this process may use 1.5 MB"),
        (MemoryError(), "RLIMIT_DATA", "ulimit -d unlimited: this process may use 1.5 MB"),
        (RuntimeError("can't start new thread"), "RLIMIT_AS", "ulimit -v unlimited: this process may use 1.5 MB"),
    ],
)
def test_a_limit_is_named(problem: Exception, which: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = resource.getrlimit
    limited = getattr(resource, which)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1_500_000, -1) if kind == limited else plain(kind))
    told = machine_error(problem)
    assert told is not None
    assert words in f"{told.message} {told.hint}"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (45e5, "4.5 MB"), (2e9, "2.0 GB"), (3e12, "3.0 TB")],
)
def test_bytes_are_told_in_a_unit_that_shows_them(count: float, words: str) -> None:
    assert in_units(count) == words


CODE = """
import resource, sys
from hubdpo.machine.refusals import machine_error
def limit(which, value):
    resource.setrlimit(which, (value, resource.getrlimit(which)[1]))
def fail():
    {body}
try:
    fail()
except Exception as problem:
    print(machine_error(problem))
"""
LIMIT = "limit(resource.RLIMIT_FSIZE, 2000); big = b'x' * 100_000\n    "
REAL: dict[str, tuple[str, str]] = {
    "Python": ("open('/dev/full', 'w').write('x' * 100_000)", "the disk is full"),
    "Arrow": (
        "import pyarrow.parquet as q, pyarrow as p\n    with open('/dev/full', 'wb') as stream:\n"
        "        q.write_table(p.table({'a': ['x'*99]*99}), stream)", "the disk is full",
    ),
    "a limit": (LIMIT + "open('f', 'wb').write(big)", "larger than 2.0 kB"),
    "Arrow at a limit": (LIMIT + "import pyarrow as p; p.OSFile('f', 'wb').write(big)", "larger than 2.0 kB"),
    "safetensors at a limit": (
        LIMIT + "import numpy, safetensors.numpy as s; s.save_file({'a': numpy.zeros(9999)}, 'f')", "larger than 2.0 kB"
    ),
    "torch at a limit": (
        "import torch\n    " + LIMIT + "torch.save(torch.zeros(100_000), 'f')", "larger than 2.0 kB"
    ),
    "SQLite at a limit": (
        LIMIT + "import sqlite3; c = sqlite3.connect('f'); c.execute('create table t (a)')\n"
        "    c.execute('insert into t values (?)', [big]); c.commit()", "disk",
    ),
    "open files": (
        "limit(resource.RLIMIT_NOFILE, 20); a = [open('/dev/null') for _ in range(30)]", "too many"
    ),
    "a folder that is gone": ("import os; os.mkdir('d'); os.chdir('d'); os.rmdir('../d'); os.getcwd()", "was deleted"),
    "memory": ("limit(resource.RLIMIT_AS, 2**30); bytearray(2**40)", "ran out of memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_the_libraries_say_it_in_ways_that_are_known(name: str, tmp_path: Path) -> None:
    body, words = REAL[name]
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(body=body)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert words in done.stdout, done.stdout + done.stderr


def test_a_locale_that_cannot_spell_a_path_is_told(tmp_path: Path) -> None:
    code = CODE.format(body="open('b\\u00fccher')").replace("print(", "print(machine_error(problem).hint, ")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert "export PYTHONUTF8=1 the locale (ascii) cannot encode `bücher`" in done.stdout.decode()
