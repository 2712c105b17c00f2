"""JSON that is one value: its rows are cut out one by one, in a memory of one row, and orjson then judges each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO

import orjson

from hubdpo.data.raw import rows
from hubdpo.errors import DataError

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},"]', re.DOTALL)


def list_items(stream: IO[bytes], name: str, most: int) -> Iterator[tuple[str | None, bytes]]:
    """Give the text of each item of a JSON array, or of the arrays in a JSON object, each item with the key of its own.

    Other members of the object are passed over. Raise DataError when the value does not end with the file, or a text or
    an item has more than `most` bytes.
    """
    buffer, begin, scanned, depth, items = b"", 0, 0, 0, 0
    level = 0  # depth of the items: 1 in an array, 2 in an object
    key: str | None = None
    in_list = key_next = closed = False
    while not closed and (block := _up_to_a_quote(stream, buffer[scanned : scanned + 1] == b'"', most)):
        buffer, scanned, begin = buffer[begin:] + block, scanned - begin, 0
        for token in _TOKEN.finditer(buffer, scanned):
            mark = token[0]
            if mark == b'"':  # a text whose end is not here yet
                scanned = token.start()
                break
            scanned = token.end()
            if mark[0] == _QUOTE:
                if key_next:
                    key, key_next = _text(mark), False
                continue
            if in_list and depth == level and mark in (b",", b"]"):
                if text := buffer[begin : token.start()].strip():
                    items += 1
                    yield key, text
                begin = scanned
            if mark == b",":
                key_next = depth == 1 and level == 2
            elif mark in (b"[", b"{"):
                depth += 1
                if depth == 1:
                    level = 1 if mark == b"[" else 2
                    key_next = level == 2
                if depth == level:
                    in_list, begin = mark == b"[", scanned
            else:
                in_list &= depth != level
                depth -= 1
                if closed := depth == 0:
                    break
        if not in_list:
            begin = scanned
        if len(buffer) - begin > most:
            raise DataError(
                f"item {items + 1} of the array has more than {most:,} bytes: {name}",
                hint="write a row a line, as .jsonl",
            )
    if not closed or buffer[scanned:].strip() or stream.read(1 << 16).strip():
        raise DataError(
            f"the file is no JSON {'object' if level == 2 else 'array'}: {name}, "
            f"{'text after its end' if closed else 'it ends'} after item {items}",
            hint="mend it, or write one object a line and call it .jsonl",
        )


def object_lists(stream: IO[bytes], name: str, most: int) -> dict[str, int]:
    """Return the keys of a JSON object that hold lists of objects, with how many objects each has."""
    found = Counter(key for key, text in list_items(stream, name, most) if key is not None and text.startswith(b"{"))
    return dict(found)


_QUOTE = ord('"')


def _text(quoted: bytes) -> str:
    try:
        return str(orjson.loads(quoted))
    except orjson.JSONDecodeError:
        return quoted.decode(errors="replace")


def _up_to_a_quote(stream: IO[bytes], in_text: bool, most: int) -> bytes:
    """Read a block; inside a text, all up to a quote, so that a long text is not searched again at each block."""
    blocks = [stream.read(rows.BLOCK)]
    while in_text and blocks[-1] and b'"' not in blocks[-1] and len(blocks) * rows.BLOCK <= most:
        blocks.append(stream.read(rows.BLOCK))
    return b"".join(blocks)
