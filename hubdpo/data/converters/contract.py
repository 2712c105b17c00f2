"""What a converter provides, and the options that it heeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise
from typing import Literal

from hubdpo.data.converters.prompts import TOOLS, Reads, may_have_tools, tools_in, with_tools
from hubdpo.data.pairs.example import Converted, Row
from hubdpo.data.pairs.message_column import PairColumns

Convert = Callable[[Row], Converted]
ConvertMany = Callable[[list[Row]], PairColumns | None]


@dataclass(frozen=True)
class ConvertOptions:
    """The options of prepare that decide which answer is better, and which pairs several answers make."""

    pairs: Literal["best-worst", "best-each", "adjacent", "all"] = "best-worst"
    min_margin: float = 0.0
    score_field: str | None = None
    """The score to compare, where answers have several."""
    labels: dict[str, str] | None = None
    """The meaning of the values of a vote or label: {value: `first`, `second`, `tie`, `good` or `bad`}."""

    def candidates(self, scores: Sequence[float]) -> Iterator[tuple[int, int]]:
        """Yield (better, worse) indices of the pairs to compare; equal scores included, to be counted as ties.

        `best-worst` yields one pair, `best-each` the best answer with each other one, `adjacent` each neighbour in the
        order of scores, `all` every two answers. Of equal scores the earlier answer comes first, so that the pairs
        depend on nothing but the row.
        """
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        if self.pairs == "best-worst":
            return iter([(order[0], order[-1])] if len(order) > 1 else [])
        if self.pairs == "best-each":
            return ((order[0], other) for other in order[1:])
        return pairwise(order) if self.pairs == "adjacent" else combinations(order, 2)

    def too_close(self, margin: float) -> str | None:
        """Return the rejection reason if a difference of scores is not a preference, else None."""
        return "tie" if margin == 0 else "below_margin" if margin < self.min_margin else None


@dataclass(frozen=True)
class Converter:
    """The converter of one raw format. The package's docstring is the contract of its functions."""

    name: str
    evidence: str
    """What a detected row has, for the message: `detected NAME: 9 of 10 rows have EVIDENCE`."""
    detect: Callable[[Row], bool]
    convert: Callable[..., Converted]
    reads: Reads
    """The columns that `convert` may read. Values in other columns are reported as unused."""
    answers: tuple[str, ...] = ()
    """The columns that may hold one of the two answers of a row."""
    convert_many: ConvertMany | None = None
    options: tuple[str, ...] = ()
    """The options of prepare that change the result. A converter with options is called as `convert(row, how)`."""
    tools: Callable[[Row], object] | None = tools_in
    """Returns the value of a row that holds the tools which the assistant may call; None if rows have none."""

    @property
    def names_better_answer(self) -> bool:
        """Whether the columns themselves name the better answer, instead of scores, votes or labels."""
        return not self.options

    def bind(self, how: ConvertOptions) -> Convert:
        """Return `convert` as a function of a row alone, whose pairs have the tools of the row."""
        plain = partial(self.convert, how=how) if self.options else self.convert
        return plain if self.tools is None else partial(_convert, convert=plain, of=self.tools)

    def bind_plain(self, how: ConvertOptions) -> Convert:
        """Return `bind` for rows of which `may_have_tools` says that they have none."""
        return replace(self, tools=None).bind(how) if self.tools is tools_in else self.bind(how)

    def bind_many(self) -> ConvertMany | None:
        """Return `convert_many` for rows without tools."""
        if self.convert_many is None or self.tools is None:
            return self.convert_many
        return partial(_convert_many, convert_many=self.convert_many, of=self.tools)

    def columns_read(self, how: ConvertOptions) -> Reads:
        """Return the columns that are read under these options."""
        scores = (how.score_field,) if how.score_field and "score_field" in self.options else ()
        return (*self.reads, *scores, *([TOOLS] if self.tools is tools_in else []))


def _convert(row: Row, convert: Convert, of: Callable[[Row], object]) -> Converted:
    return with_tools(convert(row), of(row))


def _convert_many(rows: list[Row], convert_many: ConvertMany, of: Callable[[Row], object]) -> PairColumns | None:
    if (of is not tools_in or may_have_tools(rows)) and any(of(row) is not None for row in rows):
        return None
    return convert_many(rows)
