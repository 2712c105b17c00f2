"""First step of prepare: convert the raw rows of one piece to pairs, and write them with what was dropped."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from hubdpo.artefacts.formats.messages import ROLES, SCORES
from hubdpo.data.clean.screen import unlisted
from hubdpo.data.converters import ConvertMany
from hubdpo.data.converters.prompts import may_have_tools
from hubdpo.data.pairs.batch import Pair, PairBatch, kept_columns, kept_values
from hubdpo.data.pairs.example import NotText, PreferenceExample, Rejection, Row, ScoredAnswer
from hubdpo.data.prepare.piece_writer import PieceResult, PieceWriter
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.prepare.splits import published_codes
from hubdpo.data.raw.pieces import Block, Piece, PieceReader

FEW = 16
"""Rows that are converted one by one rather than halved again when they do not convert as a batch."""

MOST_COUNTED = 1000
"""Rows that are looked at to say how many have images, video or sound; they may be large."""


@dataclass(frozen=True)
class Task:
    number: int
    piece: Piece
    rules: Rules


def convert_piece(task: Task) -> PieceResult:
    """Convert, check and write the rows of a piece; stop at a row that may not be dropped.

    Raise DataError if the file is broken or holds images, video or sound.
    """
    collected = gc.isenabled()
    gc.disable()  # rows make no reference cycles, and looking for them takes a fifth of the time
    try:
        with PieceWriter(task.number, task.rules) as writer:
            reader = PieceReader(task.piece, max_line_bytes=task.rules.config.max_line_bytes)
            converter = _Converter(writer, task.rules, task.piece)
            for block in reader.blocks():
                try:
                    converter.add(block)
                except NotText as problem:
                    raise problem.refusal(_count_media(task)) from None
                writer.flush()
                if writer.result.first_error is not None:
                    break
            writer.result.lines, writer.result.repaired = reader.lines, reader.repaired
        return writer.result
    finally:
        if collected:
            gc.enable()


def _count_media(task: Task) -> str:
    """Say how many of the first rows of a piece have images, video or sound."""
    looked_at = media = 0
    for row in islice(PieceReader(task.piece, max_line_bytes=task.rules.config.max_line_bytes), MOST_COUNTED):
        looked_at += 1
        try:
            if row.value is not None:
                pairs = task.rules.convert(task.rules.screen.one(row.value))
                list(pairs if isinstance(pairs, Iterable) else ())
        except NotText:
            media += 1
        except Rejection:
            continue
    return f"{media:,} of {looked_at:,} rows looked at in {task.piece.file.name}"


class _Converter:
    """Converts blocks of raw rows: whole batches where all rows are plain, single rows where not."""

    def __init__(self, writer: PieceWriter, rules: Rules, piece: Piece) -> None:
        self._writer, self._rules, self._piece = writer, rules, piece
        one_by_one = writer.checks_single_pairs or rules.single or rules.config.keep_scores
        self._convert_many: ConvertMany | None = None if one_by_one else rules.convert_many
        self._convert_row = rules.convert

    def add(self, block: Block) -> None:
        writer, result = self._writer, self._writer.result
        result.read += len(block.values) + len(block.broken)
        for row in block.broken:
            writer.drop(row.line, row.problem or "malformed_line", None, row.detail)
        screened = self._rules.screen.look(block.values, result.unused)
        result.listed.update(screened.listed)
        for index, reason in screened.refused.items():
            writer.drop(block.lines[index], reason, block.values[index])
        lines = [block.lines[index] for index in screened.indices] if screened.refused else block.lines
        self._convert_row = self._rules.convert if may_have_tools(screened.rows) else self._rules.convert_plain
        batches = self._convert(lines, screened.rows)
        if len(block.values) > FEW and not batches:
            self._convert_many = None  # no part of this file is plain: do not try again

    def _convert(self, lines: Sequence[int], rows: list[Row]) -> int:
        """Convert rows as a batch, or halve them until a half does or FEW are left; return how many batches did."""
        if self._convert_many is None or len(rows) <= FEW:
            self._convert_singly(lines, rows)
            return 0
        columns = self._convert_many(rows)
        kept = kept_columns(rows, self._rules.keep) if columns is not None else None
        if columns is None or kept is None:
            half = len(rows) // 2
            return self._convert(lines[:half], rows[:half]) + self._convert(lines[half:], rows[half:])
        splits = published_codes(rows, self._piece, self._rules, self._writer.result)
        self._writer.add_batch(PairBatch.from_columns(lines, rows, columns, kept, splits))
        return 1

    def _convert_singly(self, lines: Sequence[int], rows: list[Row]) -> None:
        """Add the pairs of each row, or its single answer, which is cleaned once the second round has made pairs."""
        writer = self._writer
        converted = []
        for line, row in zip(lines, rows, strict=True):
            try:
                converted.append((line, row, *self._pairs(row), kept_values(row, self._rules.keep)))
            except NotText:
                raise
            except Rejection as rejection:
                writer.drop(line, rejection.reason, row)
        splits = published_codes([row for _, row, *_ in converted], self._piece, self._rules, writer.result)
        for (line, row, pairs, score, kept), split in zip(converted, splits, strict=True):
            writer.result.extra_pairs += len(pairs) - 1
            written_as_list = unlisted(row)
            for pair in pairs:
                try:
                    if isinstance(pair, Rejection):
                        raise pair
                    changes, own = pair.changes | written_as_list, list(kept)
                    if self._rules.config.keep_scores:
                        own[-len(SCORES) :] = self._scores(pair, row)
                    writer.add(Pair(line, pair, own, row, changes, score=score, split=split))
                except Rejection as rejection:
                    writer.drop(line, rejection.reason, row)

    def _scores(self, pair: PreferenceExample, row: Row) -> list[str | None]:
        """Return the scores by which a pair was made, or those that stand beside its answers."""
        if pair.scores is not None:
            return [*map(repr, pair.scores)]
        for better, worse, sign in self._rules.screen.compared_columns((*row,)):
            if sign > 0:
                return kept_values(row, [better, worse])
        return [None, None]

    def _pairs(self, row: Row) -> tuple[list[PreferenceExample | Rejection], float]:
        """Return the pairs of a row, or its single answer as one, and the score of that."""
        converted = self._convert_row(row)
        if isinstance(converted, ScoredAnswer) is not self._rules.single:
            raise Rejection("mixed_shapes")
        if isinstance(converted, PreferenceExample):
            return [converted], 0.0
        if isinstance(converted, ScoredAnswer):
            return [_without_rejected(converted)], converted.score
        if not (pairs := list(converted)):
            raise Rejection("single_answer")
        return pairs, 0.0


def _without_rejected(single: ScoredAnswer) -> PreferenceExample:
    """Return a single answer as a pair that lacks `rejected`. Raise Rejection if it can be in no pair."""
    if not single.prompt or not single.answer:
        raise Rejection("empty_prompt" if single.answer else "empty_answer")
    if any(message["role"] not in ROLES for message in (*single.prompt, *single.answer)):
        raise Rejection("unknown_role")
    return PreferenceExample(single.prompt, single.answer, [], single.changes, single.tools)
