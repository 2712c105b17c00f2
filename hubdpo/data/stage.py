"""First step of prepare, on all pieces of the input at once: raw rows to Arrow rows with keys, or to losses."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from hubdpo.config import PrepareConfig
from hubdpo.data import storage
from hubdpo.data.clean import REDACTED, clean, suspects
from hubdpo.data.columns import MessagesColumn
from hubdpo.data.converters import Convert, Row
from hubdpo.data.keys import KEY, digests, folded_keys, pair_digests
from hubdpo.data.lengths import Lengths, Model, encoder_of, measure
from hubdpo.data.losses import is_error, loss_line
from hubdpo.data.near import signature
from hubdpo.data.preference import COLUMNS, ROLES, PreferenceExample, Rated, Rejection, schema
from hubdpo.data.readers import Piece, PieceReader, RawRow
from hubdpo.data.split import fold
from hubdpo.secrets import find_secrets, redact

BATCH_BYTES = 2**20
MOST_LOSSES = 20_000
UNMEASURED = Lengths(-1, -1, -1)


@dataclass(frozen=True)
class Rules:
    """What every task needs to know to treat a row: the same for all of them."""

    config: PrepareConfig
    convert: Convert
    keep: list[str]
    model: Model | None
    single: bool
    """Whether the rows have one answer each, which a second round pairs up."""
    scratch: str


@dataclass(frozen=True)
class Task:
    number: int
    piece: Piece
    rules: Rules


@dataclass
class Staged:
    """What became of a piece. `first_loss` is (line, reason) of the first row that a policy does not allow to drop."""

    number: int
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
        for row in reader:
            stage_.add(row)
            if stage_.staged.first_loss is not None:
                break
        stage_.staged.lines = reader.lines
    return stage_.staged


@dataclass
class _Waiting:
    """What is gathered for a batch: a value a pair in each list."""

    lines: list[int] = field(default_factory=list)
    examples: list[PreferenceExample] = field(default_factory=list)
    kept: list[list[str | None]] = field(default_factory=list)
    values: list[Row | None] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    lengths: list[Lengths] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    bytes: int = 0


class Stage:
    """Takes rows or pairs in the order of their lines, and writes rows, keys and losses of one piece."""

    def __init__(self, number: int, rules: Rules, *, suffix: str = "") -> None:
        self.staged = Staged(number)
        self._rules, self._config = rules, rules.config
        self._suffix = suffix
        self._encoder = encoder_of(rules.model) if rules.model is not None else None
        self._most = rules.config.max_length if isinstance(rules.config.max_length, int) else None
        self._waiting = _Waiting()
        self._losses: list[tuple[int, bytes]] = []

    def __enter__(self) -> Stage:
        rules, number = self._rules, self.staged.number
        self._schema = schema(rules.keep)
        self._files = {
            kind: storage.open_write(file_of(rules.scratch, number, kind + self._suffix))
            for kind in ("rows", "keys", "losses", "near")
        }
        self._writer = pa.ipc.new_file(self._files["rows"], self._schema)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        for file in self._files.values():
            file.close()

    def add(self, row: RawRow) -> None:
        """Take one raw row."""
        self.staged.read += 1
        if row.value is None:
            self.lose(row.line, row.problem or "malformed_line", None)
            return
        try:
            made = self._rules.convert(row.value)
            if isinstance(made, Rated) is not self._rules.single:
                raise Rejection("mixed_shapes")
            if type(made) is PreferenceExample:
                self.add_pair(row.line, made, self._kept(row.value), row.size, row.value)
            elif isinstance(made, Rated):
                self._add_rated(row, made)
            else:
                self._add_several(row, list(made))  # type: ignore[arg-type]  # mypy cannot tell what is left
        except Rejection as rejection:
            self.lose(row.line, rejection.reason, row.value)
        if len(self._losses) >= MOST_LOSSES:
            self._flush()

    def add_pair(
        self, line: int, example: PreferenceExample, kept: list[str | None], size: int, value: Row | None = None
    ) -> None:
        """Take one pair. Raise Rejection when it is known here already that it is not to be kept."""
        changes, lengths = 0, UNMEASURED
        if self._encoder is not None or self._config.scan == "secrets":
            changes = clean(example)
            if self._config.scan == "secrets":
                changes |= self._scan(example, kept)
            if self._encoder is not None:
                lengths = measure(example, self._encoder, most=self._most, over=self._config.over_length)
                changes |= lengths.changes
        self._wait(line, example, kept, size, value, changes, lengths)

    def lose(self, line: int, reason: str, value: dict[str, Any] | None) -> None:
        """Count a row or pair that is left out, and note where it stands."""
        staged = self.staged
        staged.dropped[reason] += 1
        self._losses.append((line, loss_line(line, reason, value, scan=self._config.scan == "secrets")))
        if is_error(reason, self._config) and (staged.first_loss is None or line < staged.first_loss[0]):
            staged.first_loss = (line, reason)

    def _add_several(self, row: RawRow, pairs: list[PreferenceExample | Rejection]) -> None:
        if not pairs:
            raise Rejection("single_answer")
        kept = self._kept(row.value or {})
        self.staged.made += len(pairs) - 1
        for pair in pairs:
            try:
                if isinstance(pair, Rejection):
                    raise pair
                self.add_pair(row.line, pair, list(kept), row.size, row.value)
            except Rejection as rejection:
                self.lose(row.line, rejection.reason, row.value)

    def _add_rated(self, row: RawRow, half: Rated) -> None:
        """Keep half a pair; the second round makes pairs of them, and only then are they cleaned."""
        if not half.prompt or not half.answer:
            raise Rejection("empty_prompt" if half.answer else "empty_answer")
        for message in (*half.prompt, *half.answer):
            if message["role"] not in ROLES:
                raise Rejection("unknown_role")
        self._waiting.scores.append(half.score)
        halves = PreferenceExample(half.prompt, half.answer, [])
        self._wait(row.line, halves, self._kept(row.value or {}), row.size, row.value, 0, UNMEASURED)

    def _wait(
        self, line: int, example: PreferenceExample, kept: list[str | None], size: int, value: Row | None,
        changes: int, lengths: Lengths,
    ) -> None:  # fmt: skip
        waiting = self._waiting
        waiting.lines.append(line)
        waiting.examples.append(example)
        waiting.kept.append(kept)
        waiting.values.append(value)
        waiting.changes.append(changes)
        waiting.lengths.append(lengths)
        waiting.bytes += size
        if waiting.bytes > BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Clean what waits and write it, with the losses up to here in the order of their lines."""
        waiting, self._waiting = self._waiting, _Waiting()
        places = list(range(len(waiting.examples))) if self._rules.single else self._cleaned(waiting)
        if places:
            self._write(waiting, places)
        self._files["losses"].write(b"".join(text for _, text in sorted(self._losses, key=lambda loss: loss[0])))
        self._losses = []

    def _cleaned(self, waiting: _Waiting) -> list[int]:
        """Return the places of the pairs to write."""
        lost = set()
        for place in suspects(waiting.examples).tolist():
            try:
                waiting.changes[place] |= clean(waiting.examples[place])
            except Rejection as rejection:
                lost.add(place)
                self.lose(waiting.lines[place], rejection.reason, waiting.values[place])
        return [place for place in range(len(waiting.examples)) if place not in lost]

    def _write(self, waiting: _Waiting, places: list[int]) -> None:
        examples = [waiting.examples[place] for place in places]
        prompt, chosen, rejected = columns = [
            MessagesColumn([getattr(example, name) for example in examples]) for name in COLUMNS
        ]
        kept = [
            pa.array([waiting.kept[place][number] for place in places], pa.string())
            for number in range(len(self._rules.keep))
        ]
        arrays = [*(column.array() for column in columns), *kept]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        keys = np.zeros(len(places), KEY)
        keys["line"] = [waiting.lines[place] for place in places]
        keys["messages"] = np.diff(prompt.ends)
        if self._rules.single:
            keys["score"] = [waiting.scores[place] for place in places]
            pair, _ = pair_digests(digests(prompt), [b""] * len(places), [b""] * len(places))
            keys["prompt"] = folded_keys(chosen, bytes)
            self.staged.rated += len(places)
        else:
            pair, keys["flipped"] = pair_digests(digests(prompt), digests(chosen), digests(rejected))
            keys["prompt"] = folded_keys(prompt, fold)
            self.staged.pairs += len(places)
        keys["low"], keys["high"] = pair.T
        keys["changes"] = [waiting.changes[place] for place in places]
        for name, column in zip(COLUMNS, columns, strict=True):
            sizes, keys[f"{name}_characters"] = column.lengths()
            keys["bytes"] += sizes.astype(np.uint32)
            keys[f"{name}_tokens"] = [getattr(waiting.lengths[place], name) for place in places]
        self._files["keys"].write(keys.tobytes())
        if self._config.dedupe == "near" and not self._rules.single:
            self._files["near"].write(b"".join(_signatures(example) for example in examples))

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

    def _kept(self, value: dict[str, Any]) -> list[str | None]:
        return [_text(value.get(name)) for name in self._rules.keep]


def _signatures(example: PreferenceExample) -> bytes:
    """Return the near-duplicate signatures of the prompt and of the whole pair."""
    parts = [("", example.prompt), ("+", example.chosen), ("-", example.rejected)]
    return b"".join(signature(some).tobytes() for some in (parts[:1], parts))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:
        raise Rejection("wrong_type") from None


def read_losses(scratch: str, number: int, suffix: str = "") -> Iterator[dict[str, Any]]:
    """Give the losses of a piece, in the order of their lines."""
    with storage.open_read(file_of(scratch, number, "losses" + suffix)) as stream:
        for line in stream:
            yield orjson.loads(line)
