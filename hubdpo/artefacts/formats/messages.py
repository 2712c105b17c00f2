"""The Arrow schema of a dataset: three columns of chat messages, tools if any row has them, and columns of text."""

from __future__ import annotations

import pyarrow as pa

Message = dict[str, str]
"""`role` and `content`. While a dataset is made, a message may have `extra`, see `hubdpo.data.pairs.extras`."""
ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("prompt", "chosen", "rejected")
IDS = tuple(f"{name}_id" for name in COLUMNS)
"""Columns that tell which rows have the same prompt or answer, where a prompt may have several answers."""
SCORES = ("score_chosen", "score_rejected")
"""Columns with the scores by which answers were paired, where they are kept: text, higher is better."""
TOOLS = "tools"
# fixed, not inferred: Arrow would add null fields where rows differ
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
OBJECTS = pa.list_(pa.json_())
"""JSON objects that need not have the same members: what `datasets` writes as `List(Json())`, and reads as dicts."""


def schema(texts: list[str], *, objects: bool = False, tools: bool = False) -> pa.Schema:
    """Return the schema of a split: prompt, chosen and rejected, tools, then columns of text.

    With `objects`, messages are JSON objects, for datasets in which some have more than role and content.
    """
    columns = [(name, OBJECTS if objects else MESSAGES) for name in COLUMNS]
    return pa.schema([*columns, *([(TOOLS, OBJECTS)] if tools else []), *((name, pa.string()) for name in texts)])
