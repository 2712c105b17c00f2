"""What the names of columns, and of members in them, say about what they hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hubdpo.data.converters.vote_words import MARKS
from hubdpo.data.pairs.messages import words_of
from hubdpo.data.raw.text.delimited import JUDGEMENTS

PROMPTS = (
    "prompt", "question", "instruction", "query", "request", "messages", "conversations", "conversation", "input",
    "problem", "task", "context", "history", "user", "post", "source", "dialogue", "dialog", "turns", "chat", "q",
    "ctx", "问题", "提示", "指令",
)  # fmt: skip
"""Names of prompts, the likeliest first."""
WHOLE = ("text", "body", "content", "prompt", "question")
"""Members that hold the whole of a prompt, beside its title and the like."""
GOOD = frozenset((
    "chosen", "good", "preferred", "pos", "positive", "better", "accepted", "accept", "win", "winning", "best",
    "correct", "w",
))  # fmt: skip
BAD = frozenset((
    "rejected", "reject", "bad", "other", "dispreferred", "nonpreferred", "unpreferred", "neg", "negative", "worse",
    "lose", "losing", "worst", "incorrect", "l",
))  # fmt: skip
ABOUT = frozenset((
    "model", "models", "score", "scores", "rating", "ratings", "id", "name", "reward", "rewards", "logps", "logprob",
    "length", "len", "tokens", "source", "reason", "rationale", "label", "type", "url", "avg",
))  # fmt: skip
"""Words of columns that say something about an answer instead of holding it."""
VOTES = JUDGEMENTS | {
    "preferred", "better", "safer", "result", "best", "chosen", "selected", "pick", "picked", "pref", "human", "gold",
    "偏好", "选择",
}  # fmt: skip
AGAINST = (BAD - {"l"}) | {
    "loser", "lost", "loses", "inferior", "less", "least", "not", "non", "toxic", "toxicity", "unsafe", "harm",
    "harmful", "hate", "risk", "error", "errors", "reason", "rationale", "confidence",
}  # fmt: skip
"""Words of votes for the worse answer, and of what is said about votes."""
LABELS = frozenset(("label", "labels", "feedback", "rating", "score", "tag", "thumbs", "vote", "quality", "desirable"))
"""Words of columns that may say whether an answer is good."""
SCORES = ("score", "scores", "rating", "ratings", "quality", "reward", "rewards", "overall")
"""Words of columns that say how good an answer is, more being better, the likeliest first."""
RANKS = ("rank", "ranks")
"""The same, 1 being the best."""
NEUTRAL = frozenset((
    "my", "our", "human", "user", "judge", "annotator", "ai", "llm", "gpt", "model", "models", "rm", "pm", "avg",
    "average", "mean", "median", "total", "final", "weighted", "normalized", "raw", "answer", "answers", "response",
    "responses", "completion", "completions", "output", "outputs", "candidate", "candidates", "meta", "metadata",
    "eval", "evaluation", "evaluations", "annotation", "annotations", "helpfulness", "left", "right", "first", "second",
))  # fmt: skip
"""Words beside those of scores and ranks that do not turn them round, as `toxicity` does."""
NUMBERS = frozenset(("idx", "index", "argmax"))
"""Words of votes that are the number of an answer."""
LISTS = (
    "responses", "completions", "answers", "generations", "outputs", "candidates", "cands", "replies", "samples",
    "options", "choices",
)  # fmt: skip
ANSWERS = ("completion", "response", "output", "answer", "text", "assistant", "solution")
MISSPELT = ("chosen", "rejected", "preferred", "dispreferred", "nonpreferred")
"""Words of GOOD and BAD that are recognised if misspelt; a wrong letter in a short word would make another word."""
CLOSE = 0.75
_NOT_PREFERRED = re.compile(r"(non|un|dis|not)[\W_]?preferred")


class Judged(NamedTuple):
    """A column that is named as the better or the worse answer, and the other words of its name."""

    name: str
    is_better: bool
    rest: tuple[str, ...]


def words(name: str) -> tuple[str, ...]:
    return words_of(_NOT_PREFERRED.sub("nonpreferred", name) if _NOT_PREFERRED.search(name.lower()) else name)


def has_word(name: str, known: Iterable[str]) -> bool:
    return not set(known).isdisjoint(words(name))


def plain(name: str) -> str:
    return "".join(words(name))


def last_of(path: str) -> str:
    """Return the last name in a path, without separators."""
    return plain(path.rpartition(".")[2])


def is_called(path: str, known: Sequence[str]) -> bool:
    """Whether a place, or a member of the items of a list, has one of these words and no other that means anything."""
    own = [word for word in words(path.rpartition("[]")[2] or path) if len(word) > 1 and not word.isdigit()]
    return not set(known).isdisjoint(own) and {*known, *NEUTRAL}.issuperset(own)


def near_name(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was meant by another: the same but for case and separators, or a close match."""
    known = {plain(candidate): candidate for candidate in names}
    matches = difflib.get_close_matches(plain(name), known, n=1, cutoff=0.8)
    return known[matches[0]] if matches else None


def prompt_among(names: Sequence[str], answers: Sequence[str]) -> str | None:
    """Return the name that is the prompt's, beside those of the answers; the only one if it says nothing else."""
    named = [name for known in PROMPTS for name in names if known in (plain(name), last_of(name))]
    rest = [name for name in names if not has_word(name, ABOUT)]
    alike = sorted((name for name in rest if has_word(name, PROMPTS)), key=lambda name: last_of(name) not in WHOLE)
    sides = [{*words(name)} for name in answers]
    shared = set.intersection(*sides) if sides else set()  # `orig_answer_a` and `orig_answer_b` answer `orig_question`
    found = [name for name in alike if shared & {*words(name)}] + named + alike
    for others in (rest, [name for name in rest if not has_word(name, GOOD | BAD | VOTES)]):
        found += others if len(others) == 1 else []
    return found[0] if found else None


def judged(names: Iterable[str]) -> list[Judged]:
    found = []
    for name in names:
        meant = [_meant(word) for word in words(name)]
        is_good, is_bad = not GOOD.isdisjoint(meant), not BAD.isdisjoint(meant)
        if is_good != is_bad and ABOUT.isdisjoint(meant):
            found.append(Judged(name, is_good, tuple(word for word in meant if word not in GOOD | BAD)))
    return found


def better_and_worse(answers: Sequence[Judged]) -> tuple[str, str] | None:
    """Return the columns of the better and the worse answer if exactly two are named so.

    `chosen` and `rejected` take precedence over names with other words, such as `chosen_text` and `rejected_text`, and
    `chosen.answer` over `chosen.comment`.
    """
    pairs: dict[tuple[str, ...], tuple[str, str]] = {}
    for rest in dict.fromkeys(answer.rest for answer in answers):
        one = [answer for answer in answers if answer.rest == rest]
        if sorted(answer.is_better for answer in one) == [False, True]:
            better, worse = sorted(one, key=lambda answer: not answer.is_better)
            pairs[rest] = better.name, worse.name
    if len(pairs) > 1 and () not in pairs:
        pairs = {rest: pair for rest, pair in pairs.items() if not {*ANSWERS, "content"}.isdisjoint(rest)}
    return pairs.get(()) or (next(iter(pairs.values())) if len(pairs) == 1 else None)


def alike(names: Sequence[str]) -> list[str]:
    """Return two or more columns whose names differ in a letter or number and nothing else; those of answers first."""
    names = sorted(names, key=lambda name: not has_word(name, (*ANSWERS, *LISTS)))
    split = {name: words(name) for name in names if not has_word(name, ABOUT)}
    for one, first in split.items():
        for other, second in split.items():
            if len(first) != len(second):
                continue
            pairs = list(enumerate(zip(first, second, strict=True)))
            differ = [(at, pair) for at, pair in pairs if pair[0] != pair[1] and not _is_misspelt(*pair)]
            if len(differ) == 1 and differ[0][1] in MARKS:
                at = differ[0][0]
                rest = first[:at], first[at + 1 :]
                more = [
                    name
                    for name, own in split.items()
                    if (own[:at], own[at + 1 :]) == rest and own[at:] and len(own[at]) <= 2
                ]
                return more if len(more) > 2 else [one, other]
    return []


def of_sides(names: Sequence[str], answers: Sequence[str]) -> list[list[str]]:
    """Return the columns that say something about each answer, by the words in which the names of answers differ."""
    shared = set[str].intersection(*({*words(name)} for name in answers))
    marks = [{*words(name)} - shared for name in answers]
    found: dict[tuple[str, ...], list[str]] = {}
    for mark in marks:
        for name in names:
            if mark & {*words(name)}:
                found.setdefault(tuple(word for word in words(name) if word not in mark), []).append(name)
    return [of_each for of_each in found.values() if len(of_each) == len(answers)]


def _is_misspelt(word: str, other: str) -> bool:
    """Return whether two words are nearly the same: `reponse` and `response`."""
    if len(word) <= 4 or word[:1] != other[:1]:
        return False
    return difflib.SequenceMatcher(None, word, other).ratio() >= CLOSE


def _meant(word: str) -> str:
    if word in GOOD | BAD:
        return word
    return next((known for known in MISSPELT if _is_misspelt(word, known)), word)
