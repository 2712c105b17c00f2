"""Conversations of many rows in flat arrays: each text is encoded once, then hashed and written to Arrow as bytes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import chain, compress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hubdpo.artefacts.formats.messages import MESSAGES, ROLES, Message

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
CODE = {role: code for code, role in enumerate(ROLES)}
UNKNOWN = len(ROLES)
"""The role code of every role that is not in ROLES."""
SPACES = tuple(chr(code) for code in range(0x3001) if chr(code).isspace())
"""All white space that `str.strip` and `\\s` know."""


def edge_bytes(texts: Sequence[str], edge: int) -> Mask:
    """Return bool (256,): whether a byte is at this edge, 0 or -1, of one of the texts."""
    return np.isin(np.arange(256), [text.encode()[edge] for text in texts])


MAY_BEGIN_SPACE, MAY_END_SPACE = (edge_bytes(SPACES, edge) for edge in (0, -1))
"""Whether a byte may be the first, or the last, of a white space character in UTF-8."""
_FIELDS = list(MESSAGES.value_type)


class MessageColumn:
    """One message column of a batch: the messages of all rows, one after another.

    texts   list of str, length messages
    roles   bytes, length messages: the index of each role in ROLES, or UNKNOWN
    counts  int64 (rows,): messages of each row
    ends    int64 (rows + 1,): messages of row i are ends[i]:ends[i + 1]
    single  whether every row is exactly one message, so that rows and messages have the same index
    """

    def __init__(self, texts: list[str], roles: bytes, counts: Counts) -> None:
        self.texts, self.roles, self.counts = texts, roles, counts
        self.single = len(texts) == len(counts) and bool((counts == 1).all())
        self.ends = np.zeros(len(counts) + 1, np.int64)  # begins with 0, so that the first row needs no special case
        np.cumsum(counts, out=self.ends[1:])

    @classmethod
    def of(cls, conversations: Sequence[Sequence[Message]]) -> MessageColumn:
        """Build a column whose rows are conversations."""
        flat = list(chain.from_iterable(conversations))  # length messages
        return cls(
            [message["content"] for message in flat],
            bytes([CODE.get(message["role"], UNKNOWN) for message in flat]),
            np.fromiter(map(len, conversations), np.int64, len(conversations)),
        )

    @classmethod
    def single_turns(cls, texts: list[str], role: str) -> MessageColumn:
        """Build a column whose rows are one message of `role` each."""
        return cls(texts, bytes([CODE[role]]) * len(texts), np.ones(len(texts), np.int64))

    @classmethod
    def concat(cls, columns: Sequence[MessageColumn]) -> MessageColumn:
        """Concatenate the rows of columns."""
        if len(columns) == 1:
            return columns[0]
        texts = [text for column in columns for text in column.texts]
        return cls(texts, b"".join([c.roles for c in columns]), np.concatenate([c.counts for c in columns]))

    @property
    def role_codes(self) -> npt.NDArray[np.uint8]:
        """uint8 (messages,): a view of `roles`."""
        return np.frombuffer(self.roles, np.uint8)

    # Cached per message: several rules read them. `set_first` drops them when a text changes.

    @functools.cached_property
    def utf8(self) -> list[bytes]:
        return list(map(str.encode, self.texts))

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int32]:
        """int32 (messages,): bytes of each message."""
        return np.fromiter(map(len, self.utf8), np.int32, len(self.utf8))

    @functools.cached_property
    def blob(self) -> bytes:
        """The UTF-8 of all messages, concatenated without separators."""
        return b"".join(self.utf8)

    @functools.cached_property
    def edges(self) -> npt.NDArray[np.uint8]:
        """uint8 (2, messages): first and last byte of each message; arbitrary bytes where a message is empty."""
        # int64 sums of int32 sizes: a batch may hold more than 2 GiB
        ends = np.cumsum(self.sizes, dtype=np.int64)
        # an empty last message would begin behind the blob, hence the minimum
        offsets = np.stack([np.minimum(ends - self.sizes, ends[-1:] - 1), ends - 1])
        return np.frombuffer(self.blob, np.uint8)[offsets] if self.blob else np.zeros(offsets.shape, np.uint8)

    def row(self, index: int) -> list[Message]:
        """Return the messages of a row; an unknown role is named `?`."""
        span = slice(int(self.ends[index]), int(self.ends[index + 1]))
        names = (*ROLES, "?")
        return [
            {"role": names[code], "content": text}
            for code, text in zip(self.roles[span], self.texts[span], strict=True)
        ]

    def set_first(self, index: int, content: str) -> None:
        """Replace the content of a row's first message."""
        message = int(self.ends[index])
        self.texts[message] = content
        self.utf8[message] = content.encode()
        for cached in ("sizes", "blob", "edges"):
            self.__dict__.pop(cached, None)

    def select(self, mask: Mask, counts: Counts) -> MessageColumn:
        """Return the messages where `mask`, bool (messages,), is true, as rows of `counts` messages."""
        return MessageColumn(list(compress(self.texts, mask)), bytes(compress(self.roles, mask)), counts)

    def filter(self, mask: Mask) -> MessageColumn:
        """Return the rows where `mask`, bool (rows,), is true."""
        of_messages = np.repeat(mask, self.counts)  # bool (messages,)
        kept = self.select(of_messages, self.counts[mask])
        kept.__dict__["utf8"] = list(compress(self.utf8, of_messages))  # already encoded: spare the copy that
        return kept

    def to_arrow(self) -> pa.ListArray:
        roles = _ROLES.take(number_array(pa.int8(), self.role_codes))
        messages = pa.StructArray.from_arrays([roles, _strings(self.blob, self.sizes)], fields=_FIELDS)
        return pa.ListArray.from_arrays(number_array(pa.int32(), self.ends.astype(np.int32)), messages)

    def sum_by_row(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sum values of messages, (messages, ...), to values of rows, (rows, ...); integers wrap around."""
        if self.single:
            return values
        # Differences of running sums, exact even where the sum wrapped around. `np.add.reduceat` would give an empty
        # row the value of the next one.
        total = np.zeros((len(values) + 1, *values.shape[1:]), values.dtype)
        np.cumsum(values, axis=0, out=total[1:])
        return total[self.ends[1:]] - total[self.ends[:-1]]


class PairColumns(NamedTuple):
    """The three message columns of a batch, with the same number of rows."""

    prompt: MessageColumn
    chosen: MessageColumn
    rejected: MessageColumn


def plain_messages(values: Sequence[Any]) -> MessageColumn | None:
    """Build a column if every value is a list of `{role, content}` with known roles and text, else return None."""
    if set(map(type, values)) != {list}:
        return None
    flat = list(chain.from_iterable(values))
    # sets of types and sizes are made in C: no Python code runs for a message until all are known to be plain
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
    return MessageColumn(texts, codes, np.fromiter(map(len, values), np.int64, len(values)))


def with_systems(prompt: MessageColumn, systems: Sequence[Any] | None) -> MessageColumn | None:
    """Insert the system prompt of each row, where it has one, before the messages of its prompt.

    Return None unless every system prompt is text or None, and no row with one has a system turn already.
    """
    kinds = set(map(type, systems or [None]))
    if systems is None or kinds == {type(None)}:
        return prompt
    if not kinds <= {str, type(None)} or not prompt.counts.all():
        return None
    # bool (rows,); blank system prompts count as none, as in `system_turn`
    has_system = np.fromiter([bool(text and text.strip()) for text in systems], bool, len(systems))
    begins = prompt.ends[:-1]  # int64 (rows,): the first message of each row
    if (prompt.role_codes[begins[has_system]] == CODE["system"]).any():
        return None
    texts, roles = list(prompt.texts), bytearray(prompt.roles)
    for row in np.flatnonzero(has_system)[::-1].tolist():  # from the back: earlier offsets stay valid
        texts.insert(begins[row], systems[row])
        roles.insert(begins[row], CODE["system"])
    return MessageColumn(texts, bytes(roles), prompt.counts + has_system)


# The arrays below are built from buffers. `pa.array` would import pandas at its first call, which takes as long as a
# worker's first ten thousand rows.


def text_array(values: Sequence[str | bytes | None]) -> pa.StringArray:
    """Build an Arrow array of text from str or UTF-8; None becomes null."""
    if set(map(type, values)) == {bytes}:
        utf8: Any = values
    else:
        utf8 = [value.encode() if isinstance(value, str) else value or b"" for value in values]
    valid = mask_of([value is not None for value in values]).buffers()[1] if None in values else None
    return _strings(b"".join(utf8), np.fromiter(map(len, utf8), np.int32, len(utf8)), valid)


def mask_of(values: Sequence[bool] | Mask) -> pa.BooleanArray:
    """Build an Arrow array from bool (rows,)."""
    bits = np.packbits(np.asarray(values, bool), bitorder="little")
    return pa.BooleanArray.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def _strings(blob: bytes, sizes: npt.NDArray[np.int32], valid: pa.Buffer | None = None) -> pa.StringArray:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(blob), valid)


def number_array(kind: pa.DataType, values: npt.NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


_ROLES = text_array(ROLES)
