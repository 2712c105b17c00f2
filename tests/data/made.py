"""Small raw data, and the files of a folder, for the tests of prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from hubdpo.config import PrepareConfig
from hubdpo.config.name_values import write_pairs
from hubdpo.data.converters import Converter
from hubdpo.data.detection.detect import detect_all, look
from hubdpo.data.prepare.described import described_sources


def rows(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)]


def lines(values: list[Any]) -> bytes:
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def detect(rows: list[Any]) -> str:
    return detect_all([look(rows, "the source", "")])[0]


def find_converter(name: str, mapping: dict[str, str] | None = None) -> Converter:
    """Return the converter of a format, or the one for the columns of `--map`."""
    options = {"map": write_pairs(mapping.items())} if mapping else {}
    (described,) = described_sources(PrepareConfig.build({"source": "x", "output_dir": "d", **options}))
    return described.converter(name)
