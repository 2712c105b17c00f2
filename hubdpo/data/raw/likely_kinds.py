"""What a file whose name tells no kind may be: Excel calls its "Unicode text" .txt, and others call rows anything."""

from __future__ import annotations

from hubdpo.data.raw.delimited import HEAD, form_of, has_equal_rows
from hubdpo.data.raw.encodings import marked_encoding, unmarked_utf16

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
