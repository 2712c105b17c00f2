"""The raw formats: a converter each, with its detection beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

from hubdpo.data.converters import (
    alpaca,
    hh_rlhf,
    implicit_prompt,
    label_studio,
    mapped,
    openai,
    preference,
    ranked,
    scored,
    sharegpt,
    stack_exchange_paired,
    unpaired,
    voted,
)
from hubdpo.data.converters.asking import Reads
from hubdpo.data.converters.choice import Choice
from hubdpo.data.converters.question import SYSTEM
from hubdpo.data.pairs.example import Made, Row
from hubdpo.data.pairs.message_column import Columns

Convert = Callable[[Row], Made]
ConvertMany = Callable[[list[Row]], Columns | None]
"""Converts rows together when each of them is one pair as plain as they come; None when one is not."""


@dataclass(frozen=True)
class Converter:
    """`convert` makes pairs of a row or raises Rejection; `detect` tells whether a row has this shape.

    `reads` are the columns that it may read: any other one is told as unused. A converter that `chooses` by scores,
    votes or labels takes a Choice as well; of one that has `one_answer` a row, two rows make a pair. `many` gives
    what `convert` gives of each row, in a fraction of the time.
    """

    convert: Callable[..., Made]
    detect: Callable[[Row], bool]
    evidence: str
    reads: Reads = ()
    chooses: bool = False
    one_answer: bool = False
    many: ConvertMany | None = None

    @property
    def says_better(self) -> bool:
        """Whether the columns themselves say which of two answers is the better one."""
        return not self.chooses


CONVERTERS = {
    "preference": Converter(
        preference.convert, preference.detect, "prompt, chosen and rejected", preference.READS,
        many=preference.convert_many,
    ),
    "implicit-prompt": Converter(
        implicit_prompt.convert, implicit_prompt.detect, "whole conversations, no prompt", implicit_prompt.READS,
        many=implicit_prompt.convert_many,
    ),
    "hh-rlhf": Converter(
        hh_rlhf.convert, hh_rlhf.detect, "Human/Assistant transcripts", hh_rlhf.READS, many=hh_rlhf.convert_many
    ),
    "stack-exchange-paired": Converter(
        stack_exchange_paired.convert, stack_exchange_paired.detect, "question, response_j and response_k",
        stack_exchange_paired.READS, many=stack_exchange_paired.convert_many,
    ),
    "scored": Converter(scored.convert, scored.detect, "answers with scores", scored.READS, chooses=True),
    "ranked": Converter(ranked.convert, ranked.detect, "answers with ranks", ranked.READS, chooses=True),
    "voted": Converter(voted.convert, voted.detect, "two answers and a vote", voted.READS, chooses=True),
    "label-studio": Converter(
        label_studio.convert, label_studio.detect, "annotated comparisons", label_studio.READS, chooses=True
    ),
    "unpaired": Converter(
        unpaired.convert, unpaired.detect, "one answer with a label", unpaired.READS, chooses=True, one_answer=True
    ),
    "sharegpt": Converter(
        sharegpt.convert, sharegpt.detect, "conversations with two answers", sharegpt.READS
    ),
    "alpaca": Converter(alpaca.convert, alpaca.detect, "instruction and two answers", alpaca.READS),
    "openai": Converter(
        openai.convert, openai.detect, "input, preferred_output and non_preferred_output", openai.READS
    ),
}  # fmt: skip
"""The formats that can be told from their rows; `columns` is made from `--map`."""

SCORED = frozenset(("scored",))
"""Those that read `--score-field`."""
SEVERAL = frozenset(("scored", "ranked", "unpaired"))
"""Those that may have several answers to a prompt, which `--pairs` makes pairs of."""
NAMES = (*CONVERTERS, "columns")


def converter_for(name: str, how: Choice, mapping: dict[str, str] | None = None) -> Convert:
    """Return the function of one row; `mapping` is what `--map` says, for `columns` alone."""
    if mapping is not None:
        return mapped.converter(mapping, how)
    converter = CONVERTERS[name]
    return partial(converter.convert, how=how) if converter.chooses else converter.convert


def converter_of_many(name: str, mapping: dict[str, str] | None = None) -> ConvertMany | None:
    """Return the function of many plain rows, for the formats that have one."""
    return mapped.converter_of_many(mapping) if mapping is not None else CONVERTERS[name].many


def reads_of(name: str, how: Choice, mapping: dict[str, str] | None = None) -> Reads:
    """Return the columns that a format reads; `mapping` is what `--map` says."""
    if mapping is not None:
        return mapped.reads(mapping)
    named = (how.score_field,) if how.score_field and name in SCORED else ()
    return (*CONVERTERS[name].reads, SYSTEM, *named)


ANSWERS = frozenset((
    *implicit_prompt.CHOSEN, *implicit_prompt.REJECTED, *alpaca.CHOSEN, *sharegpt.REJECTED, *openai.READS[1:],
    *stack_exchange_paired.FIELDS[1:], *chain.from_iterable(voted.ANSWERS),
))  # fmt: skip


def answers_of(mapping: dict[str, str] | None = None) -> frozenset[str]:
    """Return the columns that may hold one of the two answers of a row; `mapping` is what `--map` says."""
    if mapping is None:
        return ANSWERS
    return frozenset(column for name, column in mapping.items() if name in ("chosen", "rejected", "first", "second"))


__all__ = [
    "CONVERTERS", "NAMES", "Choice", "Convert", "ConvertMany", "Converter", "Row", "answers_of", "columns",
    "converter_for", "converter_of_many", "reads_of",
]  # fmt: skip
