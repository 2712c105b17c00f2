"""Tell what a file holds by its first bytes, and refuse files whose names or contents cannot be read."""

from __future__ import annotations

import shlex
from pathlib import Path

import orjson

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.named import free, raw_instead
from hubdpo.data.raw.raw_file import HEAD_BYTES, KINDS, PACKED, READS, TABLES, RawFile, plain_name
from hubdpo.data.raw.text.delimited import form_of, has_equal_rows
from hubdpo.data.raw.text.encodings import marked_encoding, unmarked_utf16
from hubdpo.errors import DataError

TABLE_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow"}
PACKED_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
MAGIC = {
    b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow", b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK": "a ZIP archive or an Excel workbook", b"SQLite": "an SQLite database",
}  # fmt: skip
OPENED_BY = {
    ".tar": "tar -xkf", ".tar.gz": "tar -xkf", ".tgz": "tar -xkf", ".tar.zst": "tar -xkf", ".bz2": "bunzip2 -k",
    ".xz": "xz -dk", ".zip": "unzip", ".7z": "7z x", ".xlsx": "",
}  # fmt: skip
"""Commands for files that hold others, by the ending of their names; none replaces a file that is there."""
STATE, INDICES = "state.json", "indices.arrow"


def check_kind(file: RawFile) -> None:
    """Raise DataError for a file of an unknown kind, an empty one, and one whose content its name does not fit."""
    if file.kind not in KINDS:
        problem = f"cannot read this kind of file: {file.name}"
        if likely := likely_kind(file.head()):
            raise _other_kind(file, f"{problem}; its content looks like {likely}", likely)
        command = _opening_command(file)
        hint = command or raw_instead(file.argument) or "hubdpo prepare --help"
        raise DataError(problem if command else f"{problem}; {READS}", hint=hint)
    is_table, is_packed = file.kind in TABLES, file.path.lower().endswith(PACKED)
    if is_table and is_packed:
        command = "gunzip" if file.path.lower().endswith(".gz") else "unzstd"
        raise DataError(
            f"tables are compressed inside; unpack {file.name} first", hint=f"{command} {shlex.quote(file.typed)}"
        )
    if storage.size_of(file.path) == 0:
        raise DataError(f"the file is empty: {file.name}", hint=f"ls -l {shlex.quote(file.typed)}")
    if is_table and not any(map(file.head().startswith, MAGIC)) and (likely := likely_kind(file.head())):
        raise _other_kind(file, f"the file is no {file.kind}, as it is called; its content looks like {likely}", likely)
    if file.kind == ".arrow" and not storage.is_url(file.path):
        refuse_selection(Path(file.path))
    if not is_table and not is_packed:
        refuse_binary(file)


def _other_kind(file: RawFile, problem: str, kind: str) -> DataError:
    path = Path(file.typed)
    copy = free(str(path.with_name(path.stem + kind)))
    return DataError(problem, hint=f"cp {shlex.quote(str(path))} {shlex.quote(copy)}")


def _opening_command(file: RawFile) -> str | None:
    typed = shlex.quote(file.typed)
    ending = next((ending for ending in OPENED_BY if file.name.lower().endswith(ending)), None)
    if ending == ".xlsx":
        new = free(f"{Path(file.name).stem}.jsonl")
        code = f"import pandas; pandas.read_excel({file.typed!r}).to_json({new!r}, orient='records', lines=True)"
        return f"python -c {shlex.quote(code)}"
    return f"{OPENED_BY[ending]} {typed}" if ending else None


def likely_kind(head: bytes) -> str | None:
    """Return the file name ending that fits the first bytes of a file, or None.

    Excel calls its "Unicode text" .txt, and rows come under any name.
    """
    for magic, kind in TABLE_MAGIC.items():
        if head.startswith(magic):
            return kind
    text = head.decode(marked_encoding(head) or unmarked_utf16(head) or "utf-8-sig", errors="replace")
    if "\0" in text:
        return None
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return ".jsonl" if start == "{" else ".json"
    utf8 = text.encode()[:HEAD_BYTES]
    if not has_equal_rows(utf8, ".csv"):
        return None
    return ".tsv" if form_of(utf8, ".csv").delimiter == "\t" else ".csv"


def refuse_binary(file: RawFile) -> None:
    """Raise DataError if a text file holds zero bytes and no byte order mark that explains them."""
    head = file.head()
    if b"\0" not in head or marked_encoding(head) or file.encoding is not None:
        return
    if encoding := unmarked_utf16(head):
        raise DataError(
            f"the text is {encoding} without a byte order mark: {file.name}", hint=f"--encoding {encoding.lower()}"
        )
    for magic, ending in PACKED_MAGIC.items():
        if head.startswith(magic) and not file.original.lower().endswith(PACKED):
            raise DataError(
                f"the file is packed, and its name lacks {ending}: {file.name}", hint=rename_command(file, ending)
            )
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "binary")
    raise DataError(f"the file is {kind}, not {file.kind}: {file.name}", hint=READS)


def rename_command(file: RawFile, ending: str) -> str:
    """Return the command that appends an ending to a file's name, or removes `.gz` or `.zst` if it is empty."""
    path = file.typed
    return f"mv {shlex.quote(path)} {shlex.quote(free(path + ending if ending else plain_name(path)))}"


def refuse_selection(path: Path) -> None:
    """Raise DataError for an Arrow file whose folder selects or reorders its rows by an indices file.

    Early versions of `datasets` saved folders this way. Later versions write the selected rows, and ignore the indices.
    """
    folder = path.parent
    indices_name = _indices_name(folder)
    if indices_name is None:
        return
    rows, indices = (f"Dataset.from_file({str(folder / name)!r})" for name in ("dataset.arrow", indices_name))
    new = free(f"{folder.resolve().name}-selected.parquet")
    raise DataError(
        f"the folder {folder.name} selects rows of its data by {indices_name}, as early versions of `datasets` saved "
        "them; write the selected rows alone (`.flatten_indices()` where the dataset was made)",
        hint=f"python -c \"from datasets import Dataset; {rows}.select({indices}['indices'][:]).to_parquet({new!r})\"",
    )


def _indices_name(folder: Path) -> str | None:
    if (folder / INDICES).exists():
        return INDICES
    try:
        state = orjson.loads((folder / STATE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    members = state.items() if isinstance(state, dict) else ()
    files = [files for key, files in members if "indices" in key and "files" in key and files]
    if not files:
        return None
    first = files[0][0] if isinstance(files[0], list) else files[0]
    name = first.get("filename") if isinstance(first, dict) else first
    return name if isinstance(name, str) else INDICES
