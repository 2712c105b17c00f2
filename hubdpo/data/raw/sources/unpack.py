"""Unpack compressed text and convert other encodings first, so that all workers can read parts of a file at once."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO

import zstandard

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.data.raw.expansion import Budget
from hubdpo.data.raw.raw_file import DELIMITED, PACKED, TABLES, RawFile, plain_name
from hubdpo.data.raw.rows import BLOCK
from hubdpo.data.raw.sources.kinds import likely_kind, refuse_binary, rename_command
from hubdpo.data.raw.text.encodings import (
    MARKS,
    all_utf8,
    fitting_encodings,
    marked_encoding,
    mostly_utf8,
    write_newlines,
    write_utf8,
)
from hubdpo.errors import DataError


def unpacked(files: list[RawFile], scratch: str) -> list[RawFile]:
    """Return the files as plain UTF-8, with copies in the folder `scratch` of those that are not.

    Copied are files that are compressed, of another encoding, or JSON whose lines end in CR. Raise DataError for a
    broken file, or one that unpacks to far more than its size.
    """
    plain = []
    for number, file in enumerate(files):
        base_name = Path(plain_name(file.name)).name
        if file.path.lower().endswith(PACKED):
            console.info(f"unpacking {file.name}")
            copy = storage.join(scratch, f"{number:05d}-{base_name}")
            _unpack(file, copy)
            file = replace(file, path=copy)
            refuse_binary(file)
        plain.append(_as_utf8(file, storage.join(scratch, f"{number:05d}-utf8-{base_name}")))
    return plain


def _as_utf8(file: RawFile, copy: str) -> RawFile:
    if file.kind in TABLES:
        return file
    head = file.head()
    encoding = marked_encoding(head) or _declared(file, head)
    if encoding is None and (file.kind in DELIMITED or b"\r" not in head or b"\n" in head):
        return file
    console.info(f"{file.name} is {encoding or 'JSON with CR at the ends of its lines'}: reading it as such")
    with storage.open_read(file.path) as stream, storage.open_write(copy) as out:
        try:
            write_utf8(stream, out, encoding) if encoding else write_newlines(stream, out)
        except UnicodeError as problem:
            fitting = [] if encoding in MARKS.values() else fitting_encodings(head)
            raise DataError(
                f"the {encoding} of {file.name} is broken: {getattr(problem, 'reason', problem)}",
                hint=f"--encoding {fitting[0]}" if fitting else "save it as UTF-8",
            ) from None
    return replace(file, path=copy, encoding=None)


def _declared(file: RawFile, head: bytes) -> str | None:
    """Return the encoding that was given for a file, or None if its text is UTF-8 all the same."""
    if file.encoding is None:
        return None
    with storage.open_read(file.path) as stream:
        if all_utf8(stream):
            console.info(f"{file.name} is UTF-8 and read as such")
            return None
    if mostly_utf8(head):
        raise DataError(f"most lines of {file.name} are UTF-8, not {file.encoding}", hint="leave `--encoding` out")
    return file.encoding


def _unpack(file: RawFile, copy: str) -> None:
    budget = Budget.of_text(file.path, file.name)
    written = 0
    try:
        with (
            storage.open_read(file.path) as packed,
            _reader(packed, file.path) as stream,
            storage.open_write(copy) as out,
        ):
            while block := stream.read(BLOCK):
                written += len(block)
                budget.spend(len(block))
                out.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as problem:
        if not written and likely_kind(file.head()) is not None:
            raise DataError(
                f"the file is not packed, though its name says so: {file.name}", hint=rename_command(file, "")
            ) from None
        raise DataError(
            f"the compressed file is broken: {file.name}: {problem}", hint="download or pack it again"
        ) from None
    if written == 0:
        raise DataError(f"the file is empty: {file.name}", hint="check how it was written")


def _reader(packed: IO[bytes], path: str) -> gzip.GzipFile | zstandard.ZstdDecompressionReader:
    if path.lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=packed)
    return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
