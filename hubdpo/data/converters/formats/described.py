"""`columns`: rows whose columns a person described, by options, by an item of `sources`, or by `--map`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from hubdpo.data.converters.columns import Columns
from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.formats.conversations import conversation_of
from hubdpo.data.converters.formats.preference import pair_columns
from hubdpo.data.converters.formats.scored import score_of, scored_pairs
from hubdpo.data.converters.formats.unpaired import is_good
from hubdpo.data.converters.prompts import read_prompt, tools_of
from hubdpo.data.converters.vote_columns import check_margin, has_flags, mapped_vote, winner_first
from hubdpo.data.converters.vote_words import Vote, is_whole_number, normalize, parse_vote
from hubdpo.data.pairs.example import Converted, PreferenceExample, Rejection, Row, ScoredAnswer, number_of
from hubdpo.data.pairs.message_column import PairColumns

NAME = "columns"
Pairs = Iterator[PreferenceExample | Rejection]


def convert_pair(row: Row, columns: Columns) -> PreferenceExample:
    """Convert a row with a better and a worse answer."""
    chosen, rejected = (columns.value(place, row) for place in (columns.chosen, columns.rejected) if place)
    return columns.pair(row, columns.read_prompt(row), chosen, rejected)


def convert_graded(row: Row, columns: Columns, how: ConvertOptions) -> PreferenceExample:
    """Convert a row with a better and a worse answer, and a score or rank of each, or a margin."""
    if columns.margin:
        scores = (number_of(columns.margin.value(row)), 0.0)
    else:
        better, worse = (score_of(place.value(row)) for place in columns.scores or columns.ranks)
        if better is None or worse is None:
            raise Rejection("unscored")
        scores = (better, worse) if columns.scores else (-better, -worse)
    margin = scores[0] - scores[1]
    if reason := "inverted" if margin < 0 else how.too_close(margin):
        raise Rejection(reason)
    pair = convert_pair(row, columns)
    pair.scores = scores
    return pair


def convert_scored(row: Row, columns: Columns, how: ConvertOptions) -> Pairs:
    """Pair answers by their scores or ranks."""
    answers, points = columns.several(columns.answers, row), columns.read_points(row)
    if len(answers) < 2:
        raise Rejection("single_answer" if answers else "missing_field")
    if len(points) != len(answers):
        raise Rejection("lists_differ")
    prompt = columns.read_prompt(row)
    if prompt is None:
        raise Rejection("missing_field")
    return scored_pairs(prompt, answers, points, how)


def convert_voted(row: Row, columns: Columns, how: ConvertOptions) -> Converted:
    """Pair two answers by a vote, or the best of several with each other one."""
    answers, votes = columns.several(columns.answers, row), columns.votes(row)
    if not votes:
        raise Rejection("missing_field")
    prompt = columns.read_prompt(row)
    if columns.base is None:
        if len(answers) != 2:
            raise Rejection("lists_differ")
        vote = check_margin(_vote(row, columns, votes, how), how)
        return winner_first(vote, columns.pair(row, prompt, *answers))
    if len(answers) < 2:
        raise Rejection("single_answer")
    best = _best(votes, columns, len(answers))
    pairs = [columns.pair(row, prompt, answers[best], other) for at, other in enumerate(answers) if at != best]
    return pairs if len(pairs) > 1 else pairs[0]


def _vote(row: Row, columns: Columns, votes: list[object], how: ConvertOptions) -> Vote:
    name = columns.vote[0].path
    if has_flags(row, name):
        return mapped_vote(row, name, columns.sides, how.labels)
    said = [parse_vote(vote, columns.sides, how.labels, row) for vote in votes]
    return said[0] if len(said) == 1 else float(sum((vote > 0) - (vote < 0) for vote in said))


def _best(votes: list[object], columns: Columns, count: int) -> int:
    """Return the index of the answer that most votes name by its number."""
    texts = [text for text in map(normalize, votes) if text not in columns.ties]
    numbers = [int(text) - (columns.base or 0) for text in texts if is_whole_number(text)]
    if len(numbers) < len(texts) or not all(0 <= number < count for number in numbers):
        raise Rejection("unknown_label")
    (best, most), (_, second) = [*Counter(numbers).most_common(2), (0, 0), (0, 0)][:2]
    if most == second:
        raise Rejection("tie")
    return best


def convert_single(row: Row, columns: Columns, how: ConvertOptions) -> ScoredAnswer:
    """Convert a row with one answer, which is paired with others to the same prompt."""
    if columns.label:
        if (label := columns.label.value(row)) is None:
            raise Rejection("missing_field")
        score = float(is_good(label, how.labels, {}))
    else:
        place = (*columns.scores, *columns.ranks)[0]
        score = number_of(place.value(row)) * (1 if columns.scores else -1)
    assert columns.answer is not None
    answer, prompt = columns.value(columns.answer, row), columns.read_prompt(row)
    if prompt is None:
        turns = conversation_of(answer)
        if not turns or turns[-1]["role"] != "assistant":
            raise Rejection("does_not_end_with_assistant")
        prompt, answer = read_prompt(turns[:-1], system=columns.system_of(row)), turns[-1:]
    return prompt.scored(answer, score)


def convert_many(rows: list[Row], columns: Columns) -> PairColumns | None:
    """Convert rows with one plain text in each place."""
    if columns.chosen is None or columns.rejected is None:
        return None
    places = (columns.prompt[0], columns.chosen, columns.rejected)
    values = ([place.value(row) for row in rows] for place in places)
    systems = [columns.system_of(row) for row in rows] if columns.system else None
    return pair_columns(*values, systems=systems)


def detect(row: Row, columns: Columns) -> bool:
    return all(place.value(row) is not None for place in columns.places)


def converter(columns: Columns) -> Converter:
    """Return the converter of described columns."""
    convert: Callable[..., Converted]
    if columns.chosen:
        convert = convert_graded if columns.options else convert_pair
    else:
        convert = convert_single if columns.answer else convert_voted if columns.vote else convert_scored
    plain = columns.chosen and not columns.options and len(columns.prompt) == 1 and not columns.history
    return Converter(
        NAME,
        "the columns that are described",
        partial(detect, columns=columns),
        partial(convert, columns=columns),
        reads=columns.reads,
        answers=columns.answer_columns,
        convert_many=partial(convert_many, columns=columns) if plain and columns.speech is None else None,
        options=columns.options,
        tools=partial(tools_of, place=columns.tools) if columns.tools else None,
    )
