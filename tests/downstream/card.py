"""The code blocks of a card on the Hub, run as they stand; what is left out or added is named where it is done."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

BLOCK = re.compile(r"^```(?:python|bash)\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
GOT_OTHERWISE = ("git clone", "pip install")
"""Lines that fetch llama.cpp's converters and their libraries, which `environments` gets from the package index."""
STARTS_WITHIN, LOOKS_EVERY = 300, 0.5
"""Seconds for a server to load its model, and between two looks at it."""


def block(card: str, words: str) -> str:
    """Return the one code block of a card in which these words are."""
    (found,) = [code for code in BLOCK.findall(card) if words in code]
    return found


def run_python(code: str) -> dict[str, Any]:
    """Run Python code of a card and return its names."""
    names: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), names)
    return names


def run_lines(
    code: str, folder: Path, env: Mapping[str, str], *, but: Sequence[str] = (), more: Additions = ()
) -> None:
    """Run the commands of a block, except those that begin with the words of `but` or that are got otherwise."""
    for line in lines(code, more):
        if not line.startswith((*GOT_OTHERWISE, *but)):
            sys.stdout.write(f"$ {line}\n")
            sys.stdout.flush()
            with (folder / "commands.log").open("ab") as log:
                done = subprocess.run(["bash", "-c", line], cwd=folder, env=env, stdout=log, stderr=log)
            if done.returncode != 0:
                raise RuntimeError(f"`{line}` failed, see {folder / 'commands.log'}")


Additions = Sequence[tuple[str, str]]
"""Options to add to the command that begins with these words."""


def lines(code: str, more: Additions = ()) -> list[str]:
    """Return the commands of a block, with the additions."""
    found = [line for line in code.replace("\\\n", " ").splitlines() if line.strip()]
    return [line + "".join(f" {options}" for words, options in more if line.startswith(words)) for line in found]


@contextmanager
def serving(line: str, folder: Path, env: Mapping[str, str], address: str) -> Iterator[None]:
    """Run a command that serves, until the end of the body. The body begins when `address` answers."""
    sys.stdout.write(f"$ {line}\n")
    sys.stdout.flush()
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-c", line], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(server, address, folder / "server.log")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}, see {log}")
        try:
            with urlopen(Request(address), timeout=5):
                return
        except HTTPError as problem:
            if problem.code != 503:  # llama.cpp says so while it loads
                return
        except (URLError, OSError):
            pass
        time.sleep(LOOKS_EVERY)
    raise RuntimeError(f"the server did not answer within {STARTS_WITHIN} s, see {log}")
