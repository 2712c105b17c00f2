"""What a file whose name tells no kind may be: Excel calls its "Unicode text" .txt, and others call rows anything."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import orjson

from hubdpo.artefacts.folders import storage
from hubdpo.data.raw.raw_file import PACKED, READS, RawFile, plain_name
from hubdpo.data.raw.text.delimited import HEAD, form_of, has_equal_rows
from hubdpo.data.raw.text.encodings import convert_command, marked_encoding, unmarked_utf16
from hubdpo.errors import DataError

BINARY = {b"PAR1": ".parquet", b"ARROW1": ".arrow"}


def likely_kind(head: bytes) -> str | None:
    """Return the ending that fits the first bytes of a file, HEAD of them where it has as many, or None."""
    for magic, kind in BINARY.items():
        if head.startswith(magic):
            return kind
    text = head.decode(marked_encoding(head) or unmarked_utf16(head) or "utf-8-sig", errors="replace")
    if "\0" in text:
        return None
    begin = text.lstrip()[:2]
    if begin.startswith("{"):
        return ".jsonl"
    if begin.startswith("["):
        return ".json"
    data = text.encode()[:HEAD]
    if not has_equal_rows(data, ".csv"):
        return None
    return ".tsv" if form_of(data, ".csv").delimiter == "\t" else ".csv"


STATE, INDICES = "state.json", "indices.arrow"


def refuse_selection(path: Path) -> None:
    """Raise DataError for an Arrow file whose folder selects some of its rows, or puts them in another order."""
    folder = path.parent
    found = _indices_of(folder)
    if found is None:
        return
    rows, numbers = (f"Dataset.from_file({str(folder / name)!r})" for name in ("dataset.arrow", found))
    new = f"{folder.resolve().name}-selected.parquet"
    raise DataError(
        f"the folder {folder.name} selects rows of its data by {found}, as early versions of `datasets` saved them; "
        "write the selected rows alone (`.flatten_indices()` where the dataset was made)",
        hint=f"python -c \"from datasets import Dataset; {rows}.select({numbers}['indices'][:]).to_parquet({new!r})\"",
    )


def _indices_of(folder: Path) -> str | None:
    """Return the name of the file with the numbers of the rows, or None."""
    if (folder / INDICES).exists():
        return INDICES
    try:
        state: Any = orjson.loads((folder / STATE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    members = state.items() if isinstance(state, dict) else ()
    files = [files for key, files in members if "indices" in key and "files" in key and files]
    if not files:
        return None
    first = files[0][0] if isinstance(files[0], list) else files[0]
    name = first.get("filename") if isinstance(first, dict) else first
    return str(name) if isinstance(name, str) else INDICES


NOT_ROWS = frozenset({
    "prepare.json", "hubdpo.json", "release.json", "rejected.jsonl", "dataset_info.json", "dataset_infos.json",
    "dataset_dict.json", "state.json",
})  # fmt: skip
"""What hubdpo and `datasets` write about rows, beside them."""
MAGIC = {
    b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow", b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK": "a ZIP archive or an Excel workbook", b"SQLite": "an SQLite database",
}  # fmt: skip
"""What a binary file begins with."""
BLOCK = 1 << 20


def _unknown(file: RawFile) -> DataError:
    """Return the error for a name that tells no kind, with the name that fits what is in the file."""
    with storage.open_read(file.path) as stream:
        likely = likely_kind(stream.read(HEAD))
    if likely is None:
        return DataError(f"cannot read this kind of file: {file.name}", hint=READS)
    path = Path(file.typed)
    return DataError(
        f"cannot read this kind of file: {file.name}; its content looks like {likely}",
        hint=f"cp {shlex.quote(str(path))} {shlex.quote(str(path.with_name(path.stem + likely)))}",
    )


def refuse_binary(file: RawFile) -> None:
    with storage.open_read(file.path) as stream:
        head = stream.read(HEAD)
    if b"\0" not in head or marked_encoding(head):
        return
    if encoding := unmarked_utf16(head):
        raise DataError(
            f"the text is {encoding} without a byte order mark: {file.name}", hint=convert_command(encoding, file.typed)
        )
    for magic, ending in ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst")):
        if head.startswith(magic) and not file.original.lower().endswith(PACKED):
            raise DataError(
                f"the file is packed, and its name lacks {ending}: {file.name}", hint=rename_command(file, ending)
            )
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "binary")
    raise DataError(f"the file is {kind}, not {file.kind}: {file.name}", hint=READS)


def rename_command(file: RawFile, ending: str) -> str:
    """Return what gives a local file one more ending, or one less."""
    path = file.typed
    return f"mv {shlex.quote(path)} {shlex.quote(path + ending if ending else plain_name(path))}"
