"""Make the rules that every task follows from the options, the descriptions and the first rows of each file."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from hubdpo import console
from hubdpo.artefacts.formats.messages import IDS, SCORES
from hubdpo.config import PrepareConfig
from hubdpo.config.base import flag_of
from hubdpo.config.chat_template import NAMES, source_of
from hubdpo.config.description import SourceConfig
from hubdpo.data.clean.screen import SIDES, Screen, list_columns
from hubdpo.data.converters import ANSWERS, Convert, Converter, ConvertMany, ConvertOptions
from hubdpo.data.converters.cells import is_list_of_texts, is_object_with_text
from hubdpo.data.converters.places import Place
from hubdpo.data.converters.vote_columns import ONE_OF_THREE
from hubdpo.data.detection.check_options import check_numbers, check_score_field, check_votes, models_read
from hubdpo.data.detection.check_places import check_places, check_roles
from hubdpo.data.detection.detect import MOST_FIELDS, Look, first_converted
from hubdpo.data.detection.names import near_name
from hubdpo.data.pairs.example import ScoredAnswer
from hubdpo.data.prepare.describe import report_detected
from hubdpo.data.prepare.described import DescribedSource, in_item
from hubdpo.data.prepare.looks import LookedAt, converters_of
from hubdpo.data.raw.pieces import Piece, PieceReader
from hubdpo.data.raw.split_names import SplitColumn, has_published_split, split_of
from hubdpo.data.tokens.tokenizer import Model, encoder_of, find_model
from hubdpo.errors import ConfigError, DataError

READ_BY_TRL = {"messages", "completion", "label", "image", "images", "prompt", "chosen", "rejected", "tools"}
NEEDS = {
    "labels": "vote or label", "pairs": "list of answers", "score_field": "list of scored answers",
    "min_margin": "score", "keep_scores": "score", "on_tie": "score or vote",
}  # fmt: skip
"""What the rows must have for an option to matter."""
MEANINGS = dict(zip(IDS, (
    "hash of the prompt: rows with the same prompt have the same", "hash of the answer `chosen`, in either column",
    "hash of the answer `rejected`, in either column",
), strict=True))  # fmt: skip
"""What the ids are that rows get where prompts may have several answers."""
RENAME = "rename the column in the source, or leave "
SOURCE = "source"
"""The column with the names of sources."""


@dataclass(frozen=True)
class Rules:
    """How a task treats the rows of a piece: the same for all pieces of a file."""

    converter: str
    config: PrepareConfig
    source: SourceConfig
    how: ConvertOptions
    convert: Convert
    convert_plain: Convert
    """The same for rows without tools."""
    convert_many: ConvertMany | None
    """Converts many plain rows at once, if the converter can."""
    screen: Screen
    keep: list[str]
    model: Model | None
    single: bool
    """Whether a row has one answer; `pair_single_answers` then makes the pairs."""
    labelled: bool
    """Whether single answers are good or bad, rather than scored."""
    scratch: str
    """Folder for the files that tasks write."""
    ids: bool = False
    """Whether the rows of the run have ids, because some prompts may have several answers."""
    split_column: SplitColumn | None = None
    """Column that may name the split in which a row was published."""
    named: bool = False
    """Whether the rows of the run have the name of their source."""

    def columns(self) -> dict[str, str]:
        """Return the columns of text that the rows of the run have, in order, with their meaning."""
        columns = {**(MEANINGS if self.ids else {}), **dict.fromkeys(self.keep, "copied from the source")}
        if self.config.keep_scores:
            columns |= dict.fromkeys(SCORES, "score of the answer in the source")
        if self.named:
            columns[SOURCE] = "name of the source that the pair is from"
        return columns


def make_rules(
    config: PrepareConfig,
    files: Sequence[LookedAt],
    pieces: list[Piece],
    model: Model | None,
    scratch: str,
    *,
    attribution: Sequence[str] = (),
) -> list[Rules]:
    """Return the rules of each piece, with a converter for each file: the one given or described, or the one detected.

    `attribution` are the columns that the licence of the source asks to keep. Raise ConfigError or DataError.
    """
    if clash := sorted(READ_BY_TRL & set(config.keep)):
        raise ConfigError(
            f"`--keep {clash[0]}` would change how trainers read the rows", hint="rename the column in the source"
        )
    names = converters_of(config, files)
    if not config.explain:
        report_detected(files, names)
    converters = [file.described.converter(name) for file, name in zip(files, names, strict=True)]
    for file in files:
        _warn_of_split_column(file, config)
    _warn_of_unused_options(config, files, converters)
    columns = {column: None for file in files for column in file.seen.fields}
    _check_columns(config, pieces, columns)
    keep = [*config.keep, *(column for column in attribution if column in columns and column not in config.keep)]
    named = any(file.described.source.name is not None for file in files)
    ids = any("pairs" in converter.options for converter in converters)
    written = (
        (SCORES if config.keep_scores else (), "`--keep-scores`", "leave one of them out"),
        ((SOURCE,) if named else (), "the sources have names, so hubdpo", RENAME + "the names of the sources out"),
        (MEANINGS if ids else (), "prompts may have several answers here, so hubdpo", RENAME + "it out"),
    )
    for columns_written, by, hint in written:
        if clash := [name for name in keep if name in columns_written]:
            raise ConfigError(f"`--keep {clash[0]}`: {by} writes a column of this name", hint=hint)
    keep += SCORES if config.keep_scores else ()
    by_file = {}
    for file, converter in zip(files, converters, strict=True):
        source, how = file.described.source, file.described.how
        with in_item(config, file.described):
            screen = _screen_of(file, converter, keep)
        split_column = SplitColumn.of(config.split if source.split is None else source.split)
        if split_column is not None and split_column.asked:
            screen = screen.reading(split_column.place, tuple(file.seen.fields))
        convert = converter.bind(how)
        single = isinstance(first_converted(convert, file.rows), ScoredAnswer)
        by_file[file.pieces[0].file.number] = Rules(
            converter=converter.name, config=config, source=source, how=how, convert=convert,
            convert_plain=converter.bind_plain(how), convert_many=converter.bind_many(), screen=screen, keep=keep,
            model=model, single=single, labelled="labels" in converter.options, scratch=scratch, ids=ids,
            split_column=split_column, named=named,
        )  # fmt: skip
    return [by_file[piece.file.number] for piece in pieces]


def _warn_of_split_column(file: LookedAt, config: PrepareConfig) -> None:
    seen = file.seen
    if config.split is not None or config.test_size is not None:
        return
    if has_published_split(map(split_of, seen.split_column)) and all(piece.split for piece in file.pieces):
        console.warn(
            f"{seen.name}: the column `split` ({console.listed(seen.split_column)}) is not used, for the name of "
            "the file tells the split; `--split split` takes it from the column"
        )


def _screen_of(file: LookedAt, converter: Converter, keep: list[str]) -> Screen:
    """Check the first rows of a file against the options, and return the screen for all its rows."""
    seen, rows, columns, how = file.seen, file.rows, file.described.columns, file.described.how
    if columns is not None and rows:
        check_places(file.described.source, file.described.mapping, seen)
        if columns.speech is not None and (roles := file.described.source.roles):
            check_roles(roles, columns.speech, seen, rows)
    if how.score_field and "score_field" in converter.options:
        check_score_field(how.score_field, rows)
    models: tuple[str, ...] = ()
    if columns is not None and columns.base is not None:
        check_numbers(columns, seen.name, rows)
    if "labels" in converter.options:
        check_votes(converter.name, columns, how, converter.bind(how), rows)
        models = models_read(columns, how, rows)
    screen = screen_for(converter, file.described, keep, models)
    answers = frozenset(converter.answers) if columns is not None else ANSWERS
    lists = list_columns(rows, screen.reads, answers)
    if ONE_OF_THREE[0] in seen.fields:  # sets of this shape have each turn of a conversation in such a list
        lists, answers = dict.fromkeys(seen.fields, ""), frozenset[str]()
    if written := [f"`{column}`" for column, text in lists.items() if text]:
        names = console.listed(written)
        console.info(f"{seen.name}: {names} hold lists of one text each, written as text: the text in them is read")
    _warn_of_notation(seen, answers)
    return replace(screen, lists=frozenset(lists), answers=answers)


def _warn_of_notation(seen: Look, answers: frozenset[str]) -> None:
    """Warn if an answer is a list of texts, or an object with one, in all first rows: likely a notation."""
    texts = {name: [row[name] for row in seen.examples if isinstance(row.get(name), str)] for name in answers}
    for name, values in sorted(texts.items()):
        if len(values) > 1 and all(map(is_list_of_texts, values)):
            lists = f"{seen.name}: `{name}` holds lists of several texts, written as text"
            console.warn(f"{lists}: they are learned with their brackets")
        if len(values) > 1 and all(map(is_object_with_text, values)):
            console.warn(f"{seen.name}: `{name}` holds objects with a text: they are learned with their braces")
            console.hint(f"to take the text alone, name its place in the description: `{name}.text` or the like")


def screen_for(
    converter: Converter, described: DescribedSource, keep: list[str], models: tuple[str, ...] = ()
) -> Screen:
    """Return the screen for the rows of a converter. `models` are the columns that votes refer to."""
    sides = None
    if described.columns is not None:
        sides = described.columns.better_and_worse
    elif converter.names_better_answer:
        sides = SIDES
    reads = (*converter.columns_read(described.how), *models)
    return Screen(reads, tuple(keep), described.how, sides)


def pinned_model(config: PrepareConfig) -> Model | None:
    """Pin `--model` and load its tokenizer, before any row is read."""
    if config.model is None:
        return None
    model = find_model(config.model)
    if config.chat_template_kwargs is not None:
        model = replace(model, template_kwargs=json.dumps(config.chat_template_kwargs, sort_keys=True))
    if config.chat_template is not None:  # workers on other machines have no such file
        name = config.chat_template
        model = replace(model, template=name if name in NAMES else source_of(name))
    encoder = encoder_of(model)
    for remark in encoder.remarks():
        console.warn(remark)
    console.info(f"tokens are counted by {'tiktoken, with the ids of ' if encoder.fast else ''}{config.model}")
    return model


def _warn_of_unused_options(config: PrepareConfig, files: Sequence[LookedAt], converters: Sequence[Converter]) -> None:
    options: set[str] = {option for converter in converters for option in converter.options}
    beside = any(
        screen_for(converter, file.described, []).compared_columns(tuple(file.seen.fields))
        for file, converter in zip(files, converters, strict=True)
    )
    if "min_margin" in options or beside:
        options |= {"min_margin", "on_tie"}
    if beside or any("min_margin" in some.options and "labels" not in some.options for some in converters):
        options.add("keep_scores")
    for option, needs in NEEDS.items():
        if option not in options and getattr(config, option) != type(config).model_fields[option].default:
            flag = flag_of(option)
            names = console.listed(sorted({converter.name for converter in converters}))
            console.warn(f"`{flag}` is not used: no {needs} is read by {names}")


def _check_columns(config: PrepareConfig, pieces: list[Piece], columns: dict[str, None]) -> None:
    """Raise DataError if no row has a column of `--keep` or `--split`; if the first rows lack it, all are read."""
    split = SplitColumn.of(config.split)
    of_split = [Place.of(split.place).column] if split is not None and split.asked else []
    missing = {name for name in (*config.keep, *of_split) if name not in columns}
    for row in (row for piece in pieces if missing for row in PieceReader(piece, max_line_bytes=config.max_line_bytes)):
        missing -= (row.value or {}).keys()
        if not missing:
            return
    have = console.listed((f"`{column}`" for column in columns), MOST_FIELDS)
    for option, names in (("--keep", config.keep), ("--split", of_split)):
        if absent := [name for name in names if name in missing]:
            right = dict.fromkeys(name if name in columns else _near_column(name, columns) for name in names)
            hint = " ".join(f"{option} {shlex.quote(name)}" for name in right if name)
            problem = f"`{option} {absent[0]}`: no row has a column `{absent[0]}`; the rows have {have}"
            raise DataError(problem, hint=hint or f"leave `{option}` out")


def _near_column(name: str, columns: Collection[str]) -> str | None:
    return near_name(name, columns) or next(iter(difflib.get_close_matches(name, columns, n=1)), None)
