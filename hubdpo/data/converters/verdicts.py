"""What the words of a vote, or of a label, say: a side, a tie, or what `--labels` lets them mean.

Values are compared in one spelling: pandas makes `1.0` of a whole number where another row has none, and CSV makes text
of all of them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from hubdpo.data.pairs.example import Rejection
from hubdpo.errors import ConfigError

Row = dict[str, Any]
Sides = tuple[str, str]
TIES = frozenset((
    "tie", "ties", "tied", "bothbad", "equal", "draw", "neither", "none", "same",
))  # fmt: skip
PAIRED = (("a", "b"), ("0", "1"), ("1", "2"), ("first", "second"), ("left", "right"), ("j", "k"))
"""What the names of two columns differ in, the first one in front."""
FIRST, SECOND = frozenset(("left", "first", "model_a")), frozenset(("right", "second", "model_b"))
MODEL = frozenset(("model", "models"))
OF_MODELS = frozenset(("winner", "score", "scores", "rating", "ratings", "elo", "rank", "reward", "tokens", "length"))
"""Words of columns that tell something else of a model than its name."""
LABELS_HINT = "--labels first=1,second=2,tie=0; for one answer a row --labels good=1,bad=0"
MOST_WORD = 100
"""Characters of an answer that may be taken for the word of a vote."""
LONGEST_TIE = 30
"""Characters of the words for a tie: `Both answers are fine, but ...` is none."""
OPEN = "..."
"""What stands in a hint for a value that a person must fill in."""
_WHOLE = re.compile(r"([+-]?)(0|[1-9]\d{0,29})(?:\.0*)?")
"""Python refuses to read numbers of thousands of digits; a longer one than these is compared as it is written."""
_COMPARED = re.compile(r"([^<>=~]+)(>{1,3}|<{1,3}|={1,2}|~=?)([^<>=~]+)")
_BRACKETS = re.compile(r"\[{1,2}([^\[\]]+)\]{1,2}")
_VERDICT = re.compile(r"\[\[([^\[\]]{1,40})\]\]")
"""How MT-Bench has judges end what they say, `[[C]]` for a tie (arXiv 2306.05685)."""
_NOUN = re.compile(
    r"(?:response|answer|output|completion|model|assistant|option|candidate|reply|text|summary)[\s_\-]*(?=\w$)"
)
_LAST_PART = re.compile(r"(?:^|[\W_])([a-z])$|(\d)$")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")


@dataclass(frozen=True)
class Vote:
    """Above 0 the first answer won, below 0 the second, 0 is a tie; the size is the margin where the set has one."""

    value: float


MEANINGS = {"first": 1.0, "second": -1.0, "tie": 0.0}


def parse_labels(text: str) -> dict[str, str]:
    """Read `first=1,second=2,tie=0`, or `good=1,bad=0` for one answer a row, into {value: meaning}.

    Each may have several values. Raise ConfigError for anything else, also where something is not filled in.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    meanings = {normal(value): name.strip() for name, _, value in pairs}
    if {OPEN, ""} & meanings.keys() or OPEN in meanings.values():
        raise ConfigError(f"`--labels` has a value that is not filled in: {text}", hint=LABELS_HINT)
    if len(meanings) != len(pairs) or {*meanings.values()} - {"tie"} not in ({"first", "second"}, {"good", "bad"}):
        raise ConfigError(
            f"`--labels` must give first and second a value each, or good and bad, and no value twice: {text}",
            hint=LABELS_HINT,
        )
    return meanings


def normal(value: Any) -> str:
    """Return the one spelling of a value: `1` of 1, 1.0, `1.0`, ` 1 ` and `+1`; `true` of True and `TRUE`."""
    text = (str(value) if not isinstance(value, float) else f"{value!r}").strip()
    if whole := _WHOLE.fullmatch(text):
        return str(int(whole[1] + whole[2]))
    return text.lower() if text.lower() in ("true", "false") else text


def is_whole(text: str) -> bool:
    """Tell whether a value, as `normal` spells it, is a whole number."""
    return _WHOLE.fullmatch(text) is not None


def named_vote(value: Any, sides: Sides, labels: dict[str, str] | None, row: Row | None = None) -> Vote:
    """Read a vote as `labels` says, or one that names a side: in words, by the column's own letter, by the name of the
    model that the row gives for one side alone, or by the text of one answer. Words that `labels` does not name keep
    their meaning, unless it gives another one to some word.

    Raise Rejection: `unknown_label`, `same_model` where both answers are of the model that won, or `ambiguous_vote`
    where a word names one side, and a model or an answer of the other side is called the same.
    """
    if isinstance(value, dict) and "selected" in value:  # as Label Studio exports it
        value = value["selected"]
    if labels is not None:
        if (meaning := MEANINGS.get(labels.get(normal(value), ""))) is not None:
            return Vote(meaning)
        if _contradict(tuple(labels.items()), sides):
            raise Rejection("unknown_label")
    if not isinstance(value, str) or sides[0].lower() == sides[1].lower():
        raise Rejection("unknown_label")
    text = value.strip().lower()
    if len(verdicts := {verdict.strip() for verdict in _VERDICT.findall(text)}) == 1:
        text = verdicts.pop()  # of a judge who says why before
        if text == "c" and "c" not in map(last_part, map(str.lower, sides)):
            return Vote(0.0)
    elif bare := _BRACKETS.fullmatch(text):
        text = bare[1].strip()
    if is_tie(text):
        return Vote(0.0)
    if side := _side(text, sides):
        return Vote(float(agreed(side, text, sides, row)))
    if compared := _COMPARED.fullmatch(text):
        words = compared[1].strip(), compared[3].strip()
        one, other = (_side(part, sides) or _digit(part, sides) for part in words)
        if one and other == -one:
            for part, side in ((compared[1], one), (compared[3], other)):
                agreed(side, part, sides, row)
            size = {">": 1, "<": -1}.get(compared[2][0], 0) * len(compared[2])
            return Vote(float(size * one))
    # beside labels, a name of a model is no word: the labels may name models as well, each as one side
    if labels is None and row is not None and (side := _model(text, sides, row) or _text(value, sides, row)):
        return Vote(float(side))
    raise Rejection("unknown_label")


@functools.lru_cache(maxsize=64)
def _contradict(labels: tuple[tuple[str, str], ...], sides: Sides) -> bool:
    """Tell whether labels give a word another meaning than it has by itself: then no word can be trusted."""
    for value, meaning in labels:
        try:
            said = named_vote(value, sides, None).value
        except Rejection:
            continue
        if (said > 0) - (said < 0) != MEANINGS.get(meaning):
            return True
    return False


def agreed(side: int, text: str, sides: Sides, row: Row | None) -> int:
    """Return the side that a word names. Raise Rejection where the row calls the model, or the answer, of the other
    side alone the same: `A` beside `model_b: A`.
    """
    if row is not None:
        models = _models(sides, row)
        answers = tuple(
            answer.strip().lower() if isinstance(answer := row.get(name), str) and len(answer) < MOST_WORD else None
            for name in sides
        )
        for one, other in (models, answers) if not is_whole(text) else (models,):  # a number may be an answer's text
            if (text == one) - (text == other) == -side:
                raise Rejection("ambiguous_vote")
    return side


def _side(text: str, sides: Sides) -> int:
    """Return 1 or -1 for words that name the first or second column, 0 for any others.

    The columns' own names come before what words mean by themselves: `--map` may put `response_b` or `right` first.
    """
    first, second = (side.lower() for side in sides)
    if text in (first, second):
        return 1 if text == first else -1
    own = differing(*sides)
    letters = last_part(first), last_part(second)
    noun = _NOUN.match(text)
    part = text[noun.end() :] if noun else text
    if own and not part.isdigit() and part in own:
        return 1 if part == own[0] else -1
    if noun and (side := _digit(part, sides)):
        return side
    if letters in (("", ""), ("0", "1"), ("1", "2")) and (own in PAIRED or own is None):
        letters = "a", "b"  # the letters of judges, for columns that have none of their own
    if part.isalpha() and part in letters and letters[0] != letters[1]:
        return 1 if part == letters[0] else -1
    swapped = own is not None and own[::-1] in PAIRED
    return 0 if swapped else (text in FIRST) - (text in SECOND)


def _digit(text: str, sides: Sides) -> int:
    """Return 1 or -1 for the digit that one column's name ends in. By itself, beside no noun, it could be a count."""
    digits = [last_part(side.lower()) for side in sides]
    if digits[0] == digits[1] or not all(map(str.isdigit, digits)):
        return 0
    return (text == digits[0]) - (text == digits[1])


def _model(text: str, sides: Sides, row: Row) -> int:
    """Return the side whose model, by the row's own columns, is the one that won."""
    one, other = _models(sides, row)
    if one == other == text:
        raise Rejection("same_model")
    return (text == one) - (text == other)


def _models(sides: Sides, row: Row) -> tuple[str | None, str | None]:
    """Return the names of the models of the two answers, by the row's own columns; None where it has none."""
    if not (columns := model_columns(tuple(row), sides)):
        return None, None
    one, other = (str(row[name]).strip().lower() if row[name] is not None else None for name in columns)
    return one, other


def _text(value: str, sides: Sides, row: Row) -> int:
    """Return the side whose answer is what the vote says, word for word."""
    found = [isinstance(answer := row.get(side), str) and answer.strip() == value.strip() for side in sides]
    return found[0] - found[1] if not is_whole(normal(value)) else 0


@functools.lru_cache(maxsize=256)
def model_columns(names: tuple[str, ...], sides: Sides) -> tuple[str, ...]:
    """Return the two columns that name the models of two answers: `model_a` and `model_b` beside `response_a` and
    `response_b`. Nothing where there are none, or several.
    """
    own = differing(*sides)
    models = [
        name for name in names
        if name not in sides and MODEL & {*words_of(name)} and not OF_MODELS & {*words_of(name)}
    ]  # fmt: skip
    pairs = {(one, other): marks for one in models for other in models if (marks := differing(one, other)) is not None}
    same = [columns for columns, marks in pairs.items() if marks == own]
    if not same and own not in PAIRED and (own is None or own[::-1] not in PAIRED):
        same = [columns for columns, marks in pairs.items() if marks in PAIRED]
    return same[0] if len(same) == 1 else ()


def is_tie(text: str) -> bool:
    """Tell `tie`, `both_bad`, `Tie (both good)` and the like."""
    opens = text.startswith(("tie ", "tie(", "both ", "both_", "both-"))
    return text in TIES or (opens and len(text) <= LONGEST_TIE)


def says_a_side(row: Row, column: str, sides: Sides) -> bool:
    """Tell whether the vote of a row needs no `--labels`."""
    try:
        named_vote(row.get(column), sides, None, row)
    except Rejection as rejection:
        return rejection.reason == "same_model"
    return True


def last_part(name: str) -> str:
    """Return the letter or digit that a column's name ends in, or nothing."""
    match = _LAST_PART.search(name)
    return (match[1] or match[2]) if match else ""


@functools.lru_cache(maxsize=1024)
def differing(one: str, other: str) -> Sides | None:
    """Return the words that two names differ in, or None when they do so in more than one."""
    pairs = list(zip(words_of(one), words_of(other), strict=False))
    differ = [pair for pair in pairs if pair[0] != pair[1]]
    return differ[0] if len(differ) == 1 and len(words_of(one)) == len(words_of(other)) else None


def words_of(name: str) -> list[str]:
    """Return the words of a column's name, in lower case: of `responseA`, `response_a` and `Response A` the same."""
    return [word.lower() for word in _WORD.findall(name)]
