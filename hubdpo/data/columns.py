"""Rows to Arrow without going through Python's objects twice: texts are encoded once and handed over as bytes."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pyarrow as pa

from hubdpo.data.keys import Encoded
from hubdpo.data.preference import COLUMNS, MESSAGES, ROLES, schema

_FIELDS = list(MESSAGES.value_type)
_ROLES = pa.array(ROLES)
_CODE = {role: number for number, role in enumerate(ROLES)}


class _MessagesColumn:
    """A growing column of message lists."""

    def __init__(self) -> None:
        self.roles = array("b")
        self.texts: list[bytes] = []
        self.offsets = array("i", [0])

    def add(self, messages: Encoded) -> None:
        for role, text in messages:
            self.roles.append(_CODE[role])
            self.texts.append(text)
        self.offsets.append(len(self.texts))

    def finish(self) -> pa.ListArray:
        roles = _ROLES.take(pa.array(np.frombuffer(self.roles, np.int8)))
        texts = pa.array(self.texts, pa.binary()).view(pa.string())
        offsets = pa.array(np.frombuffer(self.offsets, np.int32))
        return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([roles, texts], fields=_FIELDS))


class BatchBuilder:
    """Gather rows, then `finish` them as one record batch of the split's schema."""

    def __init__(self, keep: list[str]) -> None:
        self.schema = schema(keep)
        self.bytes = 0
        self._keep = keep
        self._start()

    def _start(self) -> None:
        self.bytes = 0
        self._messages = [_MessagesColumn() for _ in COLUMNS]
        self._kept: list[list[str | None]] = [[] for _ in self._keep]

    def add(self, messages: tuple[Encoded, Encoded, Encoded], kept: list[str | None], size: int) -> None:
        for column, value in zip(self._messages, messages, strict=True):
            column.add(value)
        for texts, text in zip(self._kept, kept, strict=True):
            texts.append(text)
        self.bytes += size

    def finish(self) -> pa.RecordBatch:
        arrays: list[Any] = [column.finish() for column in self._messages]
        arrays += [pa.array(texts, pa.string()) for texts in self._kept]
        self._start()
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)
