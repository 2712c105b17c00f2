"""Conversations to Arrow a batch at a time: texts are encoded once, hashed and handed over as bytes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import chain, compress
from typing import Any

import numpy as np
import pyarrow as pa

from hubdpo.artefacts.formats.messages import MESSAGES, ROLES, Message

_FIELDS = list(MESSAGES.value_type)
CODE = {role: number for number, role in enumerate(ROLES)}
UNKNOWN = len(ROLES)


class MessagesColumn:
    """One column of a batch: the contents and roles of all messages one after another, and how many each row has.

    A role is its place in ROLES; one that is none of them is UNKNOWN. `single` tells whether every row is one message.
    """

    def __init__(self, conversations: Sequence[Sequence[Message]]) -> None:
        flat = [message for messages in conversations for message in messages]
        self._fill(
            [message["content"] for message in flat],
            bytes([CODE.get(message["role"], UNKNOWN) for message in flat]),
            np.fromiter(map(len, conversations), np.int64, len(conversations)),
        )

    @classmethod
    def of(cls, texts: list[str], roles: bytes, counts: Any = None) -> MessagesColumn:
        """Make a column of its parts; without `counts`, int64 (rows,), each row is one message."""
        column = cls.__new__(cls)
        column._fill(texts, roles, np.ones(len(texts), np.int64) if counts is None else counts)
        return column

    @classmethod
    def turns(cls, texts: list[str], role: str) -> MessagesColumn:
        """Make a column of rows that are one message of `role` each."""
        return cls.of(texts, bytes([CODE[role]]) * len(texts))

    @classmethod
    def joined(cls, columns: Sequence[MessagesColumn]) -> MessagesColumn:
        """Put columns below one another."""
        if len(columns) == 1:
            return columns[0]
        texts = [text for column in columns for text in column.texts]
        return cls.of(texts, b"".join([c.roles for c in columns]), np.concatenate([c.counts for c in columns]))

    def _fill(self, texts: list[str], roles: bytes, counts: Any) -> None:
        self.texts, self.roles, self.counts = texts, roles, counts
        self.single = len(texts) == len(counts) and bool((counts == 1).all())
        self.ends = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=self.ends[1:])

    @functools.cached_property
    def utf8(self) -> list[bytes]:
        return list(map(str.encode, self.texts))

    @functools.cached_property
    def sizes(self) -> Any:
        """int32 (messages,): bytes of each."""
        return np.fromiter(map(len, self.utf8), np.int32, len(self.utf8))

    @functools.cached_property
    def blob(self) -> bytes:
        """All messages one after another."""
        return b"".join(self.utf8)

    @functools.cached_property
    def edges(self) -> Any:
        """uint8 (2, messages): the first and the last byte of each; those of an empty one are anything."""
        ends = np.cumsum(self.sizes, dtype=np.int64)
        places = np.stack([np.minimum(ends - self.sizes, ends[-1:] - 1), ends - 1])
        return np.frombuffer(self.blob, np.uint8)[places] if self.blob else np.zeros(places.shape, np.uint8)

    def row(self, number: int) -> list[Message]:
        """Return the messages of a row; an unknown role is named `?`."""
        where = slice(int(self.ends[number]), int(self.ends[number + 1]))
        names = (*ROLES, "?")
        return [
            {"role": names[code], "content": text}
            for code, text in zip(self.roles[where], self.texts[where], strict=True)
        ]

    def put(self, number: int, content: str) -> None:
        """Give the first message of a row another content."""
        place = int(self.ends[number])
        self.texts[place] = content
        self.utf8[place] = content.encode()
        for name in ("sizes", "blob", "edges"):
            self.__dict__.pop(name, None)

    def only(self, keep: Any) -> MessagesColumn:
        """Return the rows of a mask, bool (rows,)."""
        flat = np.repeat(keep, self.counts)
        picked = MessagesColumn.of(
            list(compress(self.texts, flat)), bytes(compress(self.roles, flat)), self.counts[keep]
        )
        picked.__dict__["utf8"] = list(compress(self.utf8, flat))
        return picked

    def array(self) -> pa.ListArray:
        roles = _ROLES.take(_numbers(pa.int8(), np.frombuffer(self.roles, np.int8)))
        messages = pa.StructArray.from_arrays([roles, _strings(self.blob, self.sizes)], fields=_FIELDS)
        return pa.ListArray.from_arrays(_numbers(pa.int32(), self.ends.astype(np.int32)), messages)

    def lengths(self) -> tuple[Any, Any]:
        """Return int64 (rows,) twice: the bytes and the characters of each row."""
        characters = np.fromiter(map(len, self.texts), np.int64, len(self.texts))
        return self.a_row(self.sizes.astype(np.int64)), self.a_row(characters)

    def a_row(self, values: Any) -> Any:
        """Add up what each message has, (messages, ...), for each row."""
        if self.single:
            return values
        total = np.zeros((len(values) + 1, *values.shape[1:]), values.dtype)
        np.cumsum(values, axis=0, out=total[1:])
        return total[self.ends[1:]] - total[self.ends[:-1]]


Columns = tuple[MessagesColumn, MessagesColumn, MessagesColumn]
"""Prompt, chosen and rejected."""


def plain_texts(values: Sequence[Any]) -> list[str] | None:
    """Return values that all are texts, or None."""
    return list(values) if set(map(type, values)) == {str} else None


def plain_messages(values: Sequence[Any]) -> MessagesColumn | None:
    """Make a column of values that all are lists of `{role, content}`, known roles and texts, or return None."""
    if set(map(type, values)) != {list}:
        return None
    flat = list(chain.from_iterable(values))
    if set(map(type, flat)) != {dict} or set(map(len, flat)) != {2}:
        return None
    try:
        texts, roles = [message["content"] for message in flat], [message["role"] for message in flat]
    except KeyError:
        return None
    if set(map(type, texts)) != {str} or set(map(type, roles)) != {str}:
        return None
    codes = bytes([CODE.get(role, UNKNOWN) for role in roles])
    if UNKNOWN in codes:
        return None
    return MessagesColumn.of(texts, codes, np.fromiter(map(len, values), np.int64, len(values)))


def with_systems(prompt: MessagesColumn, systems: Sequence[Any]) -> MessagesColumn | None:
    """Put the system turn of each row before its prompt; None unless all are texts and no row has its own."""
    kinds = set(map(type, systems))
    if kinds == {type(None)}:
        return prompt
    if not kinds <= {str, type(None)} or not prompt.counts.all():
        return None
    some = np.fromiter([bool(text and text.strip()) for text in systems], bool, len(systems))
    begins = prompt.ends[:-1]
    if (np.frombuffer(prompt.roles, np.uint8)[begins[some]] == CODE["system"]).any():
        return None
    texts, roles = list(prompt.texts), bytearray(prompt.roles)
    for row in np.flatnonzero(some)[::-1].tolist():
        texts.insert(begins[row], systems[row])
        roles.insert(begins[row], CODE["system"])
    return MessagesColumn.of(texts, bytes(roles), prompt.counts + some)


# `pa.array` would import pandas at its first call, which takes as long as a worker's first ten thousand rows


def text_array(values: Sequence[str | bytes | None]) -> pa.StringArray:
    """Make an array of texts, or UTF-8, some of them missing."""
    if set(map(type, values)) == {bytes}:
        utf8: Any = values
    else:
        utf8 = [value.encode() if isinstance(value, str) else value or b"" for value in values]
    valid = mask_of([value is not None for value in values]).buffers()[1] if None in values else None
    return _strings(b"".join(utf8), np.fromiter(map(len, utf8), np.int32, len(utf8)), valid)


def _strings(blob: bytes, sizes: Any, valid: Any = None) -> pa.StringArray:
    ends = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=ends[1:])
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(ends), pa.py_buffer(blob), valid)


def _numbers(kind: pa.DataType, values: Any) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def mask_of(values: Any) -> pa.BooleanArray:
    """Make an array of bool (rows,)."""
    bits = np.packbits(values, bitorder="little")
    return pa.BooleanArray.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


_ROLES = text_array(ROLES)
