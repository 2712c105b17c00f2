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


@dataclass(slots=True)
class _Waiting:
    """A pair, or half of one, that is to be written with the next batch."""

    line: int
    example: PreferenceExample
    kept: list[str | None]
    value: Row | None
    changes: int = 0
    lengths: Lengths | None = None
    score: float = 0.0


class Stage:
    """Takes rows or pairs in the order of their lines, and writes rows, keys and losses of one piece."""

    def __init__(self, number: int, rules: Rules, *, suffix: str = "") -> None:
        self.staged = Staged(number)
        self._rules, self._config = rules, rules.config
        self._suffix = suffix
        self._encoder = encoder_of(rules.model) if rules.model is not None else None
        self._most = rules.config.max_length if isinstance(rules.config.max_length, int) else None
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
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
        pair = _Waiting(line, example, kept, value)
        if self._encoder is not None or self._config.scan == "secrets":
            self._look_closely(pair)
        self._wait(pair, size)

    def _look_closely(self, pair: _Waiting) -> None:
        pair.changes = clean(pair.example)
        if self._config.scan == "secrets":
            pair.changes |= self._scan(pair.example, pair.kept)
        if self._encoder is not None:
            pair.lengths = measure(pair.example, self._encoder, most=self._most, over=self._config.over_length)
            pair.changes |= pair.lengths.changes

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
        pair = PreferenceExample(half.prompt, half.answer, [])
        self._wait(_Waiting(row.line, pair, self._kept(row.value or {}), row.value, score=half.score), row.size)

    def _wait(self, pair: _Waiting, size: int) -> None:
        self._waiting.append(pair)
        self._waiting_bytes += size
        if self._waiting_bytes > BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Clean what waits and write it, with the losses up to here in the order of their lines."""
        pairs, self._waiting, self._waiting_bytes = self._waiting, [], 0
        columns = _columns(pairs)
        if pairs and not self._rules.single:
            pairs, columns = self._cleaned(pairs, columns)
        if pairs:
            self._write(pairs, columns)
        self._files["losses"].write(b"".join(text for _, text in sorted(self._losses, key=lambda loss: loss[0])))
        self._losses = []

    def _cleaned(
        self, pairs: list[_Waiting], columns: list[MessagesColumn]
    ) -> tuple[list[_Waiting], list[MessagesColumn]]:
        """Return the pairs to write."""
        found = suspects(*columns).tolist()
        if not found:
            return pairs, columns
        lost = set()
        for place in found:
            pair = pairs[place]
            try:
                pair.changes |= clean(pair.example)
            except Rejection as rejection:
                lost.add(place)
                self.lose(pair.line, rejection.reason, pair.value)
        good = [pair for place, pair in enumerate(pairs) if place not in lost]
        return good, _columns(good)

    def _write(self, pairs: list[_Waiting], columns: list[MessagesColumn]) -> None:
        prompt, chosen, rejected = columns
        kept = [pa.array([pair.kept[i] for pair in pairs], pa.string()) for i in range(len(self._rules.keep))]
        arrays = [*(column.array() for column in columns), *kept]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        keys = np.zeros(len(pairs), KEY)
        keys["line"] = [pair.line for pair in pairs]
        keys["messages"] = prompt.counts
        if self._rules.single:
            keys["score"] = [pair.score for pair in pairs]
            nothing = [b""] * len(pairs)
            digest, _ = pair_digests(digests(prompt), nothing, nothing)
            keys["prompt"] = folded_keys(chosen, bytes)
            self.staged.rated += len(pairs)
        else:
            digest, keys["flipped"] = pair_digests(digests(prompt), digests(chosen), digests(rejected))
            keys["prompt"] = folded_keys(prompt, fold)
            self.staged.pairs += len(pairs)
        keys["low"], keys["high"] = digest.T
        keys["changes"] = [pair.changes for pair in pairs]
        for name, column in zip(COLUMNS, columns, strict=True):
            sizes, keys[f"{name}_characters"] = column.lengths()
            keys["bytes"] += sizes.astype(np.uint32)
            measured = self._encoder is not None and not self._rules.single
            keys[f"{name}_tokens"] = [getattr(pair.lengths, name) for pair in pairs] if measured else -1
        self._files["keys"].write(keys.tobytes())
        if self._config.dedupe == "near" and not self._rules.single:
            self._files["near"].write(b"".join(_signatures(pair.example) for pair in pairs))

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


def _columns(pairs: list[_Waiting]) -> list[MessagesColumn]:
    return [MessagesColumn([getattr(pair.example, name) for pair in pairs]) for name in COLUMNS]


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
