"""The process of a trial, alone with the patterns: what never ends or grows ends with it.

Run as a script by `hubdpo.model.tokenizer.trial`, its seconds and megabytes as arguments; it reads a job as JSON and
writes what came of it. It imports nothing of hubdpo.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any


def limit(seconds: int, megabytes: int) -> None:
    try:
        import resource
    except ImportError:  # no such limits on Windows, where the caller's clock alone ends a trial
        return
    for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, megabytes << 20)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS knows the limit of memory and does not take it
            continue


def match(field: dict[str, Any], names: list[str]) -> None:
    """Match as PEFT does, which takes the first pattern that fits the end of a name."""
    for name in names:
        for pattern in field["whole"]:
            re.fullmatch(pattern, name)
        for pattern in field["ends"]:
            if re.match(rf"(.*\.)?({pattern})$", name):
                break
        for pattern in field["parts"]:
            re.match(rf"(^|.*\.){pattern}($|\..*)", name)
        for pattern in field["layers"]:
            re.match(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", name)


def main() -> None:
    """Write a line with the number of each field before its patterns are matched, and what came of them at the end."""
    job = json.load(sys.stdin)
    sys.setrecursionlimit(750)  # whoever comes after stands deeper in the stack
    limit(*map(int, sys.argv[1:]))
    for number, field in enumerate(job["fields"]):
        told: dict[str, Any] = {"in": number}
        _say(told)
        try:
            match(field, job["names"])
        except MemoryError:
            told["beyond"] = "memory"
        except RecursionError:
            told["beyond"] = "depth"
        except Exception as problem:  # a pattern that is none
            told["wrong"] = f"{type(problem).__name__}: {problem}"[:200]
        if len(told) > 1:
            break
    _say(told if len(told) > 1 else {"took": time.process_time()})


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()  # what does not end is killed


if __name__ == "__main__":
    main()
