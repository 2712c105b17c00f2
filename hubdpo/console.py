"""What hubdpo says: results on stdout, talk and progress on stderr; never a credential."""

from __future__ import annotations

import json
import logging
import os
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


def use_format(value: Format) -> None:
    """Choose how results are written: for a person, as one JSON object a line, or as the bare identifier."""
    global _format
    _format = value


def _stderr() -> Console:
    # made anew at each call, so that a test's or a caller's redirected stream is honoured
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def result(line: str, data: Mapping[str, Any], *, identifier: str | None = None) -> None:
    """Write the command's one result to stdout: `line` for people, `data` as JSON, or `identifier` when quiet."""
    if _format is Format.json:
        text = json.dumps(data, ensure_ascii=False, default=str)
    elif _format is Format.quiet:
        text = identifier or line
    else:
        text = line
    sys.stdout.write(cleaned(text) + "\n")
    sys.stdout.flush()


def info(line: str = "") -> None:
    if _format is not Format.quiet:
        _stderr().print(Text(cleaned(line)))


def warn(line: str) -> None:
    _stderr().print(Text.assemble(("warning: ", "yellow"), cleaned(line)))


def error(line: str) -> None:
    _stderr().print(Text.assemble(("error: ", "bold red"), cleaned(line)))


def hint(line: str) -> None:
    """Show the next command to type."""
    if _format is not Format.quiet:
        _stderr().print(Text.assemble(("hint: ", "cyan"), cleaned(line)))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    if _format is Format.quiet:
        return
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        drawn.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cleaned(str(cell))) for cell in row))
    _stderr().print(drawn)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Progress]:
    """Show a bar on stderr while the body runs, silent off a terminal.

    `bar.update(bar.task_ids[0], advance=n, note=text)` moves it.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    console = _stderr()
    hidden = not console.is_terminal or _format is Format.quiet
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        bar.add_task(description, total=total, note="")
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
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|torch|accelerate)\b")
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
