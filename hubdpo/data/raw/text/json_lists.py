"""Cut the items out of a large JSON array without parsing it, in the memory of one item; orjson then parses each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO

from hubdpo.data.converters.places import json_in
from hubdpo.data.raw import rows
from hubdpo.errors import DataError

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},"]', re.DOTALL)
"""A whole string, a bracket or a comma; a lone quote begins a string that continues in the next block."""
_QUOTE = ord('"')


def list_items(stream: IO[bytes], name: str, most: int) -> Iterator[tuple[str | None, bytes]]:
    """Yield (key, text) of each item of a JSON array, or of the arrays that are members of a JSON object.

    The key of an item of a bare array is None. Other members of the object are skipped. Raise DataError if the value
    does not end with the file, or if a string or an item has more than `most` bytes.
    """
    buffer = b""  # what is not yet behind us: from `begin`, the start of the current item, at the latest
    begin, scanned = 0, 0  # positions in the buffer; tokens before `scanned` are done
    depth, items = 0, 0
    level = 0  # depth of the items: 1 in an array, 2 in an object
    key: str | None = None
    in_list = key_next = closed = False
    while not closed and (block := _up_to_a_quote(stream, buffer[scanned : scanned + 1] == b'"', most)):
        buffer, scanned, begin = buffer[begin:] + block, scanned - begin, 0
        for token in _TOKEN.finditer(buffer, scanned):
            mark = token[0]
            if mark == b'"':  # a string that continues in the next block
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
                if depth == level:  # a member begins: a list of items, or an object to skip
                    in_list, begin = mark == b"[", scanned
            else:
                in_list &= depth != level
                depth -= 1
                if closed := depth == 0:
                    break
        if not in_list:
            begin = scanned  # nothing of what was scanned is part of an item
        if len(buffer) - begin > most:
            raise DataError(
                f"item {items + 1} of the array has more than {most:,} bytes: {name}",
                hint="write one row per line, as .jsonl",
            )
    if not closed or buffer[scanned:].strip() or stream.read(1 << 16).strip():
        raise DataError(
            f"the file is not a JSON {'object' if level == 2 else 'array'}: {name}, "
            f"{'text after its end' if closed else 'it ends'} after item {items}",
            hint="repair it, or write one object per line and call it .jsonl",
        )


def object_lists(stream: IO[bytes], name: str, most: int) -> dict[str, int]:
    """Return the keys of a JSON object that hold lists of objects, with the number of objects in each."""
    return Counter(key for key, text in list_items(stream, name, most) if key is not None and text.startswith(b"{"))


def _text(quoted: bytes) -> str:
    held = json_in(quoted)
    return quoted.decode(errors="replace") if held is None else str(held)


def _up_to_a_quote(stream: IO[bytes], in_string: bool, most: int) -> bytes:
    """Read a block, or inside a string all up to a quote: a long string is not searched again with each block."""
    blocks = [stream.read(rows.BLOCK)]
    while in_string and blocks[-1] and b'"' not in blocks[-1] and len(blocks) * rows.BLOCK <= most:
        blocks.append(stream.read(rows.BLOCK))
    return b"".join(blocks)
