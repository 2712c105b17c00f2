"""Suggest the options for rows that no converter reads, from the names of their columns.

The meaning of a value is never guessed: of two answers and a vote, no answer is called the better one here.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from hubdpo import console
from hubdpo.config.description import OPEN
from hubdpo.config.map_option import parse_map
from hubdpo.config.name_values import write_pairs
from hubdpo.data.converters.formats.scored import PROMPTS as SCORED_PROMPTS
from hubdpo.data.converters.formats.unpaired import LABELS as KNOWN_LABELS
from hubdpo.data.converters.formats.unpaired import says_good
from hubdpo.data.converters.prompts import system_columns
from hubdpo.data.converters.vote_words import MARKS, Sides, differing_words, names_a_side, normalize
from hubdpo.data.detection.label_guess import Guess
from hubdpo.data.pairs.example import Row, is_number, number_of
from hubdpo.data.pairs.markers import template_mark
from hubdpo.data.pairs.messages import words_of
from hubdpo.data.raw.text.delimited import JUDGEMENTS

PROMPTS = (
    "prompt", "question", "instruction", "query", "request", "messages", "conversations", "conversation", "input",
    "problem", "task", "context", "history", "user", "post", "source",
)  # fmt: skip
"""Names of prompt columns, the likeliest first."""
GOOD = frozenset((
    "chosen", "good", "preferred", "pos", "positive", "better", "accepted", "accept", "win", "winning", "best",
))  # fmt: skip
BAD = frozenset((
    "rejected", "reject", "bad", "other", "dispreferred", "nonpreferred", "unpreferred", "neg", "negative", "worse",
    "lose", "losing", "worst",
))  # fmt: skip
ABOUT = frozenset((
    "model", "models", "score", "scores", "rating", "ratings", "id", "name", "reward", "rewards", "logps", "logprob",
    "length", "len", "tokens", "source", "reason", "rationale", "label", "type", "url", "avg",
))  # fmt: skip
"""Words of columns that say something about an answer instead of holding it."""
MISSPELT = ("chosen", "rejected", "preferred", "dispreferred", "nonpreferred")
"""Words of GOOD and BAD that are recognised if misspelt; a wrong letter in a short word would make another word."""
CLOSE = 0.75
VOTES = JUDGEMENTS | {"preferred", "better", "safer", "result", "best", "chosen", "selected"}
"""Words of columns that may hold a vote."""
LABELS = frozenset(("label", "labels", "feedback", "rating", "score", "tag", "thumbs", "vote", "quality", "desirable"))
"""Words of columns that may say whether an answer is good."""
SCORES = frozenset(("rating", "score", "quality", "reward"))
"""Words of LABELS that may as well say how good the answer is."""
LISTS = ("responses", "completions", "answers", "generations", "outputs", "candidates")
ANSWERS = ("completion", "response", "output", "answer", "text", "assistant", "solution")
MOST_VALUES = 4
LONGEST = 40
_NOT_PREFERRED = re.compile(r"(non|un|dis|not)[\W_]?preferred")


class Suggestion(NamedTuple):
    """What was found in rows that no converter reads, and the options that may read them."""

    finding: str = ""
    """Continues a message, with `; ` in front."""
    hint: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of the first rows, in order: those with text or messages, and the others."""

    spoken: list[str]
    others: list[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Columns:
        names = list(dict.fromkeys(name for row in rows for name in row))
        spoken = [name for name in names if 2 * sum(_is_spoken(row.get(name)) for row in rows) >= len(rows)]
        return cls(spoken, [name for name in names if name not in spoken])

    def with_word(self, words: Iterable[str], *, without: Sequence[str]) -> list[str]:
        """Return the columns whose names have one of these words, the others first."""
        names = [*self.others, *self.spoken]
        return [name for name in names if name not in without and not set(words).isdisjoint(_words(name))]


def suggest(rows: Sequence[Row]) -> Suggestion:
    """Return what the rows seem to hold, and the options that may read them."""
    columns = Columns.of(rows)
    judged = _judged(columns.spoken)
    if pair := _better_and_worse(judged):
        return _suggest_pair(rows, columns, *pair)
    good, bad = ([answer.name for answer in judged if answer.is_better is wanted] for wanted in (True, False))
    if min(len(good), len(bad)) == 1 and len(judged) > 2:  # `chosen`, `rejected_1` and `rejected_2`
        return _suggest_one_of_several(columns, good, bad)
    if sides := _two_sides(columns.spoken) or _named_by_a_vote(rows, columns):
        return _suggest_vote(rows, columns, sides)
    if answer := _single_answer(columns.spoken):
        return _suggest_label(rows, columns, answer)
    return _suggest_list(rows)


def corrected(mapping: dict[str, str], missing: Sequence[str], rows: Sequence[Row], names: Iterable[str]) -> str:
    """Return a user's `--map` with the missing columns replaced.

    A replacement is a column of nearly the same name, or the suggestion for the rows if it agrees with the rest of the
    map; otherwise the column stays open.
    """
    free = [name for name in names if name not in mapping.values()]
    right = {role: column for role, column in mapping.items() if column not in missing}
    options = shlex.split(suggest(rows).hint or "")
    suggested = parse_map(options[options.index("--map") + 1]) if "--map" in options else {}
    agrees = all(suggested.get(role) == column for role, column in right.items())
    new = {role: column if role in right else near_name(column, free) for role, column in mapping.items()}
    if agrees and suggested.keys() == mapping.keys():
        new = {role: column or suggested[role] for role, column in new.items()}
    return f"--map {shlex.quote(write_pairs((role, column or OPEN) for role, column in new.items()))}"


def near_name(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was meant by another: the same but for case and separators, or a close match."""
    plain = {_plain(candidate): candidate for candidate in names}
    matches = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.8)
    return plain[matches[0]] if matches else None


def _suggest_pair(rows: Sequence[Row], columns: Columns, chosen: str, rejected: str) -> Suggestion:
    hint = _map(columns, {"chosen": chosen, "rejected": rejected})
    texts = [row[chosen] for row in rows if isinstance(row.get(chosen), str)]
    if hint is None and (mark := next(filter(None, map(template_mark, texts)), None)):
        return Suggestion(
            f"; `{chosen}` and `{rejected}` hold whole conversations as a chat template wrote them (`{mark}`)",
            'write each of them as a list of messages: [{"role": "user", "content": "..."}, ...]',
        )
    return Suggestion("", hint)


def _suggest_one_of_several(columns: Columns, good: list[str], bad: list[str]) -> Suggestion:
    better, worse = (", ".join(f"`{name}`" for name in names) for names in (good, bad))
    left_out = (*good[1:], *bad[1:])
    rest = Columns([name for name in columns.spoken if name not in left_out], columns.others)
    return Suggestion(
        f"; they have {better} as better and {worse} as worse, of which `--map` reads one each: write one row per pair",
        _map(rest, {"chosen": good[0], "rejected": bad[0]}),
    )


def _suggest_vote(rows: Sequence[Row], columns: Columns, sides: Sides) -> Suggestion:
    """Suggest the column that may hold the vote between two answers; a person must say what its values mean."""
    finding = f"; they have two answers, `{sides[0]}` and `{sides[1]}`"
    names = columns.with_word(VOTES, without=sides)
    if not names:
        return Suggestion(f"{finding}, and nothing that says which is better")
    if len(names) > 1 and len({tuple(word for word in _words(name) if not word.isdigit()) for name in names}) == 1:
        few = console.listed((f"`{name}`" for name in names), MOST_VALUES)
        return Suggestion(
            f"{finding}, and perhaps votes of several people, {few}; write the majority into one column `winner`"
        )
    vote = names[0]
    values, shown = _values(rows, vote)
    finding += f", and perhaps a vote, `{vote}` ({shown})"
    hint = _map(columns, {"first": sides[0], "second": sides[1], "vote": vote})
    if values and all(names_a_side(row, vote, sides) for row in rows if row.get(vote) is not None):
        return Suggestion(finding, hint)
    guess = Guess(values, vote, sides)
    if guess.question:
        finding += f"; {guess.question.removesuffix(':')}"
    return Suggestion(finding, hint and f"{hint} {guess.labels}")


def _suggest_label(rows: Sequence[Row], columns: Columns, answer: str) -> Suggestion:
    """Suggest the column that may say whether the one answer of a row is good."""
    finding = f"; they have one answer each (`{answer}`)"
    names = columns.with_word(LABELS, without=(answer,))
    if not names or names[0] in KNOWN_LABELS:
        return Suggestion(f"{finding} and nothing that says which of two is better")
    label = names[0]
    if not SCORES.isdisjoint(_words(label)) and (scored := _score_hint(rows, columns, answer, label)):
        return Suggestion(f"{finding}, and perhaps a score, `{label}`", scored)
    values, shown = _values(rows, label)
    hint = f"rename `{label}` to `label`"
    if not all(says_good(value) is not None for value in values):
        guess = Guess(values)
        hint += f"; {guess.question} {guess.labels}"
    return Suggestion(f"{finding}, and perhaps a label, `{label}` ({shown})", hint)


def _values(rows: Sequence[Row], column: str) -> tuple[list[str], str]:
    """Return the different values of a column, and the first few of them as text."""
    values = list(dict.fromkeys(normalize(row[column]) for row in rows if row.get(column) is not None))
    return values, console.listed((value[:LONGEST] for value in values), MOST_VALUES)


def _score_hint(rows: Sequence[Row], columns: Columns, answer: str, score: str) -> str | None:
    """Return how to read rows with a score each, or None if the values are labels or no numbers."""
    values = [row[score] for row in rows if row.get(score) is not None]
    if not values or not all(map(is_number, values)) or {number_of(value) for value in values} <= {0, 1, -1}:
        return None
    options = f"--format scored --score-field {shlex.quote(score)}"
    names = {answer: "response"}
    if not any(name in SCORED_PROMPTS for name in columns.spoken):
        names |= {name: "prompt" for name in columns.spoken if name != answer and _plain(name) in PROMPTS}
    renamed = [f"`{old}` to `{new}`" for old, new in names.items() if old != new]
    return f"rename {' and '.join(renamed)}; {options}" if renamed else options


def _suggest_list(rows: Sequence[Row]) -> Suggestion:
    """Suggest how to read a list of answers that has no scores, unknown scores, or is written as text."""
    for name in LISTS:
        values: list[Any] = [row.get(name) for row in rows]
        if values and all(isinstance(value, str) and value.lstrip().startswith("[") for value in values):
            return Suggestion(
                f"; `{name}` holds lists written as text", "write the rows as .jsonl or Parquet, where a list is a list"
            )
        if not values or not all(isinstance(value, list) for value in values):
            continue
        first = next((item for value in values for item in value if isinstance(item, dict)), {})
        numbers = [member for member, value in first.items() if isinstance(value, (int, float))]
        if numbers := sorted(numbers, key=lambda name: not SCORES & {*_words(name)}):
            members = ", ".join(f"`{member}`" for member in numbers)
            return Suggestion(
                f"; the answers in `{name}` have {members}", f"--format scored --score-field {shlex.quote(numbers[0])}"
            )
        return Suggestion(
            f"; they have a list of answers each (`{name}`), and no list `scores`, where more is better, "
            "or `ranks`, where 1 is best, with a number for each answer"
        )
    return Suggestion()


def _map(columns: Columns, answers: dict[str, str]) -> str | None:
    """Return `--map` with the prompt filled in, or None if no column can be the prompt."""
    rest = [name for name in columns.spoken if name not in answers.values()]
    named = [name for known in PROMPTS for name in rest if _plain(name) == known]
    alike = [name for name in rest if not set(PROMPTS).isdisjoint(_words(name))]
    sides = [{*_words(name)} for name in answers.values() if name in columns.spoken]
    shared = set.intersection(*sides) if sides else set()  # `orig_answer_a` and `orig_answer_b` answer `orig_question`
    named = [name for name in alike if shared & {*_words(name)}] + named + alike
    if not named and len(rest) != 1:
        return None
    prompt = (named or rest)[0]
    system = next(iter(system_columns(tuple(rest))), None)
    mapping = {"prompt": prompt, **answers, **({"system": system} if system else {})}
    return f"--format columns --map {shlex.quote(write_pairs(mapping.items()))}"


class Judged(NamedTuple):
    """A column that is named as the better or the worse answer, and the other words of its name."""

    name: str
    is_better: bool
    rest: tuple[str, ...]


def _judged(names: Iterable[str]) -> list[Judged]:
    found = []
    for name in names:
        words = [_meant(word) for word in _words(name)]
        is_good, is_bad = not GOOD.isdisjoint(words), not BAD.isdisjoint(words)
        if is_good != is_bad and ABOUT.isdisjoint(words):
            found.append(Judged(name, is_good, tuple(word for word in words if word not in GOOD | BAD)))
    return found


def _better_and_worse(judged: Sequence[Judged]) -> tuple[str, str] | None:
    """Return the columns of the better and the worse answer if exactly two are named so.

    `chosen` and `rejected` take precedence over names with other words, such as `chosen_text` and `rejected_text`.
    """
    pairs: dict[tuple[str, ...], tuple[str, str]] = {}
    for rest in dict.fromkeys(answer.rest for answer in judged):
        one = [answer for answer in judged if answer.rest == rest]
        if sorted(answer.is_better for answer in one) == [False, True]:
            better, worse = sorted(one, key=lambda answer: not answer.is_better)
            pairs[rest] = better.name, worse.name
    return pairs.get(()) or (next(iter(pairs.values())) if len(pairs) == 1 else None)


def _two_sides(names: Sequence[str]) -> Sides | None:
    """Return two columns whose names differ in a letter or number and nothing else."""
    words = {name: _words(name) for name in names}
    for one in names:
        for other in names:
            if len(words[one]) != len(words[other]) or ABOUT & set(words[one]):
                continue
            pairs = zip(words[one], words[other], strict=True)
            differ = [pair for pair in pairs if pair[0] != pair[1] and not _is_misspelt(*pair)]
            if len(differ) == 1 and differ[0] in MARKS:
                return one, other
    return None


def _named_by_a_vote(rows: Sequence[Row], columns: Columns) -> Sides | None:
    """Return two columns whose names differ in one word, and which a vote names in every row by that word."""
    for vote in columns.with_word(VOTES, without=()):
        others = [name for name in columns.spoken if name != vote]
        for sides in combinations(others, 2):
            if differing_words(*sides) and all(names_a_side(row, vote, sides) for row in rows):
                return sides
    return None


def _is_misspelt(word: str, other: str) -> bool:
    """Return whether two words are nearly the same: `reponse` and `response`."""
    if len(word) <= 4 or word[:1] != other[:1]:
        return False
    return difflib.SequenceMatcher(None, word, other).ratio() >= CLOSE


def _meant(word: str) -> str:
    if word in GOOD | BAD:
        return word
    return next((known for known in MISSPELT if _is_misspelt(word, known)), word)


def _single_answer(names: Sequence[str]) -> str | None:
    """Return the answer column of rows for supervised training."""
    plain = {_plain(name): name for name in names}
    if any((GOOD | BAD) & set(map(_meant, _words(name))) for name in names):
        return None
    if whole := next((plain[name] for name in ("messages", "conversations", "conversation") if name in plain), None):
        return whole
    if not plain.keys() & set(PROMPTS):
        return None
    return next((plain[name] for name in ANSWERS if name in plain), None)


def _words(name: str) -> tuple[str, ...]:
    return words_of(_NOT_PREFERRED.sub("nonpreferred", name) if _NOT_PREFERRED.search(name.lower()) else name)


def _plain(name: str) -> str:
    return "".join(_words(name))


def _is_spoken(value: object) -> bool:
    """Return whether a value is text, or one or more messages."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) or (isinstance(value, str) and bool(value.strip()))
