"""Text that is not UTF-8: what a byte order mark tells is converted, the rest is named with the command that converts.

No encoding is guessed and then read: text read by a wrong one is wrong without a word.
"""

from __future__ import annotations

import codecs
import io
import re
import shlex
from pathlib import Path
from typing import IO

from hubdpo.errors import DataError

BLOCK = 1 << 20
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip
"""Byte order marks, those of UTF-32 first: they begin as those of UTF-16."""
LEAST_SHARE = 0.8
"""Share of the characters that speaks for an encoding."""
_PAIRS = re.compile(rb"[\x80-\xff]+")


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding that a byte order mark tells; None for UTF-8 and for text without a mark."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def unmarked_utf16(head: bytes) -> str | None:
    """Return the kind of UTF-16 that text without a mark is, by its zero bytes: those of the Latin letters."""
    if len(head) < 4 or b"\0" not in head:
        return None
    even, odd = head[0::2].count(0) / len(head[0::2]), head[1::2].count(0) / len(head[1::2])
    if max(even, odd) < 0.3 or min(even, odd) > 0.05:
        return None
    return "UTF-16LE" if odd > even else "UTF-16BE"


def foreign_encoding(sample: bytes) -> str | None:
    """Return the encoding that text which is not UTF-8 may have: GB18030, or Windows-1252 with Latin-1 in it."""
    runs = _PAIRS.findall(sample)
    high = sum(map(len, runs))
    # nearly all Chinese characters are two high bytes; an accented letter of Europe mostly stands alone
    if high and sum(len(run) for run in runs if len(run) >= 2) >= LEAST_SHARE * high and _decodes(sample, "gb18030"):
        return "GB18030"
    return "WINDOWS-1252" if _decodes(sample, "cp1252") else None


def not_utf8(name: str, sample: bytes, place: str = "", *, typed: str) -> DataError:
    """Return the error for a file whose text is in another encoding; `sample` is some of it, `typed` its path."""
    guess = foreign_encoding(sample)
    return DataError(
        f"the text is not UTF-8{f' but perhaps {guess}' if guess else ''}: {name}{place}",
        hint=convert_command(guess, typed),
    )


def convert_command(encoding: str | None, typed: str) -> str:
    """Return what to type to have a file as UTF-8."""
    file = Path(typed)
    new = shlex.quote(str(file.with_name(f"{file.stem}-utf8{file.suffix}")))
    return f"iconv -f {encoding or 'ENCODING'} -t UTF-8 {shlex.quote(typed)} > {new}"


def write_utf8(stream: IO[bytes], out: IO[bytes], encoding: str) -> None:
    """Convert text. Raise UnicodeDecodeError when it is broken."""
    with io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
        while block := text.read(BLOCK):
            out.write(block.encode())


def write_newlines(stream: IO[bytes], out: IO[bytes]) -> None:
    """Write each CR as LF."""
    while block := stream.read(BLOCK):
        out.write(block.replace(b"\r", b"\n"))


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)  # its last character may be cut
    except UnicodeDecodeError:
        return False
    return True
