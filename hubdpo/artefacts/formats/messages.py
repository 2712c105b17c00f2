"""The Arrow schema of a dataset: three columns of chat messages, and columns of text beside them."""

from __future__ import annotations

import pyarrow as pa

Message = dict[str, str]
ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("prompt", "chosen", "rejected")
IDS = tuple(f"{name}_id" for name in COLUMNS)
"""Columns that tell which rows have the same prompt or answer, where a prompt may have several answers."""
# fixed, not inferred: Arrow would add null fields where rows differ
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def schema(texts: list[str]) -> pa.Schema:
    """Return the schema of a split: prompt, chosen and rejected, then columns of text."""
    return pa.schema([(name, MESSAGES) for name in COLUMNS] + [(name, pa.string()) for name in texts])
