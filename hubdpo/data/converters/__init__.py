"""The raw formats: a converter each, with its detection beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hubdpo.data.converters import columns, hh_rlhf, implicit_prompt, preference, sharegpt, stack_exchange_paired
from hubdpo.data.preference import PreferenceExample

Row = dict[str, Any]


@dataclass(frozen=True)
class Converter:
    """`convert` makes an example of a row or raises Rejection; `detect` tells whether a row has this shape."""

    convert: Callable[[Row], PreferenceExample]
    detect: Callable[[Row], bool]
    evidence: str


CONVERTERS = {
    "preference": Converter(preference.convert, preference.detect, "prompt, chosen and rejected"),
    "implicit-prompt": Converter(implicit_prompt.convert, implicit_prompt.detect, "whole conversations, no prompt"),
    "hh-rlhf": Converter(hh_rlhf.convert, hh_rlhf.detect, "Human/Assistant transcripts"),
    "stack-exchange-paired": Converter(
        stack_exchange_paired.convert, stack_exchange_paired.detect, "question, response_j and response_k"
    ),
    "sharegpt": Converter(sharegpt.convert, sharegpt.detect, "conversations with from and value"),
}
"""The formats that can be told from their rows; `columns` is made from `--map`."""

NAMES = (*CONVERTERS, "columns")

__all__ = ["CONVERTERS", "NAMES", "Converter", "Row", "columns"]
