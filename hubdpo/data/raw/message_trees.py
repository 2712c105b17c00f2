"""Put messages that are a row each, and name the message they reply to, into one row per tree (Open-Assistant)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import orjson

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.data.pairs.example import Row
from hubdpo.data.raw.pieces import PieceReader, cut
from hubdpo.data.raw.raw_file import TABLES, RawFile
from hubdpo.data.raw.tables import column_names
from hubdpo.errors import DataError

ID, PARENT, REPLIES = "message_id", "parent_id", "replies"
MESSAGE = (ID, PARENT, "text", "role")
MOST_DEPTH = 100
"""Messages above one another; JSON cannot be nested much deeper."""


def as_trees(files: Iterable[RawFile], scratch: str, max_line_bytes: int) -> Iterator[RawFile]:
    """Yield the files, with a copy of trees in the folder `scratch` for each that holds single messages."""
    for number, file in enumerate(files):
        rows = _rows(file, max_line_bytes) if _may_hold_messages(file) else iter(())
        first = next(rows, {})
        if not all(name in first for name in MESSAGE) or REPLIES in first:
            yield file
            continue
        copy = storage.join(scratch, f"{number:05d}-trees.jsonl")
        trees = _trees([first, *rows], file.name)
        with storage.open_write(copy) as stream:
            stream.writelines(orjson.dumps(tree) + b"\n" for tree in trees)
        console.info(f"{file.name}: its messages are {len(trees):,} trees, which are counted as rows")
        yield replace(file, path=copy)


def _may_hold_messages(file: RawFile) -> bool:
    if file.kind in TABLES:
        return {*MESSAGE} <= set(column_names(file.path, file.name))
    head = file.head()
    return all(name.encode() in head for name in MESSAGE)


def _rows(file: RawFile, max_line_bytes: int) -> Iterator[Row]:
    """Yield the rows of a file. Raise DataError for one that cannot be read: its replies would lose their prompt."""
    for piece in cut(file, max_line_bytes=max_line_bytes):
        for row in PieceReader(piece, max_line_bytes=max_line_bytes):
            if row.value is None:
                raise DataError(
                    f"a message of {file.name} cannot be read: {file.place} {row.line:,}: {row.problem}, {row.detail}",
                    hint="mend it or take it out, with all that reply to it",
                )
            yield row.value


def _trees(messages: list[Row], name: str) -> list[Row]:
    """Return the root of each tree with all replies inside, then what replies to a message that is not there."""
    nodes: dict[str, Row] = {str(message.get(ID)): {**message, REPLIES: []} for message in messages}
    if len(nodes) < len(messages):
        repeats = len(messages) - len(nodes)
        raise DataError(f"{name} has {repeats:,} messages with the `{ID}` of another", hint="take out the repeats")
    for node in nodes.values():
        if (parent := nodes.get(str(node.get(PARENT)))) is not None:
            parent[REPLIES].append(node)
    roots = [node for node in nodes.values() if not node.get(PARENT)]
    level = roots
    for _ in range(MOST_DEPTH):
        for node in level:
            del nodes[str(node.get(ID))]
        level = [reply for node in level for reply in node[REPLIES]]
    for node in level:
        node[REPLIES] = []
    return [*roots, *({**node, REPLIES: []} for node in nodes.values())]
