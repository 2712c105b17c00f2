"""Small raw data, and the files of a folder, for the tests of prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from hubdpo.data.detection.detect import detect_all, look


def rows(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)]


def lines(values: list[Any]) -> bytes:
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def detect(rows: list[Any]) -> str:
    return detect_all([look(rows, "the source", "")])[0]
