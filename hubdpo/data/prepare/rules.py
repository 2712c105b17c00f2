"""From options and the first rows to the rules that every task follows; what cannot be together is refused here."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from hubdpo import console
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.screen import SIDES, Screen, list_columns, opened_row
from hubdpo.data.converters import NAMES, Convert, ConvertMany, ConvertOptions, answer_columns, find_converter
from hubdpo.data.converters.cells import is_list_of_texts
from hubdpo.data.converters.formats import mapped
from hubdpo.data.converters.vote_columns import ONE_OF_THREE
from hubdpo.data.converters.vote_words import parse_labels
from hubdpo.data.detection.detect import MOST_FIELDS, MOST_ROWS, Look, detect_all, look
from hubdpo.data.detection.score_fields import check_score_field
from hubdpo.data.detection.suggest import corrected, near_name
from hubdpo.data.detection.vote_hints import check_votes, models_read
from hubdpo.data.pairs.example import Rejection, Row, ScoredAnswer
from hubdpo.data.prepare.unreadable import unreadable
from hubdpo.data.raw.pieces import Piece, PieceReader
from hubdpo.data.raw.raw_file import listed
from hubdpo.data.raw.split_names import has_published_split, split_of
from hubdpo.data.tokens.tokenizer import Model, encoder_of, find_model
from hubdpo.errors import ConfigError, DataError

LEAST_ROWS = 64
"""Rows to look at of each file for its format, and of each piece of a large one a share of them, however many."""
LEAST_OF_A_PIECE = 8
READ_BY_TRL = {"messages", "completion", "label", "image", "images", "prompt", "chosen", "rejected"}


@dataclass(frozen=True)
class Rules:
    """How a task treats the rows of a piece: the same for all pieces of a file, and for files of the same shape."""

    converter: str
    """Name of the converter."""
    config: PrepareConfig
    convert: Convert
    """Converts one row."""
    convert_many: ConvertMany | None
    """Converts many plain rows at once, if the converter can."""
    screen: Screen
    """Checks raw rows before they are converted."""
    keep: list[str]
    """Columns to keep, as text."""
    model: Model | None
    """The model whose tokenizer counts tokens."""
    single: bool
    """Whether a row has one answer; `pair_single_answers` then makes the pairs."""
    scratch: str
    """Folder for the files that tasks write."""


def make_rules(
    config: PrepareConfig, pieces: list[Piece], model: Model | None, scratch: str, *, attribution: Sequence[str] = ()
) -> list[Rules]:
    """Return the rules of each piece; the converter of each file is detected unless one was given for all.

    `attribution` are the columns that the licence of the source asks to keep. Raise ConfigError or DataError.
    """
    _check_format(config)
    if clash := sorted(READ_BY_TRL & set(config.keep)):
        raise ConfigError(
            f"`--keep {clash[0]}` would change how trainers read the rows", hint="rename the column in the source"
        )
    files = by_file(pieces)
    most = max(MOST_ROWS // max(len(files), 1), LEAST_ROWS)
    mapping = mapped.parse_map(config.map) if config.map is not None else None
    looks = [look(_first_rows(config, some, most), some[0].file.name, some[0].file.argument) for some in files.values()]
    for one, some in zip(looks, files.values(), strict=True):
        if not one.seen and (problem := unreadable(some, config.max_line_bytes)):
            raise problem
    if mapping is not None:
        names = ["columns"] * len(files)
    else:
        names = [config.format] * len(files) if config.format else detect_all(looks)
    if config.test_size is None:
        _tell_split_column(looks)
    how = choice_of(config)
    if how.labels is not None and not any("labels" in find_converter(name, mapping).options for name in names):
        console.warn(f"`--labels` is not used: no vote or label is read by {listed(sorted({*names}))}")
    _tell_unread(config, names, looks, mapping)
    columns_ = {column: None for one in looks for column in one.fields}
    _check_keep(config, pieces, columns_)
    keep = [*config.keep, *(column for column in attribution if column in columns_ and column not in config.keep)]
    made: dict[tuple[object, ...], Rules] = {}
    of_file: dict[int, Rules] = {}
    for name, one, (number, some) in zip(names, looks, files.items(), strict=True):
        if mapping is not None and one.seen:
            _check_columns(mapping, one)
        converter = find_converter(name, mapping)
        convert, many = converter.bind(how), converter.convert_many
        if (
            how.score_field
            and "score_field" in converter.options
            and (unknown := check_score_field(how.score_field, _first_rows(config, some, most)))
        ):
            raise unknown
        single = _single(convert, _first_rows(config, some, most))
        models: tuple[str, ...] = ()
        if "labels" in converter.options:
            if wrong := check_votes(name, mapping, how, convert, _first_rows(config, some, most)):
                raise wrong
            models = models_read(mapping, how, _first_rows(config, some, most))
        screen = screen_for(name, how, mapping, keep, models)
        answers = answer_columns(mapping)
        lists = list_columns(_first_rows(config, some, most), screen.reads, answers)
        if ONE_OF_THREE[0] in one.fields:  # sets of this shape have each turn of a conversation in such a list
            lists, answers = dict.fromkeys(one.fields, ""), frozenset[str]()
        _tell_lists(one.name, lists)
        _tell_several(one, answers)
        screen = replace(screen, lists=frozenset(lists), answers=answers)
        rules = Rules(name, config, convert, many, screen, keep, model, single, scratch)
        of_file[number] = made.setdefault((name, single, screen.reads, screen.lists), rules)
    return [of_file[piece.file.number] for piece in pieces]


def _tell_split_column(looks: list[Look]) -> None:
    """Say that a split in a column is not kept: only names of files and lists tell where a row belongs."""
    for one in looks:
        if has_published_split(map(split_of, one.split_column)):
            console.warn(
                f"{one.name}: the column `split` ({listed(list(one.split_column))}) is not used; to keep that split, "
                "write its rows to files of their own, such as train.jsonl and test.jsonl"
            )


def _tell_lists(name: str, lists: dict[str, str]) -> None:
    """Say which columns hold lists of one text that are written as text."""
    if written := [f"`{column}`" for column, text in lists.items() if text]:
        console.info(
            f"{name}: {listed(written)} hold lists of one text each, written as text: the text in them is read"
        )


def _tell_several(one: Look, answers: frozenset[str]) -> None:
    """Warn of answers that are lists of several texts in all first rows: likely a way of writing, not the answer."""
    texts = {name: [row[name] for row in one.examples if isinstance(row.get(name), str)] for name in answers}
    for name in sorted(name for name, held in texts.items() if len(held) > 1 and all(map(is_list_of_texts, held))):
        console.warn(
            f"{one.name}: `{name}` holds lists of several texts, written as text: they are learned with their brackets"
        )


def screen_for(
    name: str, how: ConvertOptions, mapping: dict[str, str] | None, keep: list[str], models: tuple[str, ...] = ()
) -> Screen:
    """Return what looks at each row before the converter of this name does; a vote refers to `models`."""
    sides = (mapping["chosen"], mapping["rejected"]) if mapping and "chosen" in mapping else None
    converter = find_converter(name, mapping)
    if mapping is None and converter.names_better_answer:
        sides = SIDES
    return Screen((*converter.columns_read(how), *models), tuple(keep), how, sides)


def by_file(pieces: Iterable[Piece]) -> dict[int, list[Piece]]:
    """Return the pieces of each file, by its number."""
    files: dict[int, list[Piece]] = {}
    for piece in pieces:
        files.setdefault(piece.file.number, []).append(piece)
    return files


def choice_of(config: PrepareConfig) -> ConvertOptions:
    labels = parse_labels(config.labels) if config.labels else None
    return ConvertOptions(config.pairs, config.min_margin, config.score_field, labels)


def pinned_model(config: PrepareConfig) -> Model | None:
    """Pin `--model` and see that its tokenizer loads, before any row is read."""
    if config.model is None:
        return None
    model = find_model(config.model)
    if config.chat_template_kwargs is not None:
        model = replace(model, template_kwargs=json.dumps(config.chat_template_kwargs, sort_keys=True))
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
        raise ConfigError("`--format columns` and `--map` belong together", hint=f"--format columns {mapped.HINT}")


def _check_columns(mapping: dict[str, str], one: Look) -> None:
    """Raise DataError when no row has a column of `--map`, with the names that were meant where some come near."""
    missing = [column for column in mapping.values() if column not in one.fields]
    if not missing:
        return
    hint = corrected(mapping, missing, one.examples, one.fields)
    raise DataError(f"{one.name}: no row has a column `{missing[0]}`; the rows have {one.columns}", hint=hint)


def _tell_unread(
    config: PrepareConfig, names: Sequence[str], looks: Sequence[Look], mapping: dict[str, str] | None
) -> None:
    """Warn of options that were given and that no converter reads."""
    how = choice_of(config)
    options = {option for name in names for option in find_converter(name, mapping).options}
    scores = "min_margin" in options or any(
        screen_for(name, how, mapping, []).compared_columns(tuple(one.fields))
        for name, one in zip(names, looks, strict=True)
    )
    read = {
        "pairs": "pairs" in options,
        "score_field": "score_field" in options,
        "min_margin": scores,
        "on_tie": scores,
    }
    for option, is_read in read.items():
        if not is_read and getattr(config, option) != type(config).model_fields[option].default:
            flag = "--" + option.replace("_", "-")
            console.warn(f"`{flag}` is not used: nothing that it is about is read by {listed(sorted({*names}))}")


def _check_keep(config: PrepareConfig, pieces: list[Piece], columns_: dict[str, None]) -> None:
    """Raise DataError when no row of any file has a column of `--keep`, also none behind those that were looked at."""
    missing = {name for name in config.keep if name not in columns_}
    for row in (row for piece in pieces if missing for row in PieceReader(piece, max_line_bytes=config.max_line_bytes)):
        missing -= (row.value or {}).keys()
        if not missing:
            return
    for name in config.keep:
        if name in missing:
            near = near_name(name, columns_) or next(iter(difflib.get_close_matches(name, columns_, n=1)), None)
            have = ", ".join(f"`{column}`" for column in list(columns_)[:MOST_FIELDS])
            hint = f"--keep {shlex.quote(near)}" if near else "leave it out, or give the name as the rows have it"
            raise DataError(f"`--keep {name}`: no row has a column `{name}`; the rows have {have}", hint=hint)


def _single(convert: Convert, first: Iterable[Row]) -> bool:
    """Tell whether the first row that converts has one answer."""
    for value in first:
        try:
            return isinstance(convert(value), ScoredAnswer)
        except Rejection:
            continue
    return False


def _first_rows(config: PrepareConfig, pieces: list[Piece], most: int) -> Iterator[Row]:
    """Give the first rows of every piece of a file, `most` of them in all where there are few pieces."""
    for piece in pieces:
        values = (row.value for row in PieceReader(piece, max_line_bytes=config.max_line_bytes))
        some = islice((value for value in values if value is not None), max(most // len(pieces), LEAST_OF_A_PIECE))
        yield from map(opened_row, some)
