"""From options and the first rows to the rules that every task follows; what cannot be together is refused here."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import islice

from hubdpo import console
from hubdpo.config import PrepareConfig
from hubdpo.data.converters import (
    CONVERTERS,
    NAMES,
    Choice,
    Convert,
    Row,
    columns,
    converter_for,
    converter_of_many,
    voted,
)
from hubdpo.data.detect import MOST_ROWS, detect
from hubdpo.data.lengths import Model, encoder_of, find_model
from hubdpo.data.preference import Rated, Rejection
from hubdpo.data.readers import Piece, PieceReader
from hubdpo.data.stage import Rules
from hubdpo.errors import ConfigError, DataError

FIRST_PIECES = 4
"""Pieces to look at for a format: a file of blank lines is not read to its end for that."""
READ_BY_TRL = {"messages", "completion", "label", "image", "images", "prompt", "chosen", "rejected"}


def make_rules(config: PrepareConfig, pieces: list[Piece], model: Model | None, scratch: str) -> tuple[Rules, str]:
    """Return the rules and the name of the converter, detected unless it was given. Raise ConfigError or DataError."""
    _check_format(config)
    first = list(islice(_values(config, pieces[:FIRST_PIECES]), MOST_ROWS))
    if clash := sorted(READ_BY_TRL & set(config.keep)):
        raise ConfigError(
            f"`--keep {clash[0]}` would change how trainers read the rows", hint="rename the column in the source"
        )
    if config.map is not None:
        name, mapping = "columns", columns.parse_map(config.map)
        _check_columns(mapping, first)
    else:
        name, mapping = config.format or detect(first), None
    keep = [*config.keep, *_attribution(name, config, first)]
    convert = converter_for(name, choice_of(config), mapping)
    many = converter_of_many(name, mapping)
    return Rules(config, convert, many, keep, model, _single(convert, first), scratch), name


def choice_of(config: PrepareConfig) -> Choice:
    labels = voted.parse_labels(config.labels) if config.labels else None
    return Choice(config.pairs, config.min_margin, config.score_field, labels)


def pinned_model(config: PrepareConfig) -> Model | None:
    """Pin `--model` and see that its tokenizer loads, before any row is read."""
    if config.model is None:
        return None
    model = find_model(config.model)
    encoder = encoder_of(model)
    console.info(f"tokens are counted by {'tiktoken, with the ids of ' if encoder.fast else ''}{config.model}")
    return model


def _check_format(config: PrepareConfig) -> None:
    if config.format is not None and config.format not in NAMES:
        near = difflib.get_close_matches(config.format, NAMES, n=1)
        raise ConfigError(
            f"unknown format: {config.format}",
            hint=f"did you mean `--format {near[0]}`?" if near else f"the formats are: {', '.join(NAMES)}",
        )
    if (config.format == "columns") != (config.map is not None) and config.format is not None:
        raise ConfigError("`--format columns` and `--map` belong together", hint=f"--format columns {columns.HINT}")


def _check_columns(mapping: dict[str, str], first: list[Row]) -> None:
    row = first[0] if first else {}
    if missing := [column for column in mapping.values() if column not in row]:
        raise DataError(
            f"no column `{missing[0]}` in the first row, which has {', '.join(f'`{key}`' for key in row)}",
            hint=columns.HINT,
        )


def _attribution(name: str, config: PrepareConfig, first: list[Row]) -> list[str]:
    """Return the columns that the source's licence asks to keep, where the rows have them."""
    wanted = CONVERTERS[name].attribution if name in CONVERTERS else ()
    return [column for column in wanted if first and column in first[0] and column not in config.keep]


def _single(convert: Convert, first: list[Row]) -> bool:
    """Tell whether the first row that converts has one answer."""
    for value in first:
        try:
            return isinstance(convert(value), Rated)
        except Rejection:
            continue
    return False


def _values(config: PrepareConfig, pieces: list[Piece]) -> Iterator[Row]:
    for piece in pieces:
        for row in PieceReader(piece, max_line_bytes=config.max_line_bytes):
            if row.value is not None:
                yield row.value
