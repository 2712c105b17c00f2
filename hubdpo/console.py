"""Write results to stdout and everything else to stderr, free of credentials and of terminal control characters.

In a notebook everything goes to stdout: a cell shows stderr as a fault.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from hubdpo.layout import table_lines
from hubdpo.secrets import cleaned


class Format(StrEnum):
    human = "human"
    json = "json"
    quiet = "quiet"


class Spelling(Protocol):
    def __call__(self, text: str, *, is_hint: bool = False) -> str: ...


@dataclass
class Output:
    """How this process writes."""

    format: Format = Format.human
    errors_only: bool = False
    """Whether warnings are hidden as well."""
    as_typed: bool = False
    """Whether options are named as on the command line, `--max-length`; otherwise as in a call."""
    listener: Callable[[str], None] | None = None
    """What gets each warning as well, also those that are not shown."""

    @property
    def is_quiet(self) -> bool:
        return self.format is Format.quiet


output = Output()
"""The state of this process; change it through `written_as`, which restores it."""
spell: ContextVar[Spelling] = ContextVar("spell", default=lambda text, *, is_hint=False: text)
"""How the options in a line are spelled, which is written for the command line."""

LOG_WIDTH = 160
"""Columns for a table that is not written to a terminal."""
CELL_WIDTH = 100
"""Columns of a cell's output in a notebook."""
REDRAWN_EVERY = 0.25
"""Seconds between two states of a bar in a notebook."""
MAX_WARNING_LENGTH = 500
"""Characters of a library's warning that are shown."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, bidirectional overrides, line separators, and surrogates of file names that are not UTF-8."""
_LINE_BREAKS = {ord("\n"): "\\n"}


@contextmanager
def written_as(
    format: Format | None = None,
    *,
    errors_only: bool = False,
    as_typed: bool = False,
    listener: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Change the state of `output` in the body, of which what is not given stays."""
    before = dict(vars(output))
    output.format = format or output.format
    output.errors_only |= errors_only
    output.as_typed |= as_typed
    output.listener = listener or output.listener
    try:
        yield
    finally:
        vars(output).update(before)


def printable(text: str) -> str:
    """Remove credentials and spell control characters as `\\u001b`: a repo, a row or a file name may contain either.

    Line breaks and tabs are kept, and JSON keeps its value.
    """
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", cleaned(text).replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Like `printable`, with line breaks spelled out, so that no value can forge a line of output."""
    return printable(text).translate(_LINE_BREAKS)


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, whose plural is regular: `1 pair`, `2,000 pairs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Return a time in its two largest units: `5s`, `3m 20s`, `1h 05m`, `2d 03h`."""
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller:02}{smaller_unit}"
    return f"{whole}s"


def listed(texts: Iterable[str], most: int = 3) -> str:
    """Join the first texts with commas, and say how many more there are."""
    texts = list(texts)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _stderr() -> Console:
    # created on each call, because a test or a caller may have redirected the stream
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def _console() -> Console:
    console = _stderr()
    if console.is_jupyter:
        return _plain(sys.stdout)  # rich would write HTML, an output for each line
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH  # a log has no edge
    return console


def _plain(file: TextIO) -> Console:
    """Return a console without control codes, for which kernels ask by FORCE_COLOR and which cells show as they are."""
    return Console(
        file=file, width=CELL_WIDTH, highlight=False, soft_wrap=True, force_jupyter=False, force_terminal=False,
        color_system=None,
    )  # fmt: skip


def result(line: str, data: Mapping[str, object], *, identifier: str | None = None) -> None:
    """Write the result of a command to stdout: `line` for people, `data` as JSON, or `identifier` when quiet.

    Only a line that equals its identifier, such as a model's answer, may contain line breaks.
    """
    if output.format is Format.json:
        ascii_only = (getattr(sys.stdout, "encoding", None) or "").lower() not in ("utf-8", "utf8")
        text = json.dumps(data, ensure_ascii=ascii_only, default=str)
    elif output.is_quiet:
        text = identifier or line
    else:
        text = line if line == identifier else one_line(line)
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def info(*lines: str) -> None:
    """Write each argument as a line to stderr."""
    show(*map(spell.get(), lines))


def show(*lines: str) -> None:
    """Write each argument as a line to stderr, as it is: rows of the user's data."""
    if not output.is_quiet:
        _console().print(Text("\n".join(map(one_line, lines))))


def warn(line: str) -> None:
    if output.listener is not None:
        output.listener(one_line(spell.get()(line)))
    if not output.errors_only:
        _console().print(Text.assemble(("warning: ", "yellow"), one_line(spell.get()(line))))


@contextmanager
def library_warnings() -> Iterator[None]:
    """Show Python warnings of the body through `warn`: one line, escaped, without a location in library code."""

    def show(message: Warning | str, _category: type[Warning], filename: str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if len(text) > MAX_WARNING_LENGTH:
            text = f"{text[:MAX_WARNING_LENGTH]}… ({len(text):,} characters)"
        library = re.search(r"[/\\]site-packages[/\\](\w+)", filename)
        warn(f"{library[1]} says: {text}" if library else text)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def error(line: str) -> None:
    _console().print(Text.assemble(("error: ", "bold red"), one_line(line)))


def bug(trace: str) -> None:
    """Write the traceback of a bug to stderr."""
    sys.stderr.write(printable(trace))


def hint(line: str) -> None:
    """Write the next command to type to stderr."""
    if not output.is_quiet:
        _console().print(Text.assemble(("hint: ", "cyan"), one_line(spell.get()(line, is_hint=True))))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Write a table to stderr. Every cell stays whole, so that it can be copied: see `table_lines`."""
    if output.is_quiet:
        return
    console = _console()
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    heading, *lines = table_lines([*map(one_line, columns)], cells, console.width)
    shown = [Text(one_line(title), "italic")] if title is not None else []
    shown += [Text(heading, "bold")] if heading else []
    console.print(Text("\n").join([*shown, *map(Text, lines)]))


class _CellBar(Progress):
    """A bar in a cell of a notebook: one output, updated in place, which needs no widgets and stays when it is done."""

    _shown: Any = None
    _drawn_at = -math.inf

    def start(self) -> None:
        from IPython.display import display

        self._shown = display(self._bundle(), raw=True, display_id=True)

    def stop(self) -> None:
        self._shown.update(self._bundle(), raw=True)

    def update(self, *args: Any, **values: Any) -> None:
        super().update(*args, **values)
        if self.get_time() - self._drawn_at >= REDRAWN_EVERY:
            self._shown.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        self._drawn_at, text = self.get_time(), io.StringIO()
        _plain(text).print(self.get_renderable())
        return {"text/plain": text.getvalue().rstrip()}


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Progress]:
    """Show a progress bar during the body, on a terminal or in the cell of a notebook.

    Advance it with `bar.update(bar.task_ids[0], advance=n, note=text)`.
    """
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False), TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    console = _stderr()
    # FORCE_COLOR makes rich take a pipe for a terminal, and a log would fill with bars
    hidden = output.is_quiet or not (console.is_jupyter or sys.stderr.isatty())
    kind = _CellBar if console.is_jupyter and not hidden else Progress
    bar = kind(*columns, console=console, transient=True, disable=hidden)
    bar.add_task(one_line(description), total=total, note="")
    with bar:
        yield bar


def ignore_deprecations() -> None:
    """Filter the deprecations of libraries: hubdpo uses spellings that every supported version accepts."""
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"(transformers|trl|peft|torch|accelerate|bitsandbytes)\b"
    )


def quiet_libraries() -> None:
    """Turn off progress bars, telemetry and chatter of the Hugging Face libraries in this process.

    For the command line alone, before it imports them: environment variables, warning filters and logger levels are
    those of the whole process, so a library has no business changing them.
    """
    for name, value in {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_HUB_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }.items():  # fmt: skip
        os.environ.setdefault(name, value)
    ignore_deprecations()
    # reported as an error of ours
    warnings.filterwarnings("ignore", message="Not enough free disk space", module="huggingface_hub")
    for name in (
        "huggingface_hub", "datasets", "transformers", "accelerate", "bitsandbytes", "httpx", "httpx2", "filelock",
    ):  # fmt: skip
        logging.getLogger(name).setLevel(logging.ERROR)
