"""Refuse votes of unknown meaning and absent scores before any row is written, with the options to paste."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hubdpo import console
from hubdpo.config.description import OPEN
from hubdpo.config.map_option import WITH_VOTE
from hubdpo.config.name_values import write_pairs
from hubdpo.data.converters import Convert, ConvertOptions
from hubdpo.data.converters.columns import Columns
from hubdpo.data.converters.formats import unpaired, voted
from hubdpo.data.converters.formats.scored import score_of, scored_members
from hubdpo.data.converters.places import as_list
from hubdpo.data.converters.vote_columns import ANNOTATORS, ONE_OF_THREE, STRENGTHS, has_flags, vote_column
from hubdpo.data.converters.vote_words import Sides, is_whole_number, model_columns, names_a_side, normalize
from hubdpo.data.detection.label_guess import LONGEST, MOST_VALUES, Guess, quoted
from hubdpo.data.detection.names import near_name
from hubdpo.data.pairs.example import Rejection, Row, is_number, number_of
from hubdpo.errors import ConfigError, DataError

MOST_SCORES = 12
MOST_ROWS = 64
"""Rows in which a column that names a side is searched for."""
YAML_WORDS = {
    "true": {word for yes in ("yes", "on") for word in (yes, yes.title(), yes.upper())},
    "false": {word for no in ("no", "off") for word in (no, no.title(), no.upper())},
}
"""Words that YAML 1.1 reads as true and false."""
UNDERSTOOD = frozenset(("tie", "below_margin"))
"""Rejection reasons of votes whose meaning is known."""


@dataclass
class Votes:
    """The values of a vote column, or of a label column if `sides` is None.

    If the column is one of three `flags`, a value is all three: `0/0/1`.
    """

    column: str
    sides: Sides | None
    flags: bool = False
    known: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def values(self) -> list[str]:
        return sorted(self.known + self.unknown)

    @property
    def is_of_another_schema(self) -> bool:
        """Whether some numbers are not in the published schema, so that all of them may mean something else."""
        return any(map(is_number, self.known)) and any(map(is_number, self.unknown))

    @property
    def is_strength(self) -> bool:
        """Whether a column whose published scale has two signs holds only one, so that it names no side."""
        if self.column not in STRENGTHS or not all(map(is_number, self.values)):
            return False
        numbers = [number_of(value) for value in self.values]
        return min(numbers, default=0) >= 0 and max(numbers, default=0) > 0

    @property
    def listed(self) -> str:
        return f"its values are {console.listed((f'`{value[:LONGEST]}`' for value in self.values), MOST_VALUES)}"

    @property
    def hint(self) -> str:
        if self.flags:
            return f"one of {quoted(ONE_OF_THREE)} must be 1, and the others 0"
        guess = Guess(self.values, self.column, self.sides)
        return f"{guess.question} {guess.labels}".lstrip()


def check_votes(
    converter: str, described: Columns | None, how: ConvertOptions, convert: Convert, rows: Iterable[Row]
) -> None:
    """Raise DataError, or ConfigError for `--labels`, if the votes or labels of a file are not understood.

    They are not understood if no row's is; if a number is outside the published schema by which the others would be
    read; or if a strength is never negative. In the last two cases the schema is another one, and pairs could be the
    wrong way round. A warning names single values that are not understood.
    """
    votes: dict[str, Votes] = {}
    some: list[Row] = []
    seen = 0
    one_answer = converter == "unpaired" or (described is not None and described.label is not None)
    for row in rows:
        seen += 1
        some += [row] if len(some) < MOST_ROWS else []
        try:
            convert(row)
            known = True
        except Rejection as rejection:
            known = rejection.reason in UNDERSTOOD
            if not known and rejection.reason != "unknown_label":
                continue
        values = _values(converter, described, row)
        for name, said in values:
            flags = has_flags(row, name)
            sides = None if one_answer else _sides(described, row)
            column = votes.setdefault(values[0][0], Votes(values[0][0], sides, flags))
            value = "/".join(normalize(row[flag]) for flag in ONE_OF_THREE) if flags else normalize(said)
            (column.known if known else column.unknown)[value] += 1
    if votes:
        _check_meaning([*votes.values()], how.labels, some, one_answer=one_answer)
        _report_unknown([*votes.values()], how.labels or {}, seen)


def _check_meaning(votes: list[Votes], labels: dict[str, str] | None, rows: Sequence[Row], *, one_answer: bool) -> None:
    most = max(votes, key=lambda column: column.known.total() + column.unknown.total())
    if labels is not None:
        if most.flags:
            flags = f"the flags {quoted(ONE_OF_THREE)}"
            raise ConfigError(f"`--labels` does not apply to {flags}", hint="leave `--labels` out")
        if one_answer is not ("good" in labels.values()):
            names = "a good and a bad answer" if one_answer else "the first and the second answer"
            row = "a row has one answer" if one_answer else "a row has two answers"
            message = f"`--labels` must say which values of `{most.column}` mean {names}: {row}"
            raise ConfigError(message, hint=most.hint)
        if not any(labels.keys() & column.known.keys() for column in votes):
            hint = _quotes_hint(labels, most.values) or most.hint
            raise DataError(f"`--labels` names no value of `{most.column}`: {most.listed}", hint=hint)
        return
    for column in votes:
        if column.is_strength:
            message = f"`{column.column}` is never negative, so it does not say which answer is better"
            raise DataError(f"{message}: {column.listed}", hint=_strength_hint(column, rows))
    if not any(column.known for column in votes):
        meaning = "whether a label of `{}` means a good answer" if one_answer else "which answer a vote of `{}` prefers"
        raise DataError(f"nothing says {meaning.format(most.column)}: {most.listed}", hint=most.hint)
    for column in votes:
        if column.is_of_another_schema or (one_answer and {"0", "-1"} <= column.known.keys()):
            message = f"the votes of `{column.column}` do not fit the published meaning of this column"
            raise DataError(f"{message}: {column.listed}", hint=column.hint)


def _quotes_hint(labels: dict[str, str], values: Sequence[str]) -> str | None:
    """Return a hint if `--labels` has true and false where the values are the words that YAML reads as those."""
    words = {meaning: next(iter(YAML_WORDS.get(value, set()) & {*values}), None) for value, meaning in labels.items()}
    if None in words.values():
        return None
    quotes = ", ".join(f'{meaning}: "{word}"' for meaning, word in words.items())
    return f"in a config file put the words in quotes, as YAML reads a bare `yes` as true: labels: {{{quotes}}}"


def _report_unknown(votes: list[Votes], labels: dict[str, str], seen: int) -> None:
    for column in votes:
        if not column.unknown:
            continue
        counts = (f"`{value[:LONGEST]}` ({count:,})" for value, count in column.unknown.most_common())
        unknown = console.listed(counts, MOST_VALUES)
        console.warn(
            f"`{column.column}` has values of unknown meaning: {unknown}; their rows are dropped "
            f"(counted in the first {seen:,} rows)"
        )
        if labels:
            known = [(meaning, value) for value, meaning in labels.items()]
            added = [(OPEN, value) for value in list(column.unknown)[:MOST_VALUES]]
            console.hint(f"say what they mean: --labels {shlex.quote(write_pairs([*known, *added]))}")
        else:
            console.hint(column.hint)
    had = {value for column in votes for value in column.known}
    if absent := [value for value in labels if value not in had]:
        console.warn(f"`--labels` names {quoted(absent[:MOST_VALUES])}, which none of the first {seen:,} rows has")


def _strength_hint(votes: Votes, rows: Sequence[Row]) -> str:
    """Return `--map` with the column that names a side in all rows; the vote stays open if there is none."""
    if (sides := votes.sides) is None or not rows:
        return votes.hint
    others = [name for name in rows[0] if name not in (*sides, votes.column)]
    vote = next((name for name in others if all(names_a_side(row, name, sides) for row in rows)), OPEN)
    prompt = next((name for name in voted.PROMPTS if name in rows[0]), OPEN)
    columns = zip(WITH_VOTE, (prompt, *sides, vote), strict=True)
    hint = f"name the column that says which is better: --map {shlex.quote(write_pairs(columns))}"
    return f"{hint}; or, if its values do, {Guess([], sides=sides).labels}" if vote == OPEN else hint


def models_read(described: Columns | None, how: ConvertOptions, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns with the models of the two answers if votes name the model that won."""
    for row in rows if how.labels is None else ():
        column = vote_column(row) if described is None else described.vote[0].path if described.vote else None
        if (sides := _sides(described, row)) is None or column is None or row.get(column) is None:
            continue
        names = model_columns(tuple(row), sides)
        without = {name: value for name, value in row.items() if name not in names}
        if names and names_a_side(row, column, sides) and not names_a_side(without, column, sides):
            return names
    return ()


def _values(converter: str, described: Columns | None, row: Row) -> list[tuple[str, object]]:
    if described is not None:
        places = [*described.vote, *([described.label] if described.label else [])] if described.base is None else []
        values = ((place.path, value) for place in places for value in as_list(place.value(row)))
        return [(path, value) for path, value in values if value is not None]
    name = unpaired.label_column(row) if converter == "unpaired" else vote_column(row)
    names: Sequence[str] = ANNOTATORS if name == ANNOTATORS[0] else [name] if name else []
    return [(name, row[name]) for name in names if row.get(name) is not None]


def _sides(described: Columns | None, row: Row) -> Sides | None:
    return described.sides if described is not None else voted.answer_columns(row)


def check_score_field(field: str, rows: Sequence[Row]) -> None:
    """Raise DataError if no answer, and no row, has this member."""
    scores: dict[str, None] = {}
    for row in rows:
        for item in scored_members(row):
            if field in item:
                return
            scores.update(dict.fromkeys(name for name, value in item.items() if _is_score(value)))
    if not rows:
        return
    names = f"; their scores are {console.listed((f'`{name}`' for name in scores), MOST_SCORES)}" if scores else ""
    near = near_name(field, scores) or (next(iter(scores)) if len(scores) == 1 else None)
    raise DataError(
        f"no answer has a member `{field}`{names}",
        hint=f"--score-field {shlex.quote(near or '...')}" if scores else "leave `--score-field` out",
    )


def check_numbers(described: Columns, name: str, rows: Iterable[Row]) -> None:
    """Raise DataError if a vote of the first rows is no number of an answer: every pair could be another one."""
    base = described.base or 0
    for row in rows:
        try:
            count = len(described.several(described.answers, row))
        except Rejection:
            continue
        for vote in map(normalize, described.votes(row)):
            if vote in described.ties or not is_whole_number(vote) or base <= int(vote) < base + count:
                continue
            other = base - 1 if int(vote) < base else base + 1
            raise DataError(
                f"{name}: a vote of `{described.vote[0].path}` is {vote}, and {count} answers counted from {base} have "
                "no such number",
                hint=f"--first {other}, if the first answer is number {other}; or --tie {vote}, if it names no answer",
            )


def _is_score(value: object) -> bool:
    try:
        scores = [score_of(item) for item in as_list(value)]
    except Rejection:
        return False
    return any(score is not None for score in scores)
