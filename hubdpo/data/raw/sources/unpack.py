"""Compressed text, and text of other encodings, is written out first: then all workers can read parts of it at once."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import zstandard

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.data.raw.expansion import Budget
from hubdpo.data.raw.raw_file import DELIMITED, PACKED, TABLES, RawFile, plain_name
from hubdpo.data.raw.sources.kinds import BLOCK, likely_kind, refuse_binary, rename_command
from hubdpo.data.raw.text.delimited import HEAD
from hubdpo.data.raw.text.encodings import marked_encoding, write_newlines, write_utf8
from hubdpo.errors import DataError


def unpacked(files: list[RawFile], scratch: str) -> list[RawFile]:
    """Write what is compressed, or is UTF-16, UTF-32 or lines that end in CR, out to the folder `scratch` as UTF-8.

    Raise DataError for a broken file, or one that never ends.
    """
    plain = []
    for number, file in enumerate(files):
        place = storage.join(scratch, f"{number:05d}-{{}}{Path(plain_name(file.name)).name}")
        if file.path.lower().endswith(PACKED):
            console.info(f"unpacking {file.name}")
            _unpack(file, place.format(""))
            file = replace(file, path=place.format(""))
            refuse_binary(file)
        plain.append(_as_utf8(file, place.format("utf8-")))
    return plain


def _as_utf8(file: RawFile, place: str) -> RawFile:
    """Write a file out as UTF-8 lines, where it is none and says so itself."""
    if file.kind in TABLES:
        return file
    with storage.open_read(file.path) as stream:
        head = stream.read(HEAD)
        stream.seek(0)
        encoding = marked_encoding(head)
        if encoding is None and (file.kind in DELIMITED or b"\r" not in head or b"\n" in head):
            return file
        console.info(f"{file.name} is {encoding or 'JSON with CR at the ends of its lines'}: reading it as such")
        with storage.open_write(place) as out:
            try:
                write_utf8(stream, out, encoding) if encoding else write_newlines(stream, out)
            except UnicodeDecodeError as problem:
                raise DataError(
                    f"the {encoding} of {file.name} is broken: {problem.reason}", hint="save it as UTF-8"
                ) from None
    return replace(file, path=place)


def _unpack(file: RawFile, place: str) -> None:
    budget = Budget.of_text(file.path, file.name)
    written = 0
    try:
        with (
            storage.open_read(file.path) as packed,
            _reader(packed, file.path) as stream,
            storage.open_write(place) as out,
        ):
            while block := stream.read(BLOCK):
                written += len(block)
                budget.spend(len(block))
                out.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as problem:
        if not written and _is_text(file):
            raise DataError(
                f"the file is not packed, though its name says so: {file.name}", hint=rename_command(file, "")
            ) from None
        raise DataError(
            f"the compressed file is broken: {file.name}: {problem}", hint="download or pack it again"
        ) from None
    if written == 0:
        raise DataError(f"the file is empty: {file.name}", hint="check how it was written")


def _is_text(file: RawFile) -> bool:
    with storage.open_read(file.path) as stream:
        return likely_kind(stream.read(HEAD)) is not None


def _reader(packed: IO[bytes], path: str) -> Any:
    if path.lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=packed)
    return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
