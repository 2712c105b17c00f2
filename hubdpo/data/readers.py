"""Raw files to rows. JSON is parsed line by line with orjson before Arrow sees it: Arrow's own JSON reader crashes on
deep nesting and guesses types from the first block (see the notes on hostile input in the tests)."""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.errors import DataError
from hubdpo.hub.client import download, parse_ref, resolve
from hubdpo.manifest import Source, sha256_file

KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
ENDINGS = tuple(kind + packed for kind in KINDS for packed in ("", ".gz"))
HUB_PREFIX = "hf://datasets/"


@dataclass(frozen=True)
class RawFile:
    """One file to read, and the name under which people see it (never an absolute path)."""

    path: Path
    name: str

    @property
    def kind(self) -> str:
        return Path(self.path.name.removesuffix(".gz")).suffix.lower()

    def source(self) -> Source:
        return Source(name=self.name, sha256=sha256_file(self.path), size=self.path.stat().st_size)


@dataclass(frozen=True)
class RawRow:
    """A row and where it stands: `line` counts lines of text from 1, or rows of a table or array. `value` is None for
    what could not be parsed, and `problem` then is its reason code."""

    file: str
    line: int
    value: dict[str, Any] | None
    problem: str | None = None


@contextmanager
def open_sources(sources: list[str]) -> Iterator[list[RawFile]]:
    """Give the files behind files, folders, globs, `-` and hf:// addresses, in the order given and by name.

    Raise DataError when a source is missing, empty or of an unknown kind. What came from stdin is gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="hubdpo-stdin-") as scratch:
        files = [file for source in sources for file in _expand(source, Path(scratch))]
        for file in files:
            _check(file)
        yield files


def _expand(source: str, scratch: Path) -> list[RawFile]:
    if source == "-":
        with (scratch / "stdin.jsonl").open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        return [RawFile(scratch / "stdin.jsonl", "stdin")]
    if source.startswith(HUB_PREFIX):
        return _from_hub(source)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, source)
    if path.exists():
        return [RawFile(path, path.name)]
    matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise DataError(f"source not found: {source}", hint="check the path, or quote the glob")
    return [RawFile(Path(match), Path(match).name) for match in matches if Path(match).is_file()]


def _in_folder(folder: Path, source: str) -> list[RawFile]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.lower().endswith(ENDINGS)]
    if not found:
        raise DataError(
            f"the folder holds no file to read: {source}", hint=f"hubdpo reads {', '.join(KINDS)}, also .gz"
        )
    return [RawFile(path, path.relative_to(folder).as_posix()) for path in found]


def _from_hub(source: str) -> list[RawFile]:
    parts = source.removeprefix(HUB_PREFIX).split("/", 2)
    if len(parts) < 2:
        raise DataError(f"not a Hub address: {source}", hint="hf://datasets/USER/NAME@REVISION/path/file.parquet")
    repo_id, revision = parse_ref("/".join(parts[:2]))
    sha = resolve(repo_id, revision, repo_type="dataset")
    inside = parts[2] if len(parts) == 3 else None
    patterns = [inside, f"{inside}/*"] if inside else [f"*{ending}" for ending in ENDINGS]
    folder = download(repo_id, sha, repo_type="dataset", allow_patterns=patterns)
    return [
        RawFile(file.path, f"{HUB_PREFIX}{repo_id}@{sha}/{file.name}")
        for file in _in_folder(folder, source)
        if file.path.name != "prepare.json"
    ]


def _check(file: RawFile) -> None:
    if file.kind not in KINDS:
        raise DataError(
            f"cannot read this kind of file: {file.name}", hint=f"hubdpo reads {', '.join(KINDS)}, also .gz"
        )
    if file.path.stat().st_size == 0:
        raise DataError(f"the file is empty: {file.name}", hint="check how it was written")
    if file.kind == ".parquet":
        return
    with _opened(file) as stream:
        if b"\0" in stream.read(1 << 16):
            raise DataError(
                f"the file is binary, not {file.kind}: {file.name}", hint=f"hubdpo reads {', '.join(KINDS)}, also .gz"
            )


@contextmanager
def _opened(file: RawFile) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    try:
        with gzip.open(file.path) if file.path.name.endswith(".gz") else file.path.open("rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise DataError(
            f"the compressed file is broken: {file.name}: {problem}", hint=f"gzip --test {file.name}"
        ) from None


def read_rows(file: RawFile, *, max_line_bytes: int) -> Iterator[RawRow]:
    """Give every row of a file in order. Blank lines are no rows. Raise DataError when the file itself is broken."""
    if file.kind == ".parquet":
        yield from _read_parquet(file)
    elif file.kind == ".csv":
        yield from _read_csv(file)
    elif file.kind == ".json" and _is_array(file):
        yield from _read_array(file)
    else:
        yield from _read_lines(file, max_line_bytes)


def _read_lines(file: RawFile, max_line_bytes: int) -> Iterator[RawRow]:
    with _opened(file) as stream:
        number = 0
        while line := stream.readline(max_line_bytes + 1):
            number += 1
            if len(line) > max_line_bytes and not line.endswith(b"\n"):
                while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
                    pass
                yield RawRow(file.name, number, None, "line_too_long")
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield _parsed(file, number, line)


def _parsed(file: RawFile, number: int, line: bytes) -> RawRow:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return RawRow(file.name, number, None, "malformed_line")
    return _row(file, number, value)


def _row(file: RawFile, number: int, value: Any) -> RawRow:
    if not isinstance(value, dict):
        return RawRow(file.name, number, None, "not_an_object")
    return RawRow(file.name, number, value)


def _is_array(file: RawFile) -> bool:
    with _opened(file) as stream:
        return stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _read_array(file: RawFile) -> Iterator[RawRow]:
    with _opened(file) as stream:
        data = stream.read().removeprefix(b"\xef\xbb\xbf")
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as problem:
        raise DataError(
            f"the file is no JSON array: {file.name}, line {problem.lineno}: {problem.msg}",
            hint="mend it, or write one object a line and call it .jsonl",
        ) from None
    for number, value in enumerate(values, start=1):
        yield _row(file, number, value)


def _read_csv(file: RawFile) -> Iterator[RawRow]:
    csv.field_size_limit(1 << 26)
    with _opened(file) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        table = csv.DictReader(text, strict=True)
        try:
            for row in table:
                whole = None not in row and None not in row.values()
                yield RawRow(
                    file.name, table.line_num, dict(row) if whole else None, None if whole else "malformed_line"
                )
        except (csv.Error, UnicodeDecodeError) as problem:
            raise DataError(
                f"the CSV is broken: {file.name}, line {table.line_num}: {problem}", hint="save it as UTF-8 CSV again"
            ) from None


def _read_parquet(file: RawFile) -> Iterator[RawRow]:
    if file.path.name.endswith(".gz"):
        raise DataError(f"Parquet is compressed inside; unpack {file.name} first", hint=f"gunzip {file.name}")
    try:
        with pq.ParquetFile(file.path) as table:
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield RawRow(file.name, number, value)
    except (pa.ArrowException, OSError) as problem:
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DataError(
            f"the Parquet file is broken: {file.name}: {first}", hint="write or download it again"
        ) from None


def digest_text(path: Path) -> str:
    """Return the SHA-256 (hex) of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
