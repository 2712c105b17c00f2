"""What a converter provides, and the types in which it says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from hubdpo.data.converters.pairing import ConvertOptions
from hubdpo.data.converters.prompts import Reads
from hubdpo.data.pairs.example import Converted, Row
from hubdpo.data.pairs.message_column import PairColumns

Convert = Callable[[Row], Converted]
ConvertMany = Callable[[list[Row]], PairColumns | None]
Option = Literal["pairs", "min_margin", "score_field", "labels"]


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
    options: tuple[Option, ...] = ()
    """The options of prepare that change the result. A converter with options is called as `convert(row, how)`."""

    @property
    def names_better_answer(self) -> bool:
        """Whether the columns themselves name the better answer, instead of scores, votes or labels."""
        return not self.options

    def bind(self, how: ConvertOptions) -> Convert:
        """Return `convert` as a function of a row alone."""
        return partial(self.convert, how=how) if self.options else self.convert

    def columns_read(self, how: ConvertOptions) -> Reads:
        """Return the columns that are read under these options."""
        return (*self.reads, how.score_field) if how.score_field and "score_field" in self.options else self.reads
