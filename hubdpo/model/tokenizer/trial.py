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
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from hubdpo.errors import ArtefactError

SECONDS, MEGABYTES, LONGEST_S = 10, 512, 60
"""What the trials of an adapter may take: of the processor, of memory, and by the clock, where the machine is busy."""
PLAIN = re.compile(r"[\w.-]*")
MOST_PLAIN = 64
"""Patterns that are words are matched in no time, as long as they are few."""


@dataclass(frozen=True)
class Patterns:
    """The patterns of one field, which `where` names: they are matched as a `whole`, at the `ends` of names, as `parts`
    of them, and around the number of `layers`, as PEFT does.
    """

    where: str
    whole: Sequence[str] = ()
    ends: Sequence[str] = ()
    parts: Sequence[str] = ()
    layers: Sequence[str] = ()

    def are_plain(self) -> bool:
        every = [*self.whole, *self.ends, *self.parts, *self.layers]
        return len(every) <= MOST_PLAIN and all(map(PLAIN.fullmatch, every))


def try_patterns(fields: Sequence[Patterns], names: Iterable[str], *, seconds: float | None = None) -> float:
    """Match patterns against the names of modules, and return the seconds of the processor that it took.

    Raise ArtefactError, which names the field, when that does not end in `seconds` (SECONDS unless given), or when one
    is no regular expression.
    """
    tried = [asdict(field) for field in fields if not field.are_plain()]
    if not tried:
        return 0.0
    return _run(json.dumps({"fields": tried, "names": sorted(set(names))}, default=str), seconds)


@lru_cache(maxsize=4)  # an adapter is checked before its base is fetched, and again where it is loaded
def _run(job: str, seconds: float | None) -> float:
    limits = [str(max(1, round(SECONDS if seconds is None else seconds))), str(MEGABYTES)]
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(__file__).with_name("trial_child.py")), *limits],
            input=job, capture_output=True, text=True, timeout=LONGEST_S,
        )  # fmt: skip
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired as problem:
        lines = (problem.stdout or b"").decode().splitlines()
    told = [json.loads(line) for line in lines] or [{"in": 0, "beyond": "memory"}]
    last = told[-1] if set(told[-1]) != {"in"} else {**told[-1], "beyond": "time"}
    if "took" in last:
        return float(last["took"])
    where = json.loads(job)["fields"][last["in"]]["where"]
    hint = f"mend {where.partition(' of ')[0]}, or tell whoever made it"
    if "wrong" in last:
        raise ArtefactError(f"{where} is no regular expression: {last['wrong']}", hint=hint)
    limit = {"time": f"{SECONDS} seconds", "memory": f"{MEGABYTES} MB", "depth": "the depth that Python nests to"}
    doing = "matching it against the names of the modules"
    raise ArtefactError(f"{where} is refused: {doing} takes more than {limit[last['beyond']]}", hint=hint)
