"""Generated raw preference data with the row sizes of well-known sets: nothing real, the same bytes for a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

REPEATED = 0.02
"""Share of the rows that repeat an earlier one."""


class Writer:
    """Sentences of made-up words, frequent ones short and rare ones long, as in a language."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        parts = ["ba", "ko", "ri", "ten", "lu", "sha", "mo", "ver", "in", "qua", "pel", "do", "ni", "est", "ar"]
        self._words = ["".join(self.random.choices(parts, k=1 + i // 900)) for i in range(4000)]
        weights = [1 / (place + 3) for place in range(4000)]
        # drawn once and then cut from, because drawing is slower than all that is to be measured
        drawn = self.random.choices(self._words, weights, k=400_000)
        text = []
        for line, word in enumerate(drawn):
            text.append(word + (". " if line % 13 == 0 else ", " if line % 29 == 0 else " "))
        self._text = "".join(text)

    def words(self, low: int, high: int) -> str:
        """Return text of `low` to `high` characters, most of them short."""
        size = int(low * (high / low) ** (self.random.random() ** 1.6))
        start = self.random.randrange(len(self._text) - high - 1)
        return self._text[start : start + size].strip().capitalize() + (
            "." if self.random.random() < 0.85 else " – né 名."
        )


def chats(write: Writer) -> dict[str, Any]:
    history = []
    for _ in range(write.random.choice((1, 1, 1, 3, 5))):
        history.append({"role": ("user", "assistant")[len(history) % 2], "content": write.words(40, 1400)})
    answers = ({"role": "assistant", "content": write.words(80, 3200)} for _ in range(2))
    chosen, rejected = answers
    return {"chosen": [*history, chosen], "rejected": [*history, rejected], "score_chosen": 8.5, "score_rejected": 4.0}


def transcripts(write: Writer) -> dict[str, Any]:
    turns = write.random.choice((1, 1, 3, 3, 5))
    history = "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {write.words(40, 1000).strip()}" for i in range(turns))
    chosen, rejected = (f"{history}\n\nAssistant: {write.words(60, 2000).strip()}" for _ in range(2))
    return {"chosen": chosen, "rejected": rejected}


def question_answers(write: Writer) -> dict[str, Any]:
    return {
        "qid": write.random.randrange(10**8), "question": write.words(200, 3000), "date": "2026/01/02",
        "metadata": ["https://example.org/1", "https://example.org/2", "https://example.org/3"],
        "response_j": write.words(100, 3600), "response_k": write.words(100, 3600),
    }  # fmt: skip


SHAPES: dict[str, Callable[[Writer], dict[str, Any]]] = {
    "chats": chats, "transcripts": transcripts, "question-answers": question_answers,
}  # fmt: skip


def rows(shape: str, seed: int = 0) -> Iterator[bytes]:
    """Give lines without end."""
    write = Writer(seed)
    recent: list[bytes] = []
    while True:
        if recent and write.random.random() < REPEATED:
            yield write.random.choice(recent)
            continue
        line = orjson.dumps(SHAPES[shape](write)) + b"\n"
        recent = [*recent[-200:], line]
        yield line


def generate(shape: str, path: Path, size: int, seed: int = 0) -> int:
    """Write about `size` bytes of rows, and return how many rows they are."""
    count = written = 0
    with path.open("wb") as out:
        for line in rows(shape, seed):
            out.write(line)
            count, written = count + 1, written + len(line)
            if written >= size:
                return count
    return count
