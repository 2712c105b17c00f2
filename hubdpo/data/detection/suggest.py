"""Suggest the description of rows that no converter reads, from the names of their places and what these hold.

The meaning of a value is never guessed: of two answers and a vote, no answer is called the better one here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, islice

from hubdpo import console
from hubdpo.config.description import OPEN
from hubdpo.data.converters.formats.unpaired import says_good
from hubdpo.data.converters.places import EACH, Place, as_list, sides_of
from hubdpo.data.converters.vote_words import (
    Sides,
    differing_words,
    digits_of,
    is_whole_number,
    names_a_side,
    normalize,
)
from hubdpo.data.detection import names as named
from hubdpo.data.detection.format_columns import Keys
from hubdpo.data.detection.label_guess import Guess, quoted
from hubdpo.data.detection.seen import LONGEST, MOST_VALUES, Seen, Suggestion, is_spoken
from hubdpo.data.pairs.example import Row, is_number, number_of
from hubdpo.data.pairs.markers import template_mark
from hubdpo.data.raw.inner_rows import items_in

_ONE_ANSWER = [(word,) for word in named.ANSWERS if word != "text"]
MOST_ROWS = 20
"""Rows inside rows that are looked at."""
MOST_COLUMNS = 1000
"""Columns that are looked at: names are compared with each other."""


def suggest(rows: Sequence[Row], *, look_inside: bool = True) -> Suggestion:
    """Return what the rows seem to hold, and how they may be described."""
    rows = [dict(islice(row.items(), MOST_COLUMNS)) for row in rows]
    seen = Seen(rows)
    pairs = [seen.described(found) for way in (_pair, _one_of_several, _sides) if (found := way(seen))]
    lists, singles = ([seen.described(found) for found in [way(seen)] if found] for way in (_list, _single))
    complete = [found for found in (*pairs, *lists) if found.is_complete]
    if look_inside and not complete:
        complete = _inner(rows, seen.held.lists)
    best = [*complete, *pairs, *(found for found in singles if found.is_complete), *lists, *singles]
    return best[0] if best else Suggestion()


def _pair(seen: Seen) -> Suggestion | None:
    pair = named.better_and_worse(named.judged(seen.spoken))
    if pair is None or _are_votes(seen, pair):
        return None
    texts = [value for value in seen.values(pair[0]) if isinstance(value, str)]
    keys: Keys = {"chosen": pair[0], "rejected": pair[1]}
    if mark := next(filter(None, map(template_mark, texts)), None):
        return Suggestion(
            f"; `{pair[0]}` and `{pair[1]}` hold whole conversations as a chat template wrote them (`{mark}`)", keys,
            'write each of them as a list of messages: [{"role": "user", "content": "..."}, ...]',
        )  # fmt: skip
    return Suggestion("", keys)


def _one_of_several(seen: Seen) -> Suggestion | None:
    """Describe `chosen`, `rejected_1` and `rejected_2`."""
    judged = named.judged(seen.spoken)
    good, bad = ([answer.name for answer in judged if answer.is_better is wanted] for wanted in (True, False))
    if min(len(good), len(bad)) != 1 or len(judged) < 3 or named.better_and_worse(judged):
        return None
    better, worse = (", ".join(f"`{name}`" for name in names) for names in (good, bad))
    return Suggestion(
        f"; they have {better} as better and {worse} as worse, of which a pair is one each: write one row per pair",
        {"chosen": good[0], "rejected": bad[0]}, left_out=(*good[1:], *bad[1:]),
    )  # fmt: skip


def _sides(seen: Seen) -> Suggestion | None:
    """Describe two answers or more in columns of their own, by a vote or their scores."""
    alike = named.alike(seen.spoken) or _named_by_a_vote(seen)
    answers = alike or [name for name in seen.spoken if named.words(name)[-1:] in _ONE_ANSWER]
    if len(answers) < 2:
        return None
    finding = f"; they have two answers, `{answers[0]}` and `{answers[1]}`"
    if len(answers) > 2:
        named_so = console.listed((f"`{name}`" for name in answers), MOST_VALUES)
        finding = f"; they have {len(answers)} answers, {named_so}"
    of_each = named.of_sides([*seen.others, *seen.spoken], answers)
    vote = _vote(seen, answers, finding, [name for names in of_each for name in names])
    if vote is not None and vote.is_complete:
        return vote
    for names in of_each:
        if points := _points(seen, names):
            said = " and ".join(f"`{name}`" for name in names)
            return Suggestion(f"{finding}, and perhaps their {points}, {said}", {"answers": answers, points: names})
    if vote or not alike:
        return vote
    keys = {"answers": answers, "vote": OPEN}
    sides = sides_of(*map(Place.of, answers[:2]))
    naming = [name for name in (*seen.others, *seen.spoken) if name not in answers and _all_name(seen, name, sides)]
    if naming and len(answers) == 2:
        shown = ", ".join(f"`{name}` ({seen.texts(name)[1]})" for name in naming[:MOST_VALUES])
        told = f"{finding}, one of which is named by {shown}, as the better or the worse"
        return Suggestion(told, keys, left_out=tuple(naming))
    return Suggestion(f"{finding}, and nothing that says which is better", keys, tells_better=False)


def _vote(seen: Seen, answers: list[str], finding: str, without: Sequence[str] = ()) -> Suggestion | None:
    """Describe the vote between answers; a person must say what its values mean, unless they name a side."""
    votes = seen.with_word(named.VOTES, without=(*answers, *without))
    short = [name for name in votes if all(len(str(value)) <= LONGEST for value in seen.values(name))]
    for name in short:
        if first := _numbers(seen, name, answers):
            shown = f"{finding}, and the number of the best, `{name}` ({seen.texts(name)[1]})"
            return Suggestion(shown, {"answers": answers, "vote": name, "first": first})
    if len(answers) > 2 or not votes:
        return None
    sides = sides_of(*map(Place.of, answers)) if len(answers) == 2 else ("first", "second")
    sure = [name for name in votes if _all_name(seen, name, sides)]
    if not (votes := sure or short):
        return None
    stems = [tuple(word for word in named.words(name) if len(word) > 1 and not word.isdigit()) for name in votes]
    if len({*stems}) > 1:
        if any(seen.held.values[name] != seen.held.values[votes[0]] for name in sure):
            finding += f", and votes that differ, {console.listed((f'`{name}`' for name in sure), MOST_VALUES)}"
            return Suggestion(finding, {"answers": answers, "vote": OPEN})
        votes = votes[:1]
    keys: Keys = {"answers": answers, "vote": votes if len(votes) > 1 else votes[0]}
    values = list(dict.fromkeys(text for name in votes for text in seen.texts(name)[0]))
    shown = ", ".join(f"`{name}` ({seen.texts(name)[1]})" for name in votes)
    finding += f", and perhaps {'a vote' if len(votes) == 1 else 'votes of several people'}, {shown}"
    if values and all(_all_name(seen, name, sides) for name in votes):
        return Suggestion(finding, keys)
    guess = Guess(values, votes[0], sides)
    if any(map(is_whole_number, values)) and digits_of(sides) is None:
        guess.first, guess.second = [], []
    if guess.question:
        finding += f"; {guess.question.removesuffix(':')}"
    keys |= {"first": guess.first or OPEN, "second": guess.second or OPEN}
    return Suggestion(finding, keys | ({"tie": guess.ties} if guess.ties else {}))


def _numbers(seen: Seen, vote: str, answers: list[str]) -> str | None:
    """Return the number of the first answer if a vote is the number of the best one, `...` if that is not known.

    It is known where the name says that it is a number, and the values have a 0, or the number of a last answer that
    is counted from 1, and not both.
    """
    counts = [len(answers)] * len(seen.raw)
    if len(answers) == 1:
        counts = [len(as_list(value)) for value in seen.held.values[answers[0]]]
    values = zip(seen.held.values[vote], counts, strict=True)
    votes = [(normalize(value), count) for value, count in values if value is not None]
    if not votes or not all(is_whole_number(text) for text, _ in votes):
        return None
    numbers = [(int(text), count) for text, count in votes]
    is_number = named.has_word(vote, named.NUMBERS)
    if not all(0 <= number <= count for number, count in numbers) or not (is_number or max(counts) > 2):
        return None
    from_0, from_1 = (any(number == 0 for number, _ in numbers), any(number == count for number, count in numbers))
    return OPEN if from_0 == from_1 or not is_number else "0" if from_0 else "1"


def _list(seen: Seen) -> Suggestion | None:
    lists = [name for name in seen.held.values if _are_answers(seen, name)]
    if not lists:
        return _literals(seen)
    answers = min(lists, key=lambda name: (not _is_answer(named.last_of(name)), -len(str(seen.values(name)))))
    place = answers.partition(EACH)[0]
    numbers = [name for name in seen.held.values if _has_one_each(seen, name, answers)]
    numbers.sort(key=lambda name: (name.partition(EACH)[0] != place, *_likeliest(name)))
    members = ", ".join(f"`{name.rpartition('.')[2]}`" for name in numbers)
    if scored := [name for name in numbers if _points(seen, [name])]:
        points = str(_points(seen, scored[:1]))
        return Suggestion(f"; the answers in `{place}` have {members}", {"answers": answers, points: scored[0]})
    if not _is_answer(answers):
        return None
    finding = f"; they have a list of answers each (`{place}`)"
    members_of_each = [name for name in seen.held.values if name.startswith(f"{place}{EACH}")]
    if vote := _vote(seen, [answers], finding, members_of_each):
        return vote
    finding += (
        f", with {members}, of which none is known to be a score or a rank" if numbers
        else ", and no list `scores`, where more is better, or `ranks`, where 1 is best, with a number for each answer"
    )  # fmt: skip
    return Suggestion(finding, {"answers": answers, "scores": OPEN}, tells_better=bool(numbers))


def _literals(seen: Seen) -> Suggestion | None:
    for name in (name for name in seen.spoken if named.plain(name) in named.LISTS):
        if all(isinstance(value, str) and value.lstrip().startswith("[") for value in seen.values(name)):
            advice = "write the rows as .jsonl or Parquet, where a list is a list"
            return Suggestion(f"; `{name}` holds lists written as text", None, advice)
    return None


def _single(seen: Seen) -> Suggestion | None:
    if (answer := _single_answer(seen.spoken)) is None:
        return None
    finding = f"; they have one answer each (`{answer}`)"
    names = seen.with_word((*named.LABELS, *named.RANKS), without=(answer,))
    if not names:
        return Suggestion(f"{finding} and nothing that says which of two is better", tells_better=False)
    label = names[0]
    points = _points(seen, [label])
    if points and not {number_of(value) for value in seen.values(label)} <= {0, 1, -1}:
        return Suggestion(f"{finding}, and perhaps a {points[:-1]}, `{label}`", {"answer": answer, points: label})
    values, shown = seen.texts(label)
    finding, keys = f"{finding}, and perhaps a label, `{label}` ({shown})", {"answer": answer, "label": label}
    if all(says_good(value) is not None for value in values):
        return Suggestion(finding, keys)
    finding += f"; look up which of {quoted(values[:MOST_VALUES])} means a good answer"
    return Suggestion(finding, keys | {"good": OPEN, "bad": OPEN})


def _inner(rows: Sequence[Row], paths: Sequence[str]) -> list[Suggestion]:
    found = []
    for path in paths:
        items = [item for row in rows for item in items_in(row, path) or ()]
        inner = suggest(items[:MOST_ROWS], look_inside=False)
        if inner.is_complete and inner.keys:
            found.append(Suggestion(f"; `{path}` holds rows", {"rows": path, **inner.keys}))
    return found


def _points(seen: Seen, names: Sequence[str]) -> str | None:
    """Return `scores` or `ranks` if these places hold numbers that their names call so, else None."""
    values = [value for name in names for value in seen.values(name)]
    if not values or not all(map(is_number, values)):
        return None
    known = {"scores": named.SCORES, "ranks": named.RANKS}
    return next((key for key, words in known.items() if all(named.is_called(name, words) for name in names)), None)


def _likeliest(name: str) -> tuple[int, str]:
    return next((at for at, word in enumerate(named.SCORES) if named.has_word(name, [word])), len(named.SCORES)), name


def _is_answer(name: str) -> bool:
    return named.has_word(name, (*named.LISTS, *named.ANSWERS))


def _are_answers(seen: Seen, name: str) -> bool:
    """Whether a place holds a list of texts or conversations, which its name does not call something else."""
    last = name.rpartition(".")[2]
    lists = [value for value in seen.held.values[name] if isinstance(value, list) and len(value) > 1]
    if name in seen.held.speech and EACH not in name:
        return False
    if not _is_answer(last) and named.has_word(last, named.ABOUT | named.VOTES):
        return False
    return 2 * len(lists) > len(seen.raw) and all(is_spoken(item) for value in lists for item in value)


def _has_one_each(seen: Seen, name: str, answers: str) -> bool:
    pairs = zip(seen.held.values[name], seen.held.values[answers], strict=True)
    both = [(numbers, texts) for numbers, texts in pairs if isinstance(numbers, list) and isinstance(texts, list)]
    return bool(both) and all(len(numbers) == len(texts) and all(map(is_number, numbers)) for numbers, texts in both)


def _are_votes(seen: Seen, pair: tuple[str, str]) -> bool:
    answers = named.alike([name for name in seen.spoken if name not in pair])
    return len(answers) == 2 and _all_name(seen, pair[0], sides_of(*map(Place.of, answers)))


def _named_by_a_vote(seen: Seen) -> list[str]:
    """Return two places whose names differ in one word, and which a vote names in every row by that word."""
    for vote in seen.with_word(named.VOTES, without=()):
        others = [name for name in seen.spoken if name != vote]
        for sides in combinations(others, 2):
            if differing_words(*sides) and _all_name(seen, vote, sides_of(*map(Place.of, sides))):
                return [*sides]
    return []


def _all_name(seen: Seen, vote: str, sides: Sides) -> bool:
    """Whether all votes at a place need no `--labels`."""
    votes = [(row, one) for row, value in zip(seen.raw, seen.held.values[vote], strict=True) for one in as_list(value)]
    return any(one is not None for _, one in votes) and all(
        names_a_side({**row, vote: one}, vote, sides) for row, one in votes if one is not None
    )


def _single_answer(names: Sequence[str]) -> str | None:
    last = {named.last_of(name): name for name in names}
    if named.judged(names):
        return None
    if whole := next((last[name] for name in ("messages", "conversations", "conversation") if name in last), None):
        return whole
    if not last.keys() & {*named.PROMPTS}:
        return None
    return next((last[name] for name in named.ANSWERS if name in last), None)
