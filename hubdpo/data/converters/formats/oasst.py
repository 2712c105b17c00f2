"""`oasst`: trees of messages with ranked replies, as Open-Assistant published them (arXiv 2304.07327)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.formats.scored import score_of, scored_pairs
from hubdpo.data.converters.prompts import SYSTEM, Reads, read_prompt, system_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, expect
from hubdpo.data.pairs.messages import role_of

ROOT = "prompt"


def detect(row: Row) -> bool:
    root = _root(row)
    return isinstance(root, dict) and isinstance(root.get("text"), str) and isinstance(root.get("replies"), list)


def convert(row: Row, how: ConvertOptions) -> Iterator[PreferenceExample | Rejection]:
    """Pair the ranked replies to each message; the path from the root to it is the prompt.

    Deleted messages and what follows them are left out, as are replies without a rank beside ranked ones.
    """
    root = _root(row)
    if not isinstance(root, dict) or not isinstance(root.get("replies"), list):
        raise Rejection("missing_field")
    if root.get("parent_id"):
        raise Rejection("orphan")
    return _pairs(root, system_of(row), how)


def _root(row: Row) -> Any:
    return row if "replies" in row else row.get(ROOT)


def _pairs(root: Row, system: object, how: ConvertOptions) -> Iterator[PreferenceExample | Rejection]:
    waiting: list[tuple[Row, list[Message]]] = [(root, [])]
    while waiting:
        message, before = waiting.pop()
        try:
            path = [*before, _turn(message)]
            replies = [reply for reply in message.get("replies") or [] if _turn(reply) and not _is_deleted(reply)]
            waiting += [(reply, path) for reply in reversed(replies)]
            answers = [reply for reply in replies if _turn(reply)["role"] == "assistant"]
            if len(answers) > 1:
                ranks = [None if (rank := score_of(reply.get("rank"))) is None else -rank for reply in answers]
                texts = [_turn(reply)["content"] for reply in answers]
                yield from scored_pairs(read_prompt(path, system=system), texts, ranks, how)
        except Rejection as rejection:
            yield rejection


def _is_deleted(message: Row) -> bool:
    return str(message.get("deleted")).lower() == "true"  # text in a CSV


def _turn(message: object) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("replies") or [], list):
        raise Rejection("wrong_type")
    role, text = (expect(message.get(name), str) for name in ("role", "text"))
    return {"role": role_of(role), "content": text}


MEMBERS = ("message_id", "parent_id", "text", "role", "rank", "deleted", "replies")
READS: Reads = (*MEMBERS, *(f"{ROOT}.{name}" for name in MEMBERS), SYSTEM)
OASST = Converter(
    "oasst", "trees of messages with ranked replies", detect, convert, READS, options=("pairs", "min_margin")
)
