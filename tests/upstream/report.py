"""The table of a suite: what passed, what failed and why, what never asked the server, what is out of scope."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

COLUMNS = ("passed", "failed", "skipped", "client only", "out of scope")


def read_results(results: Path) -> list[dict[str, Any]]:
    """Return what the recorder wrote: an entry for each test."""
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []


def report(title: str, entries: list[dict[str, Any]]) -> tuple[str, bool]:
    """Return the table of a suite, and whether tests reached the server and all of those passed."""
    classes: dict[str, Counter[str]] = {}
    for entry in entries:
        classes.setdefault(_class_of(entry["test"]), Counter())[_column(entry)] += 1
    total = sum(classes.values(), Counter[str]())
    rows = [(where, counts) for where, counts in sorted(classes.items()) if counts["passed"] + counts["failed"]]
    width = max(len(where) for where, _ in [*rows, (title, total)])
    lines = ["", f"{title:{width}}" + "".join(f"{column:>14}" for column in COLUMNS)]
    for where, counts in [*rows, ("all", total)]:
        lines.append(f"{where:{width}}" + "".join(f"{counts[column]:>14}" for column in COLUMNS))
    groups = Counter(entry["group"] for entry in entries if "group" in entry)
    lines += [f"out of scope, {count:4}: {group}" for group, count in groups.most_common()]
    failed = [entry for entry in entries if _column(entry) == "failed"]
    lines += [f"FAILED {entry['test']}\n       {entry['reason']}" for entry in failed]
    alone = [entry for entry in entries if entry["outcome"] == "failed" and entry not in failed]
    lines += [f"failed without a request: {entry['test']}: {entry['reason'][:100]}" for entry in alone]
    asked = total["passed"] + total["failed"]
    share = f"{total['passed']} of {asked} in scope passed ({100 * total['passed'] / max(asked, 1):.1f} %)"
    return "\n".join([*lines, f"{title}: {share}", ""]), bool(asked and not failed)


def _column(entry: dict[str, Any]) -> str:
    """Return the column of a test. One that sends no request says nothing about the server, whatever its outcome."""
    alone = not entry.get("requests") and entry["outcome"] in ("passed", "failed")
    return "client only" if alone else entry["outcome"]


def _class_of(test: str) -> str:
    file, _, rest = test.partition("::")
    return f"{file.rpartition('/')[2]} {rest.partition('::')[0] if '::' in rest else ''}".strip()
