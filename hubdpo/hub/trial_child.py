"""The process of a trial, alone with the patterns: what never ends or grows ends with it.

Run as a script by `hubdpo.hub.trial`; it reads a job as JSON and writes what came of it. It imports nothing of hubdpo.
"""

from __future__ import annotations

import json
import re
import sys
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


def match(job: dict[str, Any]) -> int:
    """Match as PEFT does; return how many of the names a pattern matches."""
    found = 0
    for name in job["names"]:
        found += any(re.fullmatch(pattern, name) for pattern in job["whole"])
        for pattern in job["ends"]:
            if re.match(rf"(.*\.)?({pattern})$", name):
                break
        for pattern in job["parts"]:
            re.match(rf"(^|.*\.){pattern}($|\..*)", name)
        for pattern in job["layers"]:
            re.match(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", name)
    return found


def main() -> None:
    job = json.load(sys.stdin)
    sys.setrecursionlimit(750)  # whoever comes after stands deeper in the stack
    limit(job["seconds"], job["megabytes"])
    try:
        told: dict[str, Any] = {"found": match(job)}
    except MemoryError:
        told = {"beyond": "memory"}
    except RecursionError:
        told = {"beyond": "depth"}
    except Exception as problem:  # a pattern that is none
        told = {"wrong": f"{type(problem).__name__}: {problem}"[:200]}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
