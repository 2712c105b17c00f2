"""First step of prepare, on all pieces of the input at once: raw rows to Arrow rows with keys, or to losses."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import COLUMNS, ROLES, schema
from hubdpo.data.clean.keys import ROW_KEY, digests, folded_keys, pair_digests
from hubdpo.data.clean.lengths import measure
from hubdpo.data.clean.near_duplicates import signature
from hubdpo.data.clean.rows import clean, suspects
from hubdpo.data.clean.screen import unlisted
from hubdpo.data.clean.split import fold
from hubdpo.data.pairs.batch import Pair, PairBatch, kept_columns, kept_values
from hubdpo.data.pairs.example import REDACTED, NotText, PreferenceExample, Rejection, Row, ScoredAnswer
from hubdpo.data.pairs.markers import MarkerCounts, count_markers
from hubdpo.data.pairs.message_column import text_array
from hubdpo.data.prepare.dropped import is_error, loss_line
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.raw.pieces import Block, Piece, PieceReader
from hubdpo.data.tokens.tokenizer import encoder_of
from hubdpo.secrets import find_secrets, redact

BATCH_BYTES = 2**20
"""Text of pairs that are written at once in the second round; in the first one the reader's blocks are."""
FEW = 16
"""Rows that are converted one by one when they are not all plain."""


@dataclass(frozen=True)
class Task:
    number: int
    piece: Piece
    rules: Rules


@dataclass
class Staged:
    """What became of a piece; its files end in `suffix`.

    `first_loss` is (line, reason) of the first row that a policy does not allow to drop."""

    number: int
    suffix: str = ""
    lines: int = 0
    read: int = 0
    made: int = 0
    """Pairs beyond one a row."""
    rated: int = 0
    """Halves that wait for the second round."""
    pairs: int = 0
    """Pairs that were written."""
    dropped: Counter[str] = field(default_factory=Counter)
    secrets: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    """Rows that have a value in a column that was not read, by column."""
    listed: Counter[str] = field(default_factory=Counter)
    """Texts that may be lists of one text, and were not read as such, by column."""
    markers: MarkerCounts = field(default_factory=Counter)
    first_loss: tuple[int, str] | None = None


def file_of(scratch: str, number: int, kind: str) -> str:
    return storage.join(scratch, f"{kind}-{number:06d}")


def stage(task: Task) -> Staged:
    """Convert, check and write the rows of a piece. Raise DataError when its file is broken."""
    gc.disable()  # rows make no cycles, and looking for them takes a fifth of the time
    try:
        return _stage(task)
    finally:
        gc.enable()


def _stage(task: Task) -> Staged:
    with Stage(task.number, task.rules) as stage_:
        reader = PieceReader(task.piece, max_line_bytes=task.rules.config.max_line_bytes)
        for block in reader.blocks():
            stage_.add(block)
            if stage_.staged.first_loss is not None:
                break
        stage_.staged.lines, stage_.staged.repaired = reader.lines, reader.repaired
    return stage_.staged


class Stage:
    """Takes rows or pairs in the order of their lines, and writes rows, keys and losses of one piece."""

    def __init__(self, number: int, rules: Rules, *, suffix: str = "") -> None:
        self.staged = Staged(number, suffix)
        self._rules, self._config = rules, rules.config
        self._suffix = suffix
        self._encoder = encoder_of(rules.model) if rules.model is not None else None
        self._most = rules.config.max_length if isinstance(rules.config.max_length, int) else None
        self._closely = self._encoder is not None or rules.config.scan == "secrets"
        self._many = None if self._closely or rules.single else rules.convert_many
        self._waiting: list[Pair] = []
        self._waiting_bytes = 0
        self._parts: list[PairBatch] = []
        self._losses: list[tuple[int, bytes]] = []

    def __enter__(self) -> Stage:
        rules, number = self._rules, self.staged.number
        self._schema = schema(rules.keep)
        rows = file_of(rules.scratch, number, "rows" + self._suffix)
        self._files = {"rows": storage.open_arrow(rows)} | {
            kind: storage.open_write(file_of(rules.scratch, number, kind + self._suffix))
            for kind in ("keys", "losses", *(["near"] if rules.config.dedupe == "near" else []))
        }
        self._writer = pa.ipc.new_file(self._files["rows"], self._schema)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        for file in self._files.values():
            file.close()

    def add(self, block: Block) -> None:
        """Take raw rows."""
        self.staged.read += len(block.values) + len(block.broken)
        for row in block.broken:
            self.lose(row.line, row.problem or "malformed_line", None, row.detail)
        try:
            looked = self._rules.screen.look(block.values, self.staged.unused)
            self.staged.listed.update(looked.listed)
            for place, reason in looked.refused:
                self.lose(block.lines[place], reason, block.values[place])
            lines = [block.lines[place] for place in looked.places] if looked.refused else block.lines
            self._convert(lines, looked.rows)
        except NotText as found:
            raise found.refusal() from None
        if len(block.values) > FEW and not self._parts:
            self._many = None  # this source writes its rows another way: no need to try again
        self._flush()

    def add_pair(self, line: int, example: PreferenceExample, kept: list[str | None], size: int) -> None:
        """Take one pair. Raise Rejection when it is known here already that it is not to be kept."""
        self._take(line, example, kept, None)
        self._waiting_bytes += size
        if self._waiting_bytes > BATCH_BYTES:
            self._flush()

    def lose(self, line: int, reason: str, value: dict[str, Any] | None, detail: str = "") -> None:
        """Count a row or pair that is left out, and note where it stands."""
        staged = self.staged
        staged.dropped[reason] += 1
        self._losses.append((line, loss_line(line, reason, value, detail, scan=self._config.scan == "secrets")))
        if is_error(reason, self._config) and (staged.first_loss is None or line < staged.first_loss[0]):
            staged.first_loss = (line, reason)

    def _convert(self, lines: Sequence[int], values: list[Row]) -> None:
        """Convert rows together where all of them are plain, the halves of them where not, few one by one."""
        if self._many is None or len(values) <= FEW:
            for line, value in zip(lines, values, strict=True):
                self._convert_one(line, value)
        elif (columns := self._many(values)) is None or (kept := kept_columns(values, self._rules.keep)) is None:
            half = len(values) // 2
            self._convert(lines[:half], values[:half])
            self._convert(lines[half:], values[half:])
        else:
            self._settle()
            self._parts.append(PairBatch.from_columns(lines, values, columns, kept))

    def _convert_one(self, line: int, value: Row) -> None:
        try:
            made = self._rules.convert(value)
            if isinstance(made, ScoredAnswer) is not self._rules.single:
                raise Rejection("mixed_shapes")
            if isinstance(made, PreferenceExample):
                self._take(line, made, kept_values(value, self._rules.keep), value)
            elif isinstance(made, ScoredAnswer):
                self._take_rated(line, made, value)
            else:
                self._take_several(line, list(made), value)
        except NotText:
            raise
        except Rejection as rejection:
            self.lose(line, rejection.reason, value)

    def _take(self, line: int, example: PreferenceExample, kept: list[str | None], value: Row | None) -> None:
        pair = Pair(line, example, kept, value, changes=example.changes | unlisted(value))
        if self._closely:
            self._look_closely(pair)
        self._waiting.append(pair)

    def _look_closely(self, pair: Pair) -> None:
        pair.changes |= clean(pair.example)
        if self._config.scan == "secrets":
            pair.changes |= self._scan(pair.example, pair.kept)
        if self._encoder is not None:
            pair.lengths = measure(
                pair.example, self._encoder, max_length=self._most, over_length=self._config.over_length
            )
            pair.changes |= pair.lengths.changes

    def _take_several(self, line: int, pairs: list[PreferenceExample | Rejection], value: Row) -> None:
        if not pairs:
            raise Rejection("single_answer")
        kept = kept_values(value, self._rules.keep)
        self.staged.made += len(pairs) - 1
        for pair in pairs:
            try:
                if isinstance(pair, Rejection):
                    raise pair
                self._take(line, pair, list(kept), value)
            except Rejection as rejection:
                self.lose(line, rejection.reason, value)

    def _take_rated(self, line: int, half: ScoredAnswer, value: Row) -> None:
        """Keep half a pair; the second round makes pairs of them, and only then are they cleaned."""
        if not half.prompt or not half.answer:
            raise Rejection("empty_prompt" if half.answer else "empty_answer")
        if any(message["role"] not in ROLES for message in (*half.prompt, *half.answer)):
            raise Rejection("unknown_role")
        pair, kept = PreferenceExample(half.prompt, half.answer, []), kept_values(value, self._rules.keep)
        self._waiting.append(Pair(line, pair, kept, value, half.changes | unlisted(value), score=half.score))

    def _settle(self) -> None:
        """Put the pairs that came one by one behind those that came together."""
        if self._waiting:
            self._parts.append(PairBatch.from_pairs(self._waiting, len(self._rules.keep)))
            self._waiting, self._waiting_bytes = [], 0

    def _flush(self) -> None:
        """Clean what waits and write it, with the losses up to here in the order of their lines."""
        self._settle()
        parts, self._parts = self._parts, []
        if parts:
            pairs = PairBatch.concat(parts)
            if not self._rules.single:
                pairs = self._cleaned(pairs)
            if pairs.lines:
                self._write(pairs)
        self._files["losses"].write(b"".join(text for _, text in sorted(self._losses, key=lambda loss: loss[0])))
        self._losses = []

    def _cleaned(self, pairs: PairBatch) -> PairBatch:
        """Return the pairs to write."""
        keep = np.ones(len(pairs.lines), bool)
        for place in suspects(*pairs.columns).tolist():
            example = pairs.example(place)
            try:
                changes = clean(example)
            except Rejection as rejection:
                keep[place] = False
                self.lose(pairs.lines[place], rejection.reason, pairs.values[place])
                continue
            if changes:
                pairs.changes[place] |= changes
                _, chosen, rejected = pairs.columns
                chosen.set_first(place, example.chosen[0]["content"])
                rejected.set_first(place, example.rejected[0]["content"])
        return pairs if keep.all() else pairs.filter(keep)

    def _write(self, pairs: PairBatch) -> None:
        prompt, chosen, rejected = pairs.columns
        arrays = [*(column.to_arrow() for column in pairs.columns), *map(text_array, pairs.kept)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        keys = np.zeros(len(pairs.lines), ROW_KEY)
        keys["line"], keys["messages"], keys["changes"] = pairs.lines, prompt.counts, pairs.changes
        if self._rules.single:
            keys["score"] = pairs.scores
            nothing = np.zeros((len(pairs.lines), 2), np.uint64)
            digest, _ = pair_digests(digests(prompt), nothing, nothing)
            keys["prompt"] = folded_keys(chosen, lambda texts, utf8: utf8)
            self.staged.rated += len(pairs.lines)
        else:
            self.staged.markers.update(count_markers(pairs.columns))
            digest, keys["flipped"] = pair_digests(*map(digests, pairs.columns))
            keys["prompt"] = folded_keys(prompt, fold)
            self.staged.pairs += len(pairs.lines)
        keys["low"], keys["high"] = digest.T
        measured = self._encoder is not None and not self._rules.single
        for name, column in zip(COLUMNS, pairs.columns, strict=True):
            sizes, keys[f"{name}_characters"] = column.byte_and_character_counts()
            keys["bytes"] += sizes.astype(np.uint32)
            keys[f"{name}_tokens"] = [getattr(lengths, name) for lengths in pairs.lengths] if measured else -1
        self._files["keys"].write(keys.tobytes())
        if self._config.dedupe == "near" and not self._rules.single:
            signatures = [_signatures(pairs.example(place)) for place in range(len(pairs.lines))]
            self._files["near"].write(b"".join(signatures))

    def _scan(self, example: PreferenceExample, kept: list[str | None]) -> int:
        """Count credentials by kind, and redact them or raise Rejection."""
        before = sum(self.staged.secrets.values())
        parts = [
            [{**message, "content": self._clear(message["content"])} for message in part]
            for part in (example.prompt, example.chosen, example.rejected)
        ]
        kept[:] = [text and self._clear(text) for text in kept]
        if sum(self.staged.secrets.values()) == before:
            return 0
        if not self._config.redact:
            raise Rejection("secret_found")
        example.prompt, example.chosen, example.rejected = parts
        clean(example)  # two answers that differ in a credential alone are now equal
        return REDACTED

    def _clear(self, text: str) -> str:
        secrets = find_secrets(text)
        self.staged.secrets.update(secret.kind for secret in secrets)
        return redact(text, secrets)


def _signatures(example: PreferenceExample) -> bytes:
    """Return the near-duplicate signatures of the prompt and of the whole pair."""
    parts = [("", example.prompt), ("+", example.chosen), ("-", example.rejected)]
    return b"".join(signature(some).tobytes() for some in (parts[:1], parts))


def read_losses(scratch: str, number: int, suffix: str = "") -> Iterator[dict[str, Any]]:
    """Give the losses of a piece, in the order of their lines."""
    with storage.open_read(file_of(scratch, number, "losses" + suffix)) as stream:
        for line in stream:
            yield orjson.loads(line)
