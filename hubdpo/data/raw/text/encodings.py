"""Text that is not UTF-8: convert what a byte order mark identifies, and name the command that converts the rest.

A guessed encoding is only suggested, never read: text that is read by the wrong one is silently wrong.
"""

from __future__ import annotations

import codecs
import io
import re
import shlex
from pathlib import Path
from typing import IO

from hubdpo.data.raw.rows import BLOCK
from hubdpo.errors import DataError

MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip
"""Byte order marks, UTF-32 first: its little-endian mark begins with that of UTF-16."""
LEAST_SHARE = 0.8
"""Share of the high bytes that must be in pairs for a Chinese encoding."""
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding that a byte order mark identifies; None for UTF-8 and for text without a mark."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def unmarked_utf16(head: bytes) -> str | None:
    """Return the byte order of UTF-16 without a mark, found by the zero bytes of Latin letters, or None."""
    if len(head) < 4 or b"\0" not in head:
        return None
    even, odd = head[0::2].count(0) / len(head[0::2]), head[1::2].count(0) / len(head[1::2])
    if max(even, odd) < 0.3 or min(even, odd) > 0.05:
        return None
    return "UTF-16LE" if odd > even else "UTF-16BE"


def guess_encoding(sample: bytes) -> str | None:
    """Return the likely encoding of text that is not UTF-8: GB18030 or Windows-1252, which includes Latin-1."""
    runs = _HIGH_BYTES.findall(sample)
    high = sum(map(len, runs))
    # Nearly all Chinese characters are two high bytes; an accented European letter mostly stands alone.
    if high and sum(len(run) for run in runs if len(run) >= 2) >= LEAST_SHARE * high and _decodes(sample, "gb18030"):
        return "GB18030"
    return "WINDOWS-1252" if _decodes(sample, "cp1252") else None


def not_utf8(name: str, sample: bytes, where: str = "", *, typed: str) -> DataError:
    """Return the error for a file in another encoding; `sample` is some of its text, `typed` its path for the hint."""
    guess = guess_encoding(sample)
    return DataError(
        f"the text is not UTF-8{f' but perhaps {guess}' if guess else ''}: {name}{where}",
        hint=convert_command(guess, typed),
    )


def convert_command(encoding: str | None, typed: str) -> str:
    """Return the command that writes a file as UTF-8."""
    file = Path(typed)
    new = shlex.quote(str(file.with_name(f"{file.stem}-utf8{file.suffix}")))
    return f"iconv -f {encoding or 'ENCODING'} -t UTF-8 {shlex.quote(typed)} > {new}"


def write_utf8(stream: IO[bytes], out: IO[bytes], encoding: str) -> None:
    """Convert text to UTF-8. Raise UnicodeDecodeError if it is broken."""
    with io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
        while block := text.read(BLOCK):
            out.write(block.encode())


def write_newlines(stream: IO[bytes], out: IO[bytes]) -> None:
    """Replace each CR by LF."""
    while block := stream.read(BLOCK):
        out.write(block.replace(b"\r", b"\n"))


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)  # incremental: the last character may be cut
    except UnicodeDecodeError:
        return False
    return True
