"""Converters: one for each raw format, from a row to preference pairs.

A converter is a `Converter` in a module of `formats`, listed in CONVERTERS below. It provides:

detect(row) -> bool
    Whether the row has the format's columns, with values of the right types. Looks at one row and never raises.
    Detection picks the format that most of a file's first rows have.
convert(row) or convert(row, how) -> Converted
    Make a PreferenceExample, a ScoredAnswer (one answer per row, paired later), or an iterable of pairs and
    Rejections. Raise Rejection with a reason code for a row that is dropped. A row depends on nothing but itself, so
    the result is the same whichever worker converts it.
convert_many(rows) -> PairColumns | None
    Optional: the same result as `convert` for many plain rows at once, several times as fast. Returns None if any row
    needs a closer look; prepare then halves the list and, in the end, calls `convert` row by row.

Cells that hold messages as text (CSV) are parsed before a converter sees the row, and all cleaning comes after it.
"""

from __future__ import annotations

from hubdpo.data.converters.contract import Convert, Converter, ConvertMany, ConvertOptions
from hubdpo.data.converters.formats import (
    answer_lists,
    argilla,
    conversations,
    described,
    hh_rlhf,
    oasst,
    preference,
    scored,
    unpaired,
    voted,
)
from hubdpo.data.pairs.example import Row

CONVERTERS = {
    converter.name: converter
    for converter in (
        preference.PREFERENCE,
        conversations.IMPLICIT_PROMPT,
        hh_rlhf.HH_RLHF,
        preference.STACK_EXCHANGE_PAIRED,
        scored.SCORED,
        scored.RANKED,
        voted.VOTED,
        voted.LABEL_STUDIO,
        unpaired.UNPAIRED,
        conversations.SHAREGPT,
        preference.ALPACA,
        preference.OPENAI,
        preference.STEP_DPO,
        answer_lists.ANSWER_LISTS,
        oasst.OASST,
        argilla.ARGILLA,
    )
}
"""The formats that detection knows; `columns` is made from a description."""
NAMES = (*CONVERTERS, described.NAME)
ANSWERS = frozenset(column for converter in CONVERTERS.values() for column in converter.answers)


__all__ = [
    "ANSWERS", "CONVERTERS", "NAMES", "Convert", "ConvertMany", "ConvertOptions", "Converter", "Row",
]  # fmt: skip
