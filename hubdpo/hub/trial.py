"""Regular expressions and chat templates of others are tried in a process that may end badly, before they run here.

Neither Python's `re` nor Jinja has a limit of time or of memory, and both come with every adapter: a pattern may never
end, a template may loop or grow without end. What ends the trial in time, on the names and chats of the real work, is
then run for real.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hubdpo.errors import ArtefactError, HubdpoError

SECONDS, MEGABYTES, LONGEST_S = 10, 512, 60
"""What a trial may take: of the processor, of memory, and by the clock, where the machine is busy."""
MOST_CHARACTERS = 1_000_000
"""Of a rendered chat beyond what is said in it."""
PLAIN = re.compile(r"[\w.-]*")
MOST_PLAIN = 64
"""Patterns that are words are matched in no time, as long as they are few."""
CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "what is it?"}],
    [{"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "It is 名 1."}],
    [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "what is it?"},
        {"role": "assistant", "content": "It is 名 1."},
        {"role": "user", "content": "And then?"},
    ],
]
"""What every template is tried on."""


def try_patterns(
    where: str,
    names: Iterable[str],
    *,
    whole: Sequence[str] = (),
    ends: Sequence[str] = (),
    parts: Sequence[str] = (),
    layers: Sequence[str] = (),
) -> None:
    """Match patterns against the names of modules: as a `whole`, at their `ends`, as `parts`, and around the number of
    `layers`, as PEFT does.

    Raise ArtefactError, which calls them `where`, when that does not end or one is no regular expression.
    """
    every = [*whole, *ends, *parts, *layers]
    if len(every) <= MOST_PLAIN and all(map(PLAIN.fullmatch, every)):
        return
    job = {"names": sorted(set(names)), "whole": whole, "ends": ends, "parts": parts, "layers": layers}
    _run(job, where, "matching it against the names of the modules", ArtefactError)


def try_template(
    where: str,
    template: str,
    variables: Mapping[str, Any] | None = None,
    *,
    chats: Sequence[Sequence[Mapping[str, Any]]] = CHATS,
    error: type[HubdpoError] = ArtefactError,
) -> None:
    """Render a chat template on `chats`. Raise `error`, which calls it `where`, when it does not end or grows."""
    job = {"template": template, "variables": dict(variables or {}), "chats": chats}
    length = _run(job, where, "rendering a chat with it", error)
    most = MOST_CHARACTERS + 20 * max(sum(len(str(turn)) for turn in chat) for chat in chats)
    if length > most:
        raise error(f"{where} makes {length:,} characters of a chat, and at most {most:,} are taken", hint=_hint(where))


def _run(job: dict[str, Any], where: str, doing: str, error: type[HubdpoError]) -> int:
    limits = {"seconds": SECONDS, "megabytes": MEGABYTES, "path": sys.path}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(__file__).with_name("trial_child.py"))],
            input=json.dumps({**job, **limits}, default=str), capture_output=True, text=True, timeout=LONGEST_S,
        )  # fmt: skip
        told = json.loads(done.stdout) if done.returncode == 0 else {"beyond": "time"}
    except subprocess.TimeoutExpired:
        told = {"beyond": "time"}
    except ValueError:
        told = {"beyond": "memory"}
    limit = {"time": f"{SECONDS} seconds", "memory": f"{MEGABYTES} MB", "depth": "the depth that Python nests to"}
    if "beyond" in told:
        raise error(f"{where} is refused: {doing} takes more than {limit[told['beyond']]}", hint=_hint(where))
    if "wrong" in told and "names" in job:
        raise error(f"{where} is no regular expression: {told['wrong']}", hint=_hint(where))
    return int(told.get("found", 0))


def _hint(where: str) -> str:
    return f"mend {where.partition(' of ')[0]}, or tell whoever made it"
