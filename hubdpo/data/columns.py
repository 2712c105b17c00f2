"""Conversations to Arrow a batch at a time: texts are encoded once, hashed and handed over as bytes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubdpo.data.preference import MESSAGES, ROLES, Message

_FIELDS = list(MESSAGES.value_type)
_CODE = {role: number for number, role in enumerate(ROLES)}
UNKNOWN = len(ROLES)


class MessagesColumn:
    """One column of a batch: for every row its messages. A role that is none of ROLES has the code UNKNOWN.

    Raise UnicodeEncodeError, once it is asked for bytes, for a text with half a surrogate pair.
    """

    def __init__(self, conversations: list[list[Message]]) -> None:
        flat = [message for messages in conversations for message in messages]
        self.texts = [message["content"] for message in flat]
        self.roles = bytes([_CODE.get(message["role"], UNKNOWN) for message in flat])
        self.counts = np.fromiter(map(len, conversations), np.int64, len(conversations))
        self.ends = np.concatenate([[0], np.cumsum(self.counts)])
        self.single = len(flat) == len(conversations) and bool((self.counts == 1).all())
        """Whether every row is one message."""

    @functools.cached_property
    def utf8(self) -> list[bytes]:
        return [text.encode() for text in self.texts]

    def rows(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Give the codes of the roles, and the texts as UTF-8, of each row."""
        ends = self.ends.tolist()
        for start, stop in zip(ends, ends[1:], strict=False):
            yield self.roles[start:stop], self.utf8[start:stop]

    def array(self) -> pa.ListArray:
        roles = _ROLES.take(_numbers(pa.int8(), np.frombuffer(self.roles, np.int8)))
        self._strings = _strings(self.utf8)
        messages = pa.StructArray.from_arrays([roles, self._strings], fields=_FIELDS)
        return pa.ListArray.from_arrays(_numbers(pa.int32(), self.ends.astype(np.int32)), messages)

    def lengths(self) -> tuple[Any, Any]:
        """Return int64 (rows,) twice, after `array`: the bytes and the characters of each row."""
        sizes = pc.binary_length(self._strings).to_numpy(zero_copy_only=False)
        characters = pc.utf8_length(self._strings).to_numpy(zero_copy_only=False)
        return self._a_row(sizes), self._a_row(characters)

    def _a_row(self, values: Any) -> Any:
        total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return total[self.ends[1:]] - total[self.ends[:-1]]


# `pa.array` would import pandas at its first call, which takes as long as a worker's first ten thousand rows


def _strings(texts: list[bytes]) -> pa.StringArray:
    ends = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, texts), np.int32, len(texts)), out=ends[1:])
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))


def _numbers(kind: pa.DataType, values: Any) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def mask_of(values: Any) -> pa.BooleanArray:
    """Make an array of bool (rows,)."""
    bits = np.packbits(values, bitorder="little")
    return pa.BooleanArray.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


_ROLES = _strings([role.encode() for role in ROLES])
