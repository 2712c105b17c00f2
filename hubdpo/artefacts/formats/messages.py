"""TODO."""

from __future__ import annotations

import pyarrow as pa

Message = dict[str, str]
ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("prompt", "chosen", "rejected")
# fixed, never inferred: Arrow would add null members where rows differ
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def schema(keep: list[str]) -> pa.Schema:
    """Return the schema of a split: the three message columns, then the kept columns as text."""
    return pa.schema([(name, MESSAGES) for name in COLUMNS] + [(name, pa.string()) for name in keep])
