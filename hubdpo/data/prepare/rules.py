"""Make the rules that every task follows from the options and the first rows of each file."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from hubdpo import console
from hubdpo.artefacts.formats.messages import IDS
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.screen import SIDES, Screen, list_columns, opened_row
from hubdpo.data.converters import NAMES, Convert, ConvertMany, ConvertOptions, answer_columns, find_converter
from hubdpo.data.converters.cells import is_list_of_texts
from hubdpo.data.converters.formats import mapped
from hubdpo.data.converters.vote_columns import ONE_OF_THREE
from hubdpo.data.converters.vote_words import parse_labels
from hubdpo.data.detection.check_options import check_score_field, check_votes, models_read
from hubdpo.data.detection.detect import MOST_FIELDS, MOST_ROWS, Look, check_format, detect_all, first_converted, look
from hubdpo.data.detection.suggest import corrected, near_name
from hubdpo.data.pairs.example import Row, ScoredAnswer
from hubdpo.data.prepare.dropped import unreadable
from hubdpo.data.raw.pieces import Piece, PieceReader
from hubdpo.data.raw.split_names import SplitColumn, has_published_split, split_of
from hubdpo.data.tokens.tokenizer import Model, encoder_of, find_model
from hubdpo.errors import ConfigError, DataError

LEAST_ROWS = 64
"""Fewest rows to look at in each file, however many files there are; a large file gives some of each piece."""
LEAST_OF_A_PIECE = 8
READ_BY_TRL = {"messages", "completion", "label", "image", "images", "prompt", "chosen", "rejected", "tools"}
NEEDS = {
    "labels": "vote or label", "pairs": "list of answers", "score_field": "list of scored answers",
    "min_margin": "score", "on_tie": "score or vote",
}  # fmt: skip
"""What the rows must have for an option to matter."""
MEANINGS = dict(zip(IDS, (
    "hash of the prompt: rows with the same prompt have the same", "hash of the answer `chosen`, in either column",
    "hash of the answer `rejected`, in either column",
), strict=True))  # fmt: skip
"""What the ids are that rows get where prompts may have several answers."""


@dataclass(frozen=True)
class Rules:
    """How a task treats the rows of a piece: the same for all pieces of a file."""

    converter: str
    config: PrepareConfig
    convert: Convert
    convert_many: ConvertMany | None
    """Converts many plain rows at once, if the converter can."""
    screen: Screen
    """Checks raw rows before they are converted."""
    keep: list[str]
    """Columns to keep, as text."""
    model: Model | None
    """The model whose tokenizer counts."""
    single: bool
    """Whether a row has one answer; `pair_single_answers` then makes the pairs."""
    scratch: str
    """Folder for the files that tasks write."""
    ids: bool = False
    """Whether the rows of the run have ids, because some prompts may have several answers."""
    split_column: SplitColumn | None = None
    """Column that may name the split in which a row was published."""

    def columns(self) -> dict[str, str]:
        """Return the columns of text that the rows of the run have, in order, with their meaning."""
        return {**(MEANINGS if self.ids else {}), **dict.fromkeys(self.keep, "copied from the source")}


def make_rules(
    config: PrepareConfig, pieces: list[Piece], model: Model | None, scratch: str, *, attribution: Sequence[str] = ()
) -> list[Rules]:
    """Return the rules of each piece, with a converter for each file: the one given, or the one detected.

    `attribution` are the columns that the licence of the source asks to keep. Raise ConfigError or DataError.
    """
    _check_format(config)
    if clash := sorted(READ_BY_TRL & set(config.keep)):
        raise ConfigError(
            f"`--keep {clash[0]}` would change how trainers read the rows", hint="rename the column in the source"
        )
    # look at the first rows of every file
    files: dict[int, list[Piece]] = {}
    for piece in pieces:
        files.setdefault(piece.file.number, []).append(piece)
    most = max(MOST_ROWS // max(len(files), 1), LEAST_ROWS)
    looks = []
    for some in files.values():
        seen = look(_first_rows(config, some, most), some[0].file.name, some[0].file.argument)
        if not seen.seen and (problem := unreadable(some, config.max_line_bytes)):
            raise problem
        looks.append(seen)
    for seen, some in zip(looks, files.values(), strict=True) if config.split is None is config.test_size else ():
        if has_published_split(map(split_of, seen.split_column)) and all(piece.split for piece in some):
            console.warn(
                f"{seen.name}: the column `split` ({console.listed(seen.split_column)}) is not used, for the name of "
                "the file tells the split; `--split split` takes it from the column"
            )
    # choose a converter for each file
    mapping = mapped.parse_map(config.map) if config.map is not None else None
    how = convert_options(config)
    if mapping is not None:
        names = [mapped.NAME] * len(files)
    elif config.format is not None:
        check_format(config.format, find_converter(config.format).bind(how), looks)
        names = [config.format] * len(files)
    else:
        names = detect_all(looks)
    _warn_of_unused_options(config, how, names, looks, mapping)
    # choose the columns to keep
    columns = {column: None for seen in looks for column in seen.fields}
    _check_keep(config, pieces, columns)
    keep = [*config.keep, *(column for column in attribution if column in columns and column not in config.keep)]
    split_column = SplitColumn.of(config.split)
    ids = any(find_converter(name, mapping).pairs_up_answers for name in names)
    if ids and (clash := [name for name in keep if name in MEANINGS]):
        raise ConfigError(
            f"`--keep {clash[0]}`: prompts may have several answers here, so hubdpo writes a column of this name",
            hint="rename the column in the source, or leave it out",
        )
    by_file: dict[int, Rules] = {}
    for name, seen, (number, some) in zip(names, looks, files.items(), strict=True):
        rows = list(_first_rows(config, some, most))
        screen = _screen_of_file(name, seen, rows, how, mapping, keep)
        if split_column is not None and split_column.asked:
            screen = screen.reading(split_column.place, tuple(seen.fields))
        converter = find_converter(name, mapping)
        convert = converter.bind(how)
        single = isinstance(first_converted(convert, rows), ScoredAnswer)
        by_file[number] = Rules(
            name, config, convert, converter.bind_many(), screen, keep, model, single, scratch, ids, split_column
        )
    return [by_file[piece.file.number] for piece in pieces]


def _screen_of_file(
    name: str, seen: Look, rows: list[Row], how: ConvertOptions, mapping: dict[str, str] | None, keep: list[str]
) -> Screen:
    """Check the first rows of a file against the options, and return the screen for all its rows."""
    converter = find_converter(name, mapping)
    missing = [column for column in (mapping or {}).values() if column not in seen.fields]
    if mapping is not None and missing and seen.seen:
        raise DataError(
            f"{seen.name}: no row has a column `{missing[0]}`; the rows have {seen.columns}",
            hint=corrected(mapping, missing, seen.examples, seen.fields),
        )
    if how.score_field and "score_field" in converter.options:
        check_score_field(how.score_field, rows)
    models: tuple[str, ...] = ()
    if "labels" in converter.options:
        check_votes(name, mapping, how, converter.bind(how), rows)
        models = models_read(mapping, how, rows)
    screen = screen_for(name, how, mapping, keep, models)
    answers = answer_columns(mapping)
    lists = list_columns(rows, screen.reads, answers)
    if ONE_OF_THREE[0] in seen.fields:  # sets of this shape have each turn of a conversation in such a list
        lists, answers = dict.fromkeys(seen.fields, ""), frozenset[str]()
    if written := [f"`{column}`" for column, text in lists.items() if text]:
        columns = console.listed(written)
        console.info(f"{seen.name}: {columns} hold lists of one text each, written as text: the text in them is read")
    _warn_of_lists_of_texts(seen, answers)
    return replace(screen, lists=frozenset(lists), answers=answers)


def _warn_of_lists_of_texts(seen: Look, answers: frozenset[str]) -> None:
    """Warn if an answer is a list of several texts in all first rows: likely a notation, not the answer itself."""
    texts = {name: [row[name] for row in seen.examples if isinstance(row.get(name), str)] for name in answers}
    for name, values in sorted(texts.items()):
        if len(values) > 1 and all(map(is_list_of_texts, values)):
            lists = f"{seen.name}: `{name}` holds lists of several texts, written as text"
            console.warn(f"{lists}: they are learned with their brackets")


def screen_for(
    name: str, how: ConvertOptions, mapping: dict[str, str] | None, keep: list[str], models: tuple[str, ...] = ()
) -> Screen:
    """Return the screen for the converter of this name. `models` are the columns that votes refer to."""
    sides = (mapping["chosen"], mapping["rejected"]) if mapping and "chosen" in mapping else None
    converter = find_converter(name, mapping)
    if mapping is None and converter.names_better_answer:
        sides = SIDES
    return Screen((*converter.columns_read(how), *models), tuple(keep), how, sides)


def convert_options(config: PrepareConfig) -> ConvertOptions:
    """Return the options that converters heed."""
    labels = parse_labels(config.labels) if config.labels is not None else None
    return ConvertOptions(config.pairs, config.min_margin, config.score_field, labels)


def pinned_model(config: PrepareConfig) -> Model | None:
    """Pin `--model` and load its tokenizer, before any row is read."""
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


def _warn_of_unused_options(
    config: PrepareConfig,
    how: ConvertOptions,
    names: Sequence[str],
    looks: Sequence[Look],
    mapping: dict[str, str] | None,
) -> None:
    """Warn of options that no converter heeds."""
    options: set[str] = {option for name in names for option in find_converter(name, mapping).options}
    if "min_margin" in options or any(
        screen_for(name, how, mapping, []).compared_columns(tuple(seen.fields))
        for name, seen in zip(names, looks, strict=True)
    ):
        options |= {"min_margin", "on_tie"}
    for option, needs in NEEDS.items():
        if option not in options and getattr(config, option) != type(config).model_fields[option].default:
            flag = "--" + option.replace("_", "-")
            console.warn(f"`{flag}` is not used: no {needs} is read by {console.listed(sorted({*names}))}")


def _check_keep(config: PrepareConfig, pieces: list[Piece], columns: dict[str, None]) -> None:
    """Raise DataError if no row of any file has a column of `--keep`; if the first rows lack it, all are read."""
    missing = {name for name in config.keep if name not in columns}
    for row in (row for piece in pieces if missing for row in PieceReader(piece, max_line_bytes=config.max_line_bytes)):
        missing -= (row.value or {}).keys()
        if not missing:
            return
    for name in config.keep:
        if name in missing:
            near = near_name(name, columns) or next(iter(difflib.get_close_matches(name, columns, n=1)), None)
            have = console.listed((f"`{column}`" for column in columns), MOST_FIELDS)
            hint = f"--keep {shlex.quote(near)}" if near else "leave it out, or give the name as the rows have it"
            raise DataError(f"`--keep {name}`: no row has a column `{name}`; the rows have {have}", hint=hint)


def _first_rows(config: PrepareConfig, pieces: list[Piece], most: int) -> Iterator[Row]:
    """Yield the first rows of every piece of a file: `most` in all, and at least LEAST_OF_A_PIECE of each piece."""
    for piece in pieces:
        values = (row.value for row in PieceReader(piece, max_line_bytes=config.max_line_bytes))
        some = islice((value for value in values if value is not None), max(most // len(pieces), LEAST_OF_A_PIECE))
        yield from map(opened_row, some)
