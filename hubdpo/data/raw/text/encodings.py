"""Text that is not UTF-8: convert what a byte order mark or `--encoding` tells, and name what else may fit.

A guessed encoding is only suggested, never read: text that is read by the wrong one is silently wrong.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import IO

from hubdpo.data.raw.rows import BLOCK
from hubdpo.errors import DataError

MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip
"""Byte order marks, UTF-32 first: its little-endian mark begins with that of UTF-16."""
LATIN, CYRILLIC = "windows-1252", ("windows-1251", "koi8-r")
USUAL_ROWS = {
    "euc-kr": (((0xA1, 0xA3), (0xB0, 0xC8)), "euc-kr"),
    "shift_jis": (((0xA4, 0xA5), (0xB0, 0xCF)), "euc-jp"),
    "euc-jp": (((0xA4, 0xA5), (0xB0, 0xCF)), "euc-jp"),
    "gb18030": (((0xA1, 0xA3), (0xB0, 0xD7)), "gb2312"),
    "big5": (((0xA1, 0xA3), (0xA4, 0xC6)), "big5"),
}
"""First bytes of punctuation and of the common characters, in an encoding that is ordered by use."""
ENCODINGS = (*USUAL_ROWS, *CYRILLIC, LATIN)
"""What text that is not UTF-8 is mostly written in; of equally likely ones the earlier is named first."""
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


def fitting_encodings(sample: bytes) -> list[str]:
    """Return the encodings that may be those of some text, the likeliest first.

    An encoding is as likely as the share of its usual characters: common Chinese ones, kana, Hangul, small Cyrillic
    letters, or letters with accents, which stand alone.
    """
    runs = _HIGH_BYTES.findall(sample)
    alone = sum(len(run) == 1 for run in runs) / max(sum(map(len, runs)), 1)
    shares: dict[str, float] = {}
    for name in ENCODINGS:
        if (text := _decoded(sample, name)) is not None:
            high = [character for character in text if character > "\x7f"]
            usual = sum(_is_usual(character, name) for character in high) / max(len(high), 1)
            shares[name] = usual * (alone if name == LATIN else 1 - alone)
    likely = [name for name, share in shares.items() if 2 * share >= max(shares.values())]
    return sorted(likely, key=lambda name: -shares[name])


def not_utf8(name: str, sample: bytes, where: str = "") -> DataError:
    """Return the error for a file in another encoding; `sample` is some of its text."""
    likely, *others = fitting_encodings(sample) or [""]
    if not likely:
        return DataError(f"the text is not UTF-8: {name}{where}", hint="--encoding NAME, as whoever wrote it can say")
    also = f" (or {', '.join(others)})" if others else ""
    return DataError(
        f"the text is not UTF-8 but perhaps {likely}{also}: {name}{where}; `--explain 3` shows whether it is",
        hint=f"--encoding {likely}",
    )


def mostly_utf8(head: bytes) -> bool:
    """Return whether more than half of the lines that are not ASCII are UTF-8."""
    lines = [line for line in head.split(b"\n")[: -1 if head.count(b"\n") else None] if not line.isascii()]
    return 2 * sum(map(is_utf8, lines)) > len(lines)


def write_utf8(stream: IO[bytes], out: IO[bytes], encoding: str) -> None:
    """Convert text to UTF-8. Raise UnicodeError if it is broken."""
    with io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
        while block := text.read(BLOCK):
            out.write(block.encode())


def write_newlines(stream: IO[bytes], out: IO[bytes]) -> None:
    """Replace each CR by LF."""
    while block := stream.read(BLOCK):
        out.write(block.replace(b"\r", b"\n"))


def all_utf8(stream: IO[bytes]) -> bool:
    """Return whether all bytes that are left are UTF-8 without zeros, which UTF-16 has."""
    blocks = iter(lambda: stream.read(BLOCK), b"")
    try:
        return not any("\0" in text for text in codecs.iterdecode(blocks, "utf-8"))
    except UnicodeDecodeError:
        return False


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(sample: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)  # incremental: the last character may be cut
    except UnicodeError:
        return None


def _is_usual(character: str, encoding: str) -> bool:
    if encoding in CYRILLIC:
        return "а" <= character <= "я"
    if encoding == LATIN:
        return character.isalpha() or character in "–—‘’“”…€«»°"
    rows, encoded = USUAL_ROWS[encoding]
    lead = character.encode(encoded, errors="ignore")[:1]
    return bool(lead) and any(first <= lead[0] <= last for first, last in rows)
