"""What is in a file: text by lines, a table for weights and Parquet, a picture, or that it is binary."""

from __future__ import annotations

import posixpath
from typing import Any

from hubdpo.artefacts.formats.bounded import parse_json, shortened
from hubdpo.artefacts.formats.front_matter import part
from hubdpo.artefacts.formats.parquet_footers import read_footer
from hubdpo.artefacts.formats.safetensors_header import read_tensors
from hubdpo.errors import ArtefactError
from hubdpo.view.page import Asked
from hubdpo.view.release.places import PICTURES, file_link, formatted
from hubdpo.view.thing import Thing

MOST_BYTES, LINES, LONGEST_LINE = 1_000_000, 2_000, 2_000
"""Bytes of a text file that are read, lines on a page, and characters of a line."""
MOST_VALUES, MOST_ROWS = 3_000, 2_000
"""Values of a JSON file that are laid out, and tensors or columns of a table."""
LONGEST_TYPE = 300


def show(asked: Asked, thing: Thing, path: str) -> dict[str, Any]:
    """Return what blob.html shows of a file: `view` names the part of the template."""
    ending = posixpath.splitext(path)[1].lower()
    as_text = asked.text("plain") == "1"
    if ending in PICTURES:
        return {"view": "picture", "picture": file_link(asked, thing, "image", path)}
    try:
        if ending == ".safetensors":
            return _tensors(thing, path)
        if ending == ".parquet":
            return _columns(asked, thing, path)
    except (ArtefactError, ValueError) as problem:
        return {"view": "binary", "reason": str(problem)}
    with thing.snapshot.open(path) as stream:
        data = stream.read(MOST_BYTES)
    if b"\0" in data:
        return {"view": "binary", "reason": ""}
    text = data.decode("utf-8", "replace")
    other = {"plain": asked.here(plain=None if as_text else 1, p=None), "as_text": as_text}
    is_whole = len(data) == thing.snapshot.files[path]
    if not as_text and is_whole and ending in (".md", ".json"):
        if ending == ".json" and (laid_out := _json(text)):
            return {**laid_out, **other}
        shown = formatted(asked, thing, part(text).body, posixpath.dirname(path)) if ending == ".md" else None
        if shown and not shown.is_cut:
            return {"view": "markdown", "body": shown.html, **other}
    return {**_lines(asked, text, is_whole), **(other if ending in (".md", ".json") else {})}


def _json(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text, constants=True)
    except ValueError:
        return None
    return {"view": "json", "value": value} if 0 < _count(value) <= MOST_VALUES else None


def _count(value: object) -> int:
    if not isinstance(value, dict | list):
        return 1
    inner = value.values() if isinstance(value, dict) else value
    return 1 + sum(map(_count, inner))


def _lines(asked: Asked, text: str, is_whole: bool) -> dict[str, Any]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    page = asked.number("p", 0)
    shown = [shortened(line.rstrip("\r"), LONGEST_LINE) for line in lines[page * LINES : (page + 1) * LINES]]
    return {
        "view": "lines", "lines": shown, "first": page * LINES + 1, "count": len(lines), "is_whole": is_whole,
        "most": MOST_BYTES, "next": asked.here(p=page + 1) if (page + 1) * LINES < len(lines) else None,
        "previous": asked.here(p=page - 1 or None) if page else None,
    }  # fmt: skip


def _tensors(thing: Thing, path: str) -> dict[str, Any]:
    with thing.snapshot.open(path) as stream:
        tensors = read_tensors(stream, thing.snapshot.files[path])
    rows = [
        (shortened(name, LONGEST_TYPE), tensor.dtype, " × ".join(map(str, tensor.shape)) or "one value", tensor.size)
        for name, tensor in list(tensors.items())[:MOST_ROWS]
    ]
    return {
        "view": "tensors", "rows": rows, "count": len(tensors), "types": sorted({one.dtype for one in tensors.values()})
    }  # fmt: skip


def _columns(asked: Asked, thing: Thing, path: str) -> dict[str, Any]:
    with thing.snapshot.open(path) as stream:
        footer = read_footer(stream, path, hint="tell its owner")
    names = footer.schema.names
    rows = [(name, shortened(str(footer.schema.field(place).type), LONGEST_TYPE)) for place, name in enumerate(names)]
    pairs = asked.link("viewer", revision=thing.revision if asked.base else None) if thing.kind == "dataset" else None
    return {"view": "columns", "rows": rows[:MOST_ROWS], "count": footer.rows, "pairs": pairs}
