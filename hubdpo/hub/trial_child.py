"""The process of a trial, alone with the patterns or the template: what never ends or grows ends with it.

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


def render(job: dict[str, Any]) -> int:
    """Render every chat in an environment like that of transformers; return the most characters."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def stop(message: str) -> None:
        raise jinja2.TemplateError(message)

    room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    room.filters["tojson"] = lambda value, indent=None, **other: json.dumps(value, ensure_ascii=False, indent=indent)
    room.globals["raise_exception"] = stop
    room.globals["strftime_now"] = lambda form: "2024-01-01"
    made = room.from_string(re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", job["template"]))
    most = 0
    for chat in job["chats"]:
        try:
            text = made.render(
                **{"tools": None, "documents": None, **job["variables"]},
                messages=chat, add_generation_prompt=chat[-1]["role"] == "user",
            )  # fmt: skip
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError, LookupError):
            continue  # what it refuses, it will refuse again, and is told then
        most = max(most, len(text))
    return most


def main() -> None:
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    sys.setrecursionlimit(750)  # whoever comes after stands deeper in the stack
    limit(job["seconds"], job["megabytes"])
    try:
        told: dict[str, Any] = {"found": match(job) if "names" in job else render(job)}
    except MemoryError:
        told = {"beyond": "memory"}
    except RecursionError:
        told = {"beyond": "depth"}
    except Exception as problem:  # a pattern or a template that is none
        told = {"wrong": f"{type(problem).__name__}: {problem}"[:200]}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
