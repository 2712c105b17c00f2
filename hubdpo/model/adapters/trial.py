"""Try the regular expressions of other people's files in a process that can be ended, before they run here.

Python's `re` has no time limit and lets no signal handler run, so a pattern may never end. The trial matches the same
names as the real work: a pattern that passes it in time can then run for real.
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
from typing import Literal

from hubdpo.errors import ArtefactError

SECONDS, MEGABYTES, LONGEST_S = 10, 512, 60
"""Limits of a trial: CPU time, memory, and wall time, which is longer on a busy machine."""
PLAIN = re.compile(r"[\w.-]*")
MOST_PLAIN = 64
"""Patterns that are words match in no time, as long as there are few."""


@dataclass(frozen=True)
class Patterns:
    """The patterns of one field, which `where` names in errors, and how PEFT matches them with module names.

    They match a `whole` name, the `ends` of names, `parts` of names, or the part before the number of `layers`.
    """

    where: str
    how: Literal["whole", "ends", "parts", "layers"]
    patterns: Sequence[str]

    def are_plain(self) -> bool:
        return len(self.patterns) <= MOST_PLAIN and all(map(PLAIN.fullmatch, self.patterns))


def try_patterns(fields: Sequence[Patterns], names: Iterable[str]) -> None:
    """Match patterns against module names; ArtefactError for one that takes too long or is no regular expression."""
    if tried := [asdict(field) for field in fields if not field.are_plain()]:
        _run(json.dumps({"fields": tried, "names": sorted(set(names))}, default=str))


@lru_cache(maxsize=4)  # an adapter is checked before its base is fetched, and again where it is loaded
def _run(job: str) -> None:
    child = [sys.executable, "-I", str(Path(__file__).with_name("trial_child.py")), str(SECONDS), str(MEGABYTES)]
    try:
        done = subprocess.run(child, input=job, capture_output=True, text=True, timeout=LONGEST_S)
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired as problem:
        lines = (problem.stdout or b"").decode().splitlines()
    # the process says which field it begins with; if it says no more, the kernel ended it for its time
    reports = [json.loads(line) for line in lines] or [{"in": 0, "beyond": "memory"}]
    last = reports[-1] if set(reports[-1]) != {"in"} else {**reports[-1], "beyond": "time"}
    if "done" in last:
        return
    where = json.loads(job)["fields"][last["in"]]["where"]
    hint = f"correct {where.partition(' of ')[0]}, or tell its owner"
    if "wrong" in last:
        raise ArtefactError(f"{where} is not a regular expression: {last['wrong']}", hint=hint)
    limit = {"time": f"{SECONDS} seconds", "memory": f"{MEGABYTES} MB", "depth": "the depth to which Python nests"}
    raise ArtefactError(
        f"{where} is refused: matching it against the names of the modules takes more than {limit[last['beyond']]}",
        hint=hint,
    )
