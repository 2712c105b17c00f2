"""A published shape of preference data: rows of our own text, and the pairs that must come out.

The better answer is `GOOD n`, the worse one `BAD n`, the prompt `Q n`, and the system prompt `SYS n`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.data.made import lines

COUNT = 4
"""Rows of a shape; in even ones the first answer is the better one."""
Pair = tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]]]
"""Prompt, chosen and rejected, each as (role, text)."""


def q(n: int) -> str:
    return f"Q {n}"


def good(n: int) -> str:
    return f"GOOD {n}"


def bad(n: int) -> str:
    return f"BAD {n}"


def first(n: int) -> str:
    """Return the answer in the first place, which is the better one in even rows."""
    return bad(n) if n % 2 else good(n)


def second(n: int) -> str:
    return good(n) if n % 2 else bad(n)


def vote(n: int, one: Any, other: Any) -> Any:
    """Return the vote of row n: `one` if the first answer is better."""
    return other if n % 2 else one


def turns(
    *texts: str, role: str = "role", content: str = "content", names: tuple[str, ...] = ("user", "assistant")
) -> Any:
    """Return messages of user and assistant in turn."""
    return [{role: names[i % 2], content: text} for i, text in enumerate(texts)]


def system(n: int, **keys: str) -> list[dict[str, str]]:
    return [{keys.get("role", "role"): "system", keys.get("content", "content"): f"SYS {n}"}]


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def plain(n: int) -> Pair:
    return [("user", q(n))], [("assistant", good(n))], [("assistant", bad(n))]


def with_system(n: int) -> Pair:
    prompt, chosen, rejected = plain(n)
    return [("system", f"SYS {n}"), *prompt], chosen, rejected


def second_round(n: int) -> Pair:
    """Return the pair of a second question behind one that was answered."""
    prompt, chosen, rejected = plain(n)
    return [("user", "Q first"), ("assistant", "A first"), *prompt], chosen, rejected


@dataclass(frozen=True)
class Shape:
    row: Callable[[int], Any]
    """Return the row of a number, or the rows."""
    pair: Callable[[int], Pair | list[Pair]] = plain
    """Return the pair, or the pairs, of a row."""
    options: dict[str, Any] = field(default_factory=dict)
    """What a person must say; without these options the shape is refused, with a hint that names each of them."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """Options that a person may choose."""
    asked: str = ""
    """The part of that hint that a person completes, if hubdpo cannot fill it in."""
    told: tuple[str, ...] = ()
    """Parts of the refusal of rows that are no pairs of texts."""
    name: str = "raw.jsonl"
    whole: Callable[[list[Any]], bytes] = lines
    """Write the rows to a file."""
    lost: dict[str, int] = field(default_factory=dict)
    """What is dropped, by reason."""

    def data(self) -> bytes:
        return self.whole([self.row(n) for n in range(COUNT)])


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    table = csv.DictWriter(out, rows[0])
    table.writeheader()
    table.writerows(rows)
    return out.getvalue().encode()


def flat(rows: list[list[Any]]) -> bytes:
    """Write the rows of lists of rows."""
    return lines([row for some in rows for row in some])
