"""Messages name options as on the command line; spell them as in a Python call or a config file.

`--max-length 64` is `max_length=64` in a call, and `max_length: 64` in a file.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import get_args

from pydantic.fields import FieldInfo

from hubdpo.console import Spelling
from hubdpo.errors import HubdpoError

Value = str | bool | list[str] | None
Form = Callable[[str, Value], str | None]
"""Spell an option by its name and value (None: its name alone); return None to keep the flag."""

_OPTION = re.compile(r"--(?P<no>no-)?(?P<name>[a-z][a-z0-9-]*)(?: (?P<value>'[^']*'|(?!--)(?:[^\s,;`)]|,(?=\S))+))?")
_COMMAND = r"hubdpo [a-z-]+ [^`;]*"
_IN_TEXT = re.compile(f"{_COMMAND}|{re.sub('P<[a-z]+>', ':', f'{_OPTION.pattern}(?: {_OPTION.pattern})*')}")
_VALUE_IN_PROSE = re.compile(r"[A-Z]+|[\d.e%-]+")


def respelled(text: str, fields: Mapping[str, FieldInfo], form: Form, *, is_hint: bool = False) -> str:
    """Spell the options of a message in another form. Commands, and flags that are not in `fields`, stay.

    The word after a flag is its value in a hint and in backticks; in prose it must be a number, a choice or capitals.
    """

    def option(match: re.Match[str], *, is_code: bool) -> str:
        name, value = match["name"].replace("-", "_"), match["value"]
        if name not in fields:
            return match[0]
        kind = fields[name].annotation
        given: str | bool | None = None
        if bool in (kind, *get_args(kind)):
            given = not match["no"] if is_hint or match["no"] else None
        elif value and (is_code or _VALUE_IN_PROSE.fullmatch(value) or repr(value) in repr(kind)):
            given, value = shlex.split(value)[0], None
        if (spelled := form(name, given)) is None:
            return match[0]
        return (spelled if is_code else f"`{spelled}`") + (f" {value}" if value else "")

    def repeated(same: list[re.Match[str]], *, is_code: bool) -> str:
        name, values = same[0]["name"].replace("-", "_"), [shlex.split(one["value"] or "")[:1] for one in same]
        if len(same) > 1 and is_code and name in fields and all(values):
            return form(name, [value for (value,) in values]) or " ".join(one[0] for one in same)
        return (", " if is_code else " ").join(option(one, is_code=is_code) for one in same)

    def options(match: re.Match[str]) -> str:
        if not match[0].startswith("--"):
            return match[0]
        is_code = is_hint or text.count("`", 0, match.start()) % 2 == 1
        found: dict[str, list[re.Match[str]]] = {}
        for one in _OPTION.finditer(match[0]):
            found.setdefault(one["name"], []).append(one)
        spelled = [repeated(same, is_code=is_code) for same in found.values()]
        is_kept = spelled == [" ".join(one[0] for one in same) for same in found.values()]
        return match[0] if is_kept else (", " if is_code else " ").join(spelled)

    return _IN_TEXT.sub(options, text)


def as_keyword(name: str, value: Value) -> str:
    """Spell an option as an argument of a call: `max_length=64`, or `max_length=` without a value."""
    if value is None:
        return f"{name}="
    if isinstance(value, list):
        return f"{name}={json.dumps(value, ensure_ascii=False)}"
    if isinstance(value, bool) or value.isupper() and value.isalpha():  # a placeholder, such as VALUE
        return f"{name}={value}"
    try:
        return f"{name}={json.loads(value)!r}"
    except ValueError:
        return f"{name}={value!r}" if '"' in value else f'{name}="{value}"'


def as_key(name: str, value: Value) -> str:
    """Spell an option as a line of a config file: `max_length: 64`, or `max_length` without a value."""
    if isinstance(value, list):
        return f"{name}: {json.dumps(value, ensure_ascii=False)}"
    return name if value is None else f"{name}: {str(value).lower() if isinstance(value, bool) else value}"


def respell(problem: HubdpoError, spell: Spelling) -> None:
    """Spell the options in the message and the hint of an error in another form."""
    problem.message = spell(problem.message)
    problem.hint = spell(problem.hint, is_hint=True) if problem.hint else None
    problem.args = (problem.message,)
