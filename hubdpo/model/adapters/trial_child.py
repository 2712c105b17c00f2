"""The process of a trial: it runs alone with the patterns, and ends when they take too much time or memory.

`hubdpo.model.adapters.trial` runs this file as a script, with seconds and megabytes as arguments. It reads a job as
JSON from stdin and writes reports as JSON lines to stdout. It imports nothing of hubdpo.
"""

from __future__ import annotations

import json
import re
import sys

FORMS = {
    "whole": "%s", "ends": r"(.*\.)?(%s)$", "parts": r"(^|.*\.)%s($|\..*)", "layers": r"(?:^|.*?\.)%s\.(?P<idx>\d+)\.",
}  # fmt: skip


def limit(seconds: int, megabytes: int) -> None:
    """Have the kernel end this process beyond a CPU time, and refuse it memory."""
    try:
        import resource
    except ImportError:  # Windows has no such limits, and only the caller's clock ends a trial
        return
    for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, megabytes << 20)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS knows the limit of memory and does not accept it
            continue


def match(how: str, patterns: list[str], names: list[str]) -> None:
    """Match as PEFT does, which takes the first pattern that fits the end of a name."""
    matches = re.fullmatch if how == "whole" else re.match
    for name in names:
        for pattern in patterns:
            if matches(FORMS[how] % pattern, name) and how == "ends":
                break


def main() -> None:
    """Report the number of each field before its patterns are matched, and at the end the result."""
    job = json.load(sys.stdin)
    sys.setrecursionlimit(750)  # the real work runs deeper in the stack than this function
    limit(*map(int, sys.argv[1:]))
    for number, field in enumerate(job["fields"]):
        report: dict[str, object] = {"in": number}
        _say(report)
        try:
            match(field["how"], field["patterns"], job["names"])
        except MemoryError:
            report["beyond"] = "memory"
        except RecursionError:
            report["beyond"] = "depth"
        except Exception as problem:  # not a regular expression
            report["wrong"] = f"{type(problem).__name__}: {problem}"[:200]
        if len(report) > 1:
            break
    _say(report if len(report) > 1 else {"done": True})


def _say(report: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()  # the kernel may end this process in the next line


if __name__ == "__main__":
    main()
