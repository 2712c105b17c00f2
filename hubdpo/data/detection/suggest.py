"""What to type for rows that no converter knows, filled in from the names of their columns and never from a guess at
what a value means: two answers and a vote get no better one here."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hubdpo.data.converters.formats.mapped import parse_map
from hubdpo.data.converters.formats.scored import PROMPTS as ASKED
from hubdpo.data.converters.formats.unpaired import LABELS as KNOWN_LABELS
from hubdpo.data.converters.formats.unpaired import says_good
from hubdpo.data.converters.prompts import system_columns
from hubdpo.data.converters.vote_words import MARKS, OPEN, names_a_side, normalize
from hubdpo.data.detection.vote_hints import guess, labels_for
from hubdpo.data.pairs.example import Rejection, number_of
from hubdpo.data.pairs.markers import template_mark
from hubdpo.data.pairs.messages import words_of
from hubdpo.data.raw.text.delimited import JUDGEMENTS

Row = dict[str, Any]
PROMPTS = (
    "prompt", "question", "instruction", "query", "request", "messages", "conversations", "conversation", "input",
    "problem", "task", "context", "history", "user", "post", "source",
)  # fmt: skip
"""What columns with a prompt are called, the likeliest first."""
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
"""Words of columns that tell something about an answer."""
MISSPELT = ("chosen", "rejected", "preferred", "dispreferred", "nonpreferred")
"""Words of GOOD and BAD that are recognised with a letter wrong; in short ones it would make another word."""
CLOSE = 0.75
VOTES = JUDGEMENTS | {"preferred", "better", "result", "best", "chosen", "selected"}
"""Words of columns that may hold a vote."""
LABELS = frozenset(("label", "labels", "feedback", "rating", "score", "tag", "thumbs", "vote", "quality", "desirable"))
"""Words of columns that may say whether one answer is good."""
SCORES = frozenset(("rating", "score", "quality"))
"""Those that may just as well say how good it is."""
LISTS = ("responses", "completions", "answers", "generations", "outputs", "candidates")
ANSWERS = ("completion", "response", "output", "answer", "text", "assistant", "solution")
MOST_VALUES = 4
LONGEST = 40
_NOT_PREFERRED = re.compile(r"(non|un|dis|not)[\W_]?preferred")


@dataclass(frozen=True)
class Columns:
    """The columns of the first rows that hold texts or messages, in their order, and the other ones."""

    said: list[str]
    others: list[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Columns:
        names = list(dict.fromkeys(name for row in rows for name in row))
        said = [name for name in names if 2 * sum(_speaks(row.get(name)) for row in rows) >= len(rows)]
        return cls(said, [name for name in names if name not in said])


def advice(rows: Sequence[Row]) -> tuple[str, str | None]:
    """Return what can be told of rows that no converter knows, or an empty text, and the options that may read them."""
    columns = Columns.of(rows)
    if pair := _answers(columns.said):
        options = _map(columns, {"chosen": pair[0], "rejected": pair[1]})
        texts = [row[pair[0]] for row in rows if isinstance(row.get(pair[0]), str)]
        if options is None and (mark := next(filter(None, map(template_mark, texts)), None)):
            whole = f"; `{pair[0]}` and `{pair[1]}` hold whole conversations as a chat template wrote them (`{mark}`)"
            return whole, 'write each of them as a list of messages: [{"role": "user", "content": "..."}, ...]'
        return "", options
    if several := _several(columns.said):
        return _too_many(columns, *several)
    if sides := _sides(columns.said):
        return _voted(rows, columns, sides)
    if kept := _single_answer(columns.said):
        return _labelled(rows, columns, kept)
    return _listed_answers(rows)


def corrected(mapping: dict[str, str], missing: Sequence[str], rows: Sequence[Row], names: Iterable[str]) -> str:
    """Return the `--map` of a user with each missing column replaced: by a name that is nearly the same, or by what the
    rows suggest for it where they agree about the others; else it stays open.
    """
    free = [name for name in names if name not in mapping.values()]
    right = {key: column for key, column in mapping.items() if column not in missing}
    options = shlex.split(advice(rows)[1] or "")
    known = parse_map(options[options.index("--map") + 1]) if "--map" in options else {}
    agrees = all(known.get(key) == column for key, column in right.items())
    new = {key: column if key in right else near_name(column, free) for key, column in mapping.items()}
    if agrees and known.keys() == mapping.keys():
        new = {key: column or known[key] for key, column in new.items()}
    return f"--map {shlex.quote(','.join(f'{key}={column or OPEN}' for key, column in new.items()))}"


def near_name(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that was meant by another: the same but for case and signs, or nearly the same."""
    plain = {_plain(one): one for one in names}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.8)
    return plain[found[0]] if found else None


def _voted(rows: Sequence[Row], columns: Columns, sides: tuple[str, str]) -> tuple[str, str | None]:
    """Tell of two answers, and of the column that may say which is better; what its values mean, a person must say."""
    two = f"; they have two answers, `{sides[0]}` and `{sides[1]}`"
    names = [name for name in (*columns.others, *columns.said) if name not in sides and VOTES & set(_words(name))]
    if not names:
        return f"{two}, and nothing that says which is better", None
    if len(names) > 1 and len({tuple(word for word in _words(name) if not word.isdigit()) for name in names}) == 1:
        few = ", ".join(f"`{name}`" for name in names[:MOST_VALUES])
        return f"{two}, and perhaps votes of several people, {few}; write what most say into one column `winner`", None
    vote = names[0]
    values = list(dict.fromkeys(normalize(row[vote]) for row in rows if row.get(vote) is not None))
    shown = ", ".join(value[:LONGEST] for value in values[:MOST_VALUES])
    options = _map(columns, {"first": sides[0], "second": sides[1], "vote": vote})
    said = f"{two}, and perhaps a vote, `{vote}` ({shown})"
    if values and all(names_a_side(row, vote, sides) for row in rows if row.get(vote) is not None):
        return said, options
    look_up = guess(values, vote, sides)
    return (f"{said}; {look_up.removesuffix(':')}" if look_up else said), (
        options and f"{options} {labels_for(values, vote, sides)}"
    )


def _labelled(rows: Sequence[Row], columns: Columns, answer: str) -> tuple[str, str | None]:
    """Tell of rows with one answer, and of the column that may say whether it is a good one."""
    one = f"; they have one answer each (`{answer}`)"
    names = [name for name in (*columns.others, *columns.said) if name != answer and LABELS & {*_words(name)}]
    if not names or names[0] in KNOWN_LABELS:
        return f"{one} and nothing that says which of two is better", None
    label = names[0]
    if SCORES & {*_words(label)} and (scored := _scored(rows, columns, answer, label)):
        return f"{one}, and perhaps a score, `{label}`", scored
    values = list(dict.fromkeys(normalize(row[label]) for row in rows if row.get(label) is not None))
    shown = ", ".join(value[:LONGEST] for value in values[:MOST_VALUES])
    renamed = f"rename `{label}` to `label`"
    if not all(says_good(value) is not None for value in values):
        renamed += f"; {guess(values)} {labels_for(values)}"
    return f"{one}, and perhaps a label, `{label}` ({shown})", renamed


def _scored(rows: Sequence[Row], columns: Columns, answer: str, score: str) -> str | None:
    """Return how rows with a score each are read, where its values are numbers that are no label."""
    values = [row[score] for row in rows if row.get(score) is not None]
    try:
        numbers = {number_of(value) for value in values}
    except Rejection:
        return None
    if not numbers or numbers <= {0, 1, -1}:
        return None
    options = f"--format scored --score-field {shlex.quote(score)}"
    named = {answer: "response"}
    if not any(name in ASKED for name in columns.said):
        named |= {name: "prompt" for name in columns.said if name != answer and _plain(name) in PROMPTS}
    renamed = [f"`{old}` to `{new}`" for old, new in named.items() if old != new]
    return f"rename {' and '.join(renamed)}; {options}" if renamed else options


def _several(names: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Return the columns of the better and the worse answers, where there is one of the one and several of the other,
    told apart by a letter or number: `chosen`, `rejected_1` and `rejected_2`.
    """
    good: list[str] = []
    bad: list[str] = []
    for name in names:
        words = [_meant(word) for word in _words(name)]
        is_good, is_bad = bool(GOOD & {*words}), bool(BAD & {*words})
        if is_good != is_bad and not ABOUT & {*words}:
            (good if is_good else bad).append(name)
    return (good, bad) if min(len(good), len(bad)) == 1 and len(good) + len(bad) > 2 else None


def _too_many(columns: Columns, good: list[str], bad: list[str]) -> tuple[str, str | None]:
    """Tell of one better and several worse answers, or the other way round, of which a map reads one pair."""
    better, worse = (", ".join(f"`{name}`" for name in names) for names in (good, bad))
    told = f"; they have {better} as better and {worse} as worse, of which `--map` reads one each: write a row a pair"
    rest = Columns([name for name in columns.said if name not in (*good[1:], *bad[1:])], columns.others)
    return told, _map(rest, {"chosen": good[0], "rejected": bad[0]})


def _listed_answers(rows: Sequence[Row]) -> tuple[str, str | None]:
    """Tell of rows with a list of answers that no known column or member scores, or that is written as text."""
    for name in LISTS:
        values = [row.get(name) for row in rows]
        if values and all(isinstance(value, str) and value.lstrip().startswith("[") for value in values):
            return f"; `{name}` holds lists written as text", "write the rows as .jsonl or Parquet, where a list is one"
        if not values or not all(isinstance(value, list) for value in values):
            continue
        if numbers := [member for member, value in _first_item(values).items() if isinstance(value, (int, float))]:
            told = ", ".join(f"`{member}`" for member in numbers)
            return f"; the answers in `{name}` have {told}", f"--format scored --score-field {shlex.quote(numbers[0])}"
        return (
            f"; they have a list of answers each (`{name}`), and no list `scores`, where more is better, "
            "or `ranks`, where 1 is best, with a number for each answer"
        ), None
    return "", None


def _first_item(values: Sequence[Any]) -> dict[str, Any]:
    return next((item for value in values for item in value if isinstance(item, dict)), {})


def _map(columns: Columns, answers: dict[str, str]) -> str | None:
    """Return `--map` with the prompt filled in, or None when no column can be the prompt."""
    rest = [name for name in columns.said if name not in answers.values()]
    prompt = next((name for known in PROMPTS for name in rest if _plain(name) == known), None)
    if prompt is None:
        alike = [name for name in rest if set(_words(name)) & set(PROMPTS)]
        prompt = next(iter(alike), None) or (rest[0] if len(rest) == 1 else None)
    if prompt is None:
        return None
    system = next(iter(system_columns(tuple(rest))), None)
    named = {"prompt": prompt, **answers, **({"system": system} if system else {})}
    if any("," in name or "=" in name or name != name.strip() for name in named.values()):
        return None
    return f"--format columns --map {shlex.quote(','.join(f'{key}={name}' for key, name in named.items()))}"


def _answers(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the columns of the better and the worse answer, when exactly two say so of themselves.

    `chosen` and `rejected` and the like come before `chosen_text` and `rejected_text`.
    """
    found: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
    for name in names:
        words = [_meant(word) for word in _words(name)]
        good, bad = GOOD & set(words), BAD & set(words)
        rest = tuple(word for word in words if word not in good | bad)
        if bool(good) != bool(bad) and not ABOUT & set(rest):
            found.setdefault(rest, ([], []))[0 if good else 1].append(name)
    pairs = {rest: (good[0], bad[0]) for rest, (good, bad) in found.items() if len(good) == len(bad) == 1}
    if () in pairs:
        return pairs[()]
    return next(iter(pairs.values())) if len(pairs) == 1 else None


def _sides(names: Sequence[str]) -> tuple[str, str] | None:
    """Return two columns whose names differ in nothing but a letter or number."""
    words = {name: _words(name) for name in names}
    for one, other in ((one, other) for one in names for other in names):
        if len(words[one]) != len(words[other]) or ABOUT & set(words[one]):
            continue
        differ = [(a, b) for a, b in zip(words[one], words[other], strict=True) if a != b and not _close(a, b)]
        if len(differ) == 1 and differ[0] in MARKS:
            return one, other
    return None


def _close(word: str, other: str) -> bool:
    """Tell whether two words are one, misspelt: `reponse` and `response`."""
    alike = difflib.SequenceMatcher(None, word, other).ratio
    return len(word) > 4 and word[:1] == other[:1] and alike() >= CLOSE


def _meant(word: str) -> str:
    return next((known for known in MISSPELT if word not in GOOD | BAD and _close(word, known)), word)


def _single_answer(names: Sequence[str]) -> str | None:
    """Return the column that rows for supervised training have their answer in."""
    plain = {_plain(name): name for name in names}
    if any((GOOD | BAD) & set(map(_meant, _words(name))) for name in names):
        return None
    if found := next((plain[name] for name in ("messages", "conversations", "conversation") if name in plain), None):
        return found
    if not plain.keys() & set(PROMPTS):
        return None
    return next((plain[name] for name in ANSWERS if name in plain), None)


def _words(name: str) -> tuple[str, ...]:
    name = _NOT_PREFERRED.sub("nonpreferred", name) if _NOT_PREFERRED.search(name.lower()) else name
    return words_of(name)


def _plain(name: str) -> str:
    return "".join(_words(name))


def _speaks(value: Any) -> bool:
    """Tell whether a value is a text, or one or more messages."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) or (isinstance(value, str) and bool(value.strip()))
