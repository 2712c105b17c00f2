"""The page of exit codes, from the tree of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hubdpo import errors
from tests.reference.markdown import prose, table

_MEANING = re.compile(r"(\w+) +\d+ {2,}(.+)")
HEAD = """# Exit codes

A command that fails prints one line, `error: ...`, and mostly a second one, `hint: ...`, with what to type next. Its
exit code says what kind of failure it was. In Python, each is an exception of `hubdpo.errors` with the attributes
`message`, `hint` and `exit_code`; all of them are a `HubdpoError`.
"""
TAIL = """
A signal (TERM, HUP, QUIT, Ctrl-C) ends a command with 128 plus its number: 130 after Ctrl-C, 143 after TERM.

A sweep goes on after a run that failed, and ends with 8. `push` ends with 4 if the release stands, but the
collection could not be changed.
"""


def meanings() -> dict[str, str]:
    """Return what each class of `hubdpo.errors` is for, from the tree in the docstring of the module."""
    return dict(_MEANING.findall(errors.__doc__ or ""))


def classes(root: type[errors.HubdpoError] = errors.HubdpoError) -> Iterator[type[errors.HubdpoError]]:
    """Yield the errors of the module, parents first."""
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from classes(kind)


def page() -> str:
    """Return the page."""
    known = meanings()
    rows = [(f"{kind.exit_code}", f"`{kind.__name__}`", prose(known[kind.__name__])) for kind in classes()]
    rows += [("0", "", "Success."), ("1", "", "A bug of hubdpo. It keeps its traceback: please report it.")]
    rows.sort(key=lambda row: int(row[0]))
    shown = [(number, name, f"{text[:1].upper()}{text[1:]}".rstrip(".") + ".") for number, name, text in rows]
    return f"{HEAD}\n{table(['code', 'exception', 'meaning'], shown)}\n{TAIL}"
