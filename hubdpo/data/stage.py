"""First step of prepare, on all pieces of the input at once: raw rows to Arrow rows with keys, or to losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from hubdpo.config import PrepareConfig
from hubdpo.data import storage
from hubdpo.data.clean import REDACTED, clean
from hubdpo.data.columns import BatchBuilder
from hubdpo.data.converters import Convert
from hubdpo.data.keys import Encoded, as_array, digest_of, pair_key
from hubdpo.data.lengths import Lengths, Model, encoder_of, measure
from hubdpo.data.losses import is_error, loss_line
from hubdpo.data.preference import Message, PreferenceExample, Rated, Rejection
from hubdpo.data.readers import Piece, PieceReader
from hubdpo.data.split import prompt_key
from hubdpo.secrets import find_secrets, redact

BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Rules:
    """What every task needs to know to treat a row: the same for all of them."""

    config: PrepareConfig
    convert: Convert
    keep: list[str]
    model: Model | None
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
    with Stage(task.number, task.rules) as stage_:
        reader = PieceReader(task.piece, max_line_bytes=task.rules.config.max_line_bytes)
        for row in reader:
            stage_.staged.read += 1
            stage_.add(row.line, row.value, row.problem)
            if stage_.staged.first_loss is not None:
                break
        stage_.staged.lines = reader.lines
    return stage_.staged


class Stage:
    """Takes rows or pairs in the order of their lines, and writes rows, keys and losses of one piece."""

    def __init__(self, number: int, rules: Rules, *, suffix: str = "") -> None:
        self.staged = Staged(number)
        self._rules, self._config = rules, rules.config
        self._suffix = suffix
        self._encoder = encoder_of(rules.model) if rules.model is not None else None
        self._most = rules.config.max_length if isinstance(rules.config.max_length, int) else None
        self._keys: list[tuple[Any, ...]] = []
        self._near: list[Any] = []

    def __enter__(self) -> Stage:
        rules, number = self._rules, self.staged.number
        self._builder = BatchBuilder(rules.keep)
        self._files = {
            kind: storage.open_write(file_of(rules.scratch, number, kind + self._suffix))
            for kind in ("rows", "keys", "losses", "near")
        }
        self._writer = pa.ipc.new_file(self._files["rows"], self._builder.schema)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        for file in self._files.values():
            file.close()

    def add(self, line: int, value: dict[str, Any] | None, problem: str | None) -> None:
        """Take one raw row."""
        if value is None:
            self.lose(line, problem or "malformed_line", None)
            return
        try:
            made = self._rules.convert(value)
            if type(made) is PreferenceExample:
                self.add_pair(line, made, self._kept(value))
            elif isinstance(made, Rated):
                self._add_rated(line, made, self._kept(value))
            else:
                self._add_several(line, made, value)  # type: ignore[arg-type]  # mypy cannot tell what is left
        except Rejection as rejection:
            self.lose(line, rejection.reason, value)

    def add_pair(self, line: int, example: PreferenceExample, kept: list[str | None]) -> None:
        """Take one pair. Raise Rejection when it is not to be kept."""
        changes = clean(example)
        if self._config.scan == "secrets":
            changes |= self._scan(example, kept)
        lengths = Lengths(-1, -1, -1)
        if self._encoder is not None:
            lengths = measure(example, self._encoder, most=self._most, over=self._config.over_length)
        self._write(line, example, kept, changes | lengths.changes, lengths)

    def lose(self, line: int, reason: str, value: dict[str, Any] | None) -> None:
        """Count a row or pair that is left out, and note where it stands."""
        self.staged.dropped[reason] += 1
        self._files["losses"].write(loss_line(line, reason, value, scan=self._config.scan == "secrets"))
        if self.staged.first_loss is None and is_error(reason, self._config):
            self.staged.first_loss = (line, reason)

    def _add_several(self, line: int, made: Iterable[PreferenceExample | Rejection], value: dict[str, Any]) -> None:
        pairs = list(made)
        if not pairs:
            raise Rejection("single_answer")
        kept = self._kept(value)
        self.staged.made += len(pairs) - 1
        for pair in pairs:
            try:
                if isinstance(pair, Rejection):
                    raise pair
                self.add_pair(line, pair, list(kept))
            except Rejection as rejection:
                self.lose(line, rejection.reason, value)

    def _add_rated(self, line: int, half: Rated, kept: list[str | None]) -> None:
        """Keep half a pair; the second round makes pairs of them."""
        if not half.prompt or not half.answer:
            raise Rejection("empty_prompt" if half.answer else "empty_answer")
        for message in (*half.prompt, *half.answer):
            if message["role"] not in ("system", "user", "assistant", "tool"):
                raise Rejection("unknown_role")
        prompt, answer = _encoded(half.prompt), _encoded(half.answer)
        low, high, _ = pair_key(digest_of(prompt), b"", b"")
        answer_key = int.from_bytes(digest_of(answer)[:8], "little")
        self._keys.append((low, high, answer_key, line, 0, len(half.prompt), 0, 0, 0, -1, -1, -1, 0, 0, half.score))
        self.staged.rated += 1
        self._put((prompt, answer, ()), kept, sum(len(text) for _, text in (*prompt, *answer)))

    def _write(
        self, line: int, example: PreferenceExample, kept: list[str | None], changes: int, lengths: Lengths
    ) -> None:
        parts = prompt, chosen, rejected = example.prompt, example.chosen, example.rejected
        encoded = _encoded(prompt), _encoded(chosen), _encoded(rejected)
        self.staged.pairs += 1
        low, high, flipped = pair_key(*map(digest_of, encoded))
        size = sum([len(text) for part in encoded for _, text in part])
        characters = [sum([len(message["content"]) for message in part]) for part in parts]
        self._keys.append((
            low, high, prompt_key(prompt), line, size, len(prompt), *characters,
            lengths.prompt, lengths.chosen, lengths.rejected, flipped, changes, 0.0,
        ))  # fmt: skip
        if self._config.dedupe == "near":
            from hubdpo.data.near import signature

            self._near += [signature([("", prompt)]), signature([("", prompt), ("+", chosen), ("-", rejected)])]
        self._put(encoded, kept, size)

    def _put(self, encoded: tuple[Encoded, Encoded, Encoded], kept: list[str | None], size: int) -> None:
        self._builder.add(encoded, kept, size)
        if self._builder.bytes > BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._keys:
            self._writer.write_batch(self._builder.finish())
            self._files["keys"].write(as_array(self._keys).tobytes())
            self._files["near"].write(b"".join(values.tobytes() for values in self._near))
        self._keys, self._near = [], []

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


def _encoded(messages: list[Message]) -> Encoded:
    try:
        return [(message["role"], message["content"].encode()) for message in messages]
    except UnicodeEncodeError:
        raise Rejection("lone_surrogate") from None


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
