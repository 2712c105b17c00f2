"""The Arrow schema of a dataset: three columns of chat messages, and kept columns as text."""

from __future__ import annotations

import pyarrow as pa

Message = dict[str, str]
ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("prompt", "chosen", "rejected")
# fixed, not inferred: Arrow would add null fields where rows differ
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def schema(keep: list[str]) -> pa.Schema:
    """Return the schema of a split: prompt, chosen and rejected, then the kept columns."""
    return pa.schema([(name, MESSAGES) for name in COLUMNS] + [(name, pa.string()) for name in keep])
