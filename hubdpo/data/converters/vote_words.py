"""Read a vote from its words: a side, a tie, or what `--labels` says that a value means.

Values are compared in one spelling, because pandas writes 1.0 for a whole number in a column with gaps, and CSV makes
text of every value.
"""

from __future__ import annotations

import functools
import re
import shlex

from hubdpo.config.description import OPEN
from hubdpo.config.name_values import read_pairs, turned_round
from hubdpo.data.pairs.example import Rejection, Row
from hubdpo.data.pairs.messages import words_of
from hubdpo.errors import ConfigError

Vote = float
"""Above 0 the first answer won, below 0 the second, 0 is a tie. The size is the margin where the data has one."""
Sides = tuple[str, str]
"""The columns of the first and the second answer, or the words in which their names differ."""
TIES = frozenset(("tie", "ties", "tied", "bothbad", "equal", "draw", "neither", "none", "same"))
MARKS = (("a", "b"), ("0", "1"), ("1", "2"), ("first", "second"), ("left", "right"), ("j", "k"))
"""The words in which the names of two answer columns differ, the first answer's in front."""
FIRST, SECOND = frozenset(("left", "first", "model_a")), frozenset(("right", "second", "model_b"))
MODEL = frozenset(("model", "models"))
OF_MODELS = frozenset(("winner", "score", "scores", "rating", "ratings", "elo", "rank", "reward", "tokens", "length"))
"""Words of columns that say something about a model other than its name."""
LABELS_HINT = "--labels first=1,second=2,tie=0, or --labels good=1,bad=0"
LONGEST_WORD = 100
"""Characters of the longest answer that could be confused with the word of a vote."""
LONGEST_TIE = 30
"""Characters of the longest words for a tie; `Both answers are fine, but ...` is not a tie."""
SIDES = ("first", "second", "tie", "good", "bad")
MEANINGS = {"first": 1.0, "second": -1.0, "tie": 0.0}
_WHOLE = re.compile(r"([+-]?)(0|[1-9]\d{0,29})(?:\.0*)?")
"""Whole numbers of up to 30 digits; Python refuses to parse thousands. Longer ones are compared as written."""
_COMPARISON = re.compile(r"([^<>=~]+)(>{1,3}|<{1,3}|={1,2}|~=?)([^<>=~]+)")
_BRACKETS = re.compile(r"\[{1,2}([^\[\]]+)\]{1,2}")
_VERDICT = re.compile(r"\[\[([^\[\]]{1,40})\]\]")
"""How MT-Bench has judges end their reasoning, `[[C]]` for a tie (arXiv 2306.05685)."""
_NOUN = re.compile(
    r"(?:response|answer|output|completion|model|assistant|option|candidate|reply|text|summary)[\s_\-]*(?=\w$)"
)
_SUFFIX = re.compile(r"(?:^|[\W_])([a-z])$|(\d)$")


def parse_labels(text: str) -> dict[str, str]:
    """Parse `first=1,second=2,tie=0`, or `good=1,bad=0` for one answer a row, into {value: meaning}.

    A meaning may have several values. Raise ConfigError for anything else, also for a placeholder left in.
    """
    pairs = read_pairs(text)
    meanings = {normalize(value): name for name, value in pairs}
    if {OPEN, ""} & meanings.keys() or OPEN in meanings.values():
        raise ConfigError(f"`--labels` has a value that is not filled in: {text}", hint=LABELS_HINT)
    if turned := turned_round(pairs, SIDES):
        raise ConfigError(f"`--labels` names a side before its value: {text}", hint=f"--labels {shlex.quote(turned)}")
    if len(meanings) != len(pairs) or {*meanings.values()} - {"tie"} not in ({"first", "second"}, {"good", "bad"}):
        raise ConfigError(
            f"`--labels` must give first and second a value each, or good and bad, and no value twice: {text}",
            hint=LABELS_HINT,
        )
    return meanings


def normalize(value: object) -> str:
    """Return the one spelling of a value: `1` for 1, 1.0, `1.0`, ` 1 ` and `+1`; `true` for True and `TRUE`."""
    text = str(value).strip()
    if whole := _WHOLE.fullmatch(text):
        return str(int(whole[1] + whole[2]))
    return text.lower() if text.lower() in ("true", "false") else text


def is_whole_number(text: str) -> bool:
    """Return whether a normalized value is a whole number."""
    return _WHOLE.fullmatch(text) is not None


def parse_vote(value: object, sides: Sides, labels: dict[str, str] | None, row: Row | None = None) -> Vote:
    """Return the vote that a value says.

    A value says what `labels` gives it. Otherwise it may name a side in words, by the letter or number of its column,
    by the model that `row` gives for that side alone, or by repeating the answer. Words that `labels` does not list
    keep their meaning, unless `labels` contradicts one of them.

    Raise Rejection: `unknown_label`; `same_model` if both answers are of the model that won; `ambiguous_vote` if a word
    names one side while a model, or an answer, of the other side is called the same.
    """
    if isinstance(value, dict) and "selected" in value:  # Label Studio's export
        value = value["selected"]
    if labels is not None:
        if (meaning := MEANINGS.get(labels.get(normalize(value), ""))) is not None:
            return meaning
        if _contradict(tuple(labels.items()), sides):
            raise Rejection("unknown_label")
    if not isinstance(value, str) or sides[0].lower() == sides[1].lower():
        raise Rejection("unknown_label")
    text = value.strip().lower()
    if len(verdicts := {verdict.strip() for verdict in _VERDICT.findall(text)}) == 1:
        text = verdicts.pop()  # a judge's verdict behind its reasoning
        if text == "c" and "c" not in map(suffix_of, sides):
            return 0.0
    elif bare := _BRACKETS.fullmatch(text):
        text = bare[1].strip()
    if is_tie(text):
        return 0.0
    if side := _named_side(text, sides):
        return float(check_unambiguous(side, text, sides, row))
    if comparison := _COMPARISON.fullmatch(text):
        left, sign, right = comparison[1].strip(), comparison[2], comparison[3].strip()
        one, other = (_named_side(word, sides) or side_of_digit(word, sides) for word in (left, right))
        if one and other == -one:
            check_unambiguous(one, left, sides, row)
            check_unambiguous(other, right, sides, row)
            size = {">": 1, "<": -1}.get(sign[0], 0) * len(sign)
            return float(size * one)
    # With `labels`, the name of a model is not a vote: the labels may name models as well, each as one side.
    if labels is None and row is not None and (side := _side_in_row(text, value, sides, row)):
        return float(side)
    raise Rejection("unknown_label")


@functools.lru_cache(maxsize=64)
def _contradict(labels: tuple[tuple[str, str], ...], sides: Sides) -> bool:
    """Return whether labels give a word another meaning than its own. Then no unlisted word can be trusted."""
    for value, meaning in labels:
        try:
            vote = parse_vote(value, sides, None)
        except Rejection:
            continue
        if (vote > 0) - (vote < 0) != MEANINGS.get(meaning):
            return True
    return False


def check_unambiguous(side: int, text: str, sides: Sides, row: Row | None) -> int:
    """Return the side that a word names.

    Raise Rejection if the row calls the model, or the answer, of only the other side the same: `A` with `model_b: A`.
    """
    if row is not None:
        models = _models(sides, row)
        answers = tuple(
            answer.strip().lower() if isinstance(answer := row.get(name), str) and len(answer) < LONGEST_WORD else None
            for name in sides
        )
        # a number may well be the text of an answer
        for one, other in (models,) if is_whole_number(text) else (models, answers):
            if (text == one) - (text == other) == -side:
                raise Rejection("ambiguous_vote")
    return side


def _named_side(text: str, sides: Sides) -> int:
    """Return 1 or -1 for words that name the first or second column, else 0.

    The names of the columns come before what words mean by themselves: `--map` may put `response_b` or `right` first.
    """
    first, second = (side.lower() for side in sides)
    if text in (first, second):
        return 1 if text == first else -1
    own = differing_words(*sides)
    noun = _NOUN.match(text)
    word = text[noun.end() :] if noun else text
    if own and not word.isdigit() and word in own:
        return 1 if word == own[0] else -1
    if noun and (side := side_of_digit(word, sides)):
        return side
    letters = suffix_of(first), suffix_of(second)
    if letters in (("", ""), ("0", "1"), ("1", "2")) and (own in MARKS or own is None):
        letters = "a", "b"  # the letters of judges, for columns without letters
    if word.isalpha() and word in letters and letters[0] != letters[1]:
        return 1 if word == letters[0] else -1
    return 0 if order_of(own) < 0 else (text in FIRST) - (text in SECOND)


def side_of_digit(text: str, sides: Sides) -> int:
    """Return 1 or -1 for the digit in which a column's name ends, else 0. Without a noun it could be a count."""
    first, second = digits_of(sides) or ("", "")
    return (text == first) - (text == second)


def digits_of(sides: Sides) -> Sides | None:
    """Return the digits in which the names of two columns end, or None unless they differ."""
    first, second = map(suffix_of, sides)
    return (first, second) if first != second and first.isdigit() and second.isdigit() else None


def _side_in_row(text: str, answer: str, sides: Sides, row: Row) -> int:
    """Return 1 or -1 if a vote is the model of one side, or repeats one answer word for word, else 0.

    Raise Rejection if both answers are of this model.
    """
    one, other = _models(sides, row)
    if one == other == text:
        raise Rejection("same_model")
    if (side := (text == one) - (text == other)) or is_whole_number(normalize(answer)):
        return side
    first, second = (isinstance(said := row.get(name), str) and said.strip() == answer.strip() for name in sides)
    return first - second


def _models(sides: Sides, row: Row) -> tuple[str | None, str | None]:
    if not (columns := model_columns(tuple(row), sides)):
        return None, None
    one, other = (str(row[name]).strip().lower() if row[name] is not None else None for name in columns)
    return one, other


@functools.lru_cache(maxsize=256)
def model_columns(names: tuple[str, ...], sides: Sides) -> tuple[str, ...]:
    """Return the two columns with the models of two answers, such as `model_a` and `model_b`, or () if unclear."""
    own = differing_words(*sides)
    models = [
        name for name in names
        if name not in sides and MODEL & {*words_of(name)} and not OF_MODELS & {*words_of(name)}
    ]  # fmt: skip
    marks = {(one, other): differing_words(one, other) for one in models for other in models}
    matching = [columns for columns, words in marks.items() if words is not None and words == own]
    if not matching and not order_of(own):
        matching = [columns for columns, words in marks.items() if words in MARKS]
    return matching[0] if len(matching) == 1 else ()


def is_tie(text: str) -> bool:
    """Return whether a text in lower case says `tie`, `both_bad`, `tie (both good)` and the like."""
    opens = text.startswith(("tie ", "tie(", "both ", "both_", "both-"))
    return text in TIES or (opens and len(text) <= LONGEST_TIE)


def names_a_side(row: Row, column: str, sides: Sides) -> bool:
    """Return whether the vote of a row needs no `--labels`."""
    try:
        parse_vote(row.get(column), sides, None, row)
    except Rejection as rejection:
        return rejection.reason == "same_model"
    return True


def suffix_of(name: str) -> str:
    """Return the single letter or digit in which a column's name ends, in lower case, or an empty string."""
    match = _SUFFIX.search(name.lower())
    return (match[1] or match[2]) if match else ""


@functools.lru_cache(maxsize=1024)
def differing_words(one: str, other: str) -> Sides | None:
    """Return the words in which two names differ, or None unless it is one word of each."""
    words = words_of(one), words_of(other)
    if len(words[0]) != len(words[1]):
        return None
    differ = [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]]
    return differ[0] if len(differ) == 1 else None


def order_of(words: Sides | None) -> int:
    """Return 1 if the differing words of two columns are MARKS, -1 if the second answer is in front, else 0."""
    return 0 if words is None else (words in MARKS) - (words[::-1] in MARKS)
