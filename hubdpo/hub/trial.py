"""Regular expressions of others are tried in a process that may end badly, before they run here.

Python's `re` has no limit of time, and lets no handler run: a pattern may never end. What ends the trial in time, on
the names of the real work, is then run for real.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hubdpo.errors import ArtefactError

SECONDS, MEGABYTES, LONGEST_S = 10, 512, 60
"""What a trial may take: of the processor, of memory, and by the clock, where the machine is busy."""
PLAIN = re.compile(r"[\w.-]*")
MOST_PLAIN = 64
"""Patterns that are words are matched in no time, as long as they are few."""


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
    _run(job, where)


def _run(job: dict[str, Any], where: str) -> None:
    limits = {"seconds": SECONDS, "megabytes": MEGABYTES}
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
    hint = f"mend {where.partition(' of ')[0]}, or tell whoever made it"
    if "beyond" in told:
        doing = "matching it against the names of the modules"
        raise ArtefactError(f"{where} is refused: {doing} takes more than {limit[told['beyond']]}", hint=hint)
    if "wrong" in told:
        raise ArtefactError(f"{where} is no regular expression: {told['wrong']}", hint=hint)
