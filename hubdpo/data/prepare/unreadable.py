"""The error for a file of which no row can be parsed: the first bad line, and why it is bad."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import orjson

from hubdpo.artefacts.folders import storage
from hubdpo.data.prepare.dropped import NEXT_STEPS
from hubdpo.data.raw.pieces import Piece, PieceReader
from hubdpo.data.raw.raw_file import DELIMITED
from hubdpo.data.raw.text.encodings import convert_command
from hubdpo.data.raw.text.json_layout import CUT, Layout
from hubdpo.errors import DataError

UNPACK = {".gz": "gunzip -c", ".zst": "zstd -dc"}


def unreadable(pieces: Sequence[Piece], max_line_bytes: int) -> DataError | None:
    """Return the error for a file whose pieces gave no row, or None if the file has no rows at all."""
    before = 0
    for piece in pieces:
        reader = PieceReader(piece, max_line_bytes=max_line_bytes)
        for row in reader:
            if row.value is None:
                return _error(piece, before + row.line, row.problem or "malformed_line", row.detail)
        before += reader.lines
    return None


def _error(piece: Piece, line: int, problem: str, detail: str) -> DataError:
    name, typed = piece.file.name, piece.file.typed
    quoted = shlex.quote(typed)
    unpack = next((f"{command} {quoted} | " for ending, command in UNPACK.items() if typed.endswith(ending)), "")
    source = "" if unpack else f" {quoted}"
    lines = piece.layout is Layout.LINES or piece.file.kind in DELIMITED
    place = f"{piece.file.place if lines else 'item'} {line:,}"
    if problem == "not_utf8":
        hint = convert_command(None, typed)
    elif problem == "line_too_long":
        hint = f"--max-line-bytes {storage.size_of(piece.file.path)}"
    elif problem == CUT:
        hint = NEXT_STEPS[CUT]
    elif lines:
        hint = f"{unpack}sed -n {line}p{source} | cut -c 1-300"
    else:
        of = f"[{orjson.dumps(piece.key).decode()}]" if piece.key is not None else ""
        hint = f"{unpack}jq {shlex.quote(f'.{of}[{line - 1}]')}{source}"
    return DataError(f"no row of {name} can be read; {place} is the first: {problem}, {detail}", hint=hint)
