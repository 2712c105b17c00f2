"""Read `metrics.jsonl` of a run folder."""

from __future__ import annotations

from pathlib import Path

from hubdpo.artefacts.formats.bounded import JsonObject, parse_json, read_text


def read_log(path: Path) -> list[JsonObject]:
    """Return the lines of a metrics.jsonl. Raise ValueError, naming the line, for one that is not a JSON object."""
    lines = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        try:
            line = parse_json(text, ours=True)
        except ValueError as problem:
            raise ValueError(f"line {number}: {problem}") from None
        if not isinstance(line, dict):
            raise ValueError(f"line {number}: it is not a JSON object")
        lines.append(line)
    return lines
