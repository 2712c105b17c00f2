"""What hubdpo says: results on stdout, talk and progress on stderr; never a credential, nor a terminal's commands."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from hubdpo.secrets import cleaned


class Format(StrEnum):
    human = "human"
    json = "json"
    quiet = "quiet"


_format = Format.human
_silent = False
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, colours, or turns the order of letters round, and bytes of file names that are not text."""
_BREAKS = {ord("\n"): "\\n"}
MOST_OF_A_WARNING = 500
"""Characters of what a library warns of."""


def use_format(value: Format) -> None:
    """Choose how results are written: for a person, as one JSON object a line, or as the bare identifier."""
    global _format
    _format = value


def is_quiet() -> bool:
    return _format is Format.quiet


def be_silent() -> None:
    """Say no more than errors from here on: another process of this run says the same."""
    global _silent
    _silent = True
    use_format(Format.quiet)


def printable(text: str) -> str:
    """Cut credentials out, and spell as `\\u001b` what a terminal would obey: a repo, a row or a file name may hold it.

    Line breaks and tabs stay. JSON stays the same JSON.
    """
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", cleaned(text).replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Do as `printable`, and spell line breaks out too, so that no name and no row begins a line of its own."""
    return printable(text).translate(_BREAKS)


def _stderr() -> Console:
    # made anew at each call, so that a test's or a caller's redirected stream is honoured
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def result(line: str, data: Mapping[str, Any], *, identifier: str | None = None) -> None:
    """Write the command's one result to stdout: `line` for people, `data` as JSON, or `identifier` when quiet.

    A line that is its own identifier, such as a model's answer, may have line breaks.
    """
    if _format is Format.json:
        # where the stream has no such letters, they are spelled as JSON spells them
        ascii_alone = (getattr(sys.stdout, "encoding", None) or "").lower() not in ("utf-8", "utf8")
        text = json.dumps(data, ensure_ascii=ascii_alone, default=str)
    elif _format is Format.quiet:
        text = identifier or line
    else:
        text = line if line == identifier else one_line(line)
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def info(*lines: str) -> None:
    """Say something, each argument on a line of its own."""
    if _format is not Format.quiet:
        _stderr().print(Text("\n".join(map(one_line, lines))))


def warn(line: str) -> None:
    if not _silent:
        _stderr().print(Text.assemble(("warning: ", "yellow"), one_line(line)))


@contextmanager
def library_warnings() -> Iterator[None]:
    """Say what libraries warn of in the body as warnings of ours: Python writes texts of a repo as they are, over
    several lines, with a place in code that is not the reader's.
    """

    def say(message: Warning | str, _category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if len(text) > MOST_OF_A_WARNING:
            text = f"{text[:MOST_OF_A_WARNING]}… ({len(text):,} characters)"
        library = re.search(r"[/\\]site-packages[/\\](\w+)", filename)
        warn(f"{library[1]} says: {text}" if library else text)

    before = warnings.showwarning
    warnings.showwarning = say  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before


def error(line: str) -> None:
    _stderr().print(Text.assemble(("error: ", "bold red"), one_line(line)))


def bug(trace: str) -> None:
    """Show the traceback of a bug of ours."""
    sys.stderr.write(printable(trace))


def hint(line: str) -> None:
    """Show the next command to type."""
    if _format is not Format.quiet:
        _stderr().print(Text.assemble(("hint: ", "cyan"), one_line(line)))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    if _format is Format.quiet:
        return
    drawn = Table(
        title=None if title is None else Text(one_line(title)), title_justify="left", box=None, pad_edge=False
    )
    for i, name in enumerate(columns):
        drawn.add_column(Text(one_line(name)), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(one_line(str(cell))) for cell in row))
    _stderr().print(drawn)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Progress]:
    """Show a bar on stderr while the body runs, silent off a terminal.

    `bar.update(bar.task_ids[0], advance=n, note=text)` moves it.
    """
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False), TimeRemainingColumn(),
    )  # fmt: skip
    console = _stderr()
    hidden = not console.is_terminal or _format is Format.quiet
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        bar.add_task(one_line(description), total=total, note="")
        yield bar


def quiet_libraries() -> None:
    """Silence what the Hugging Face libraries print of themselves. Call before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    # the spellings we use are those that every admitted version knows, so the newest calls some of them old
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"(transformers|trl|peft|torch|accelerate|bitsandbytes)\b"
    )
    # a disk that is full is told as an error
    warnings.filterwarnings("ignore", message="Not enough free disk space", module="huggingface_hub")
    for name in (
        "huggingface_hub",
        "datasets",
        "transformers",
        "accelerate",
        "bitsandbytes",
        "httpx",
        "httpx2",
        "filelock",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
