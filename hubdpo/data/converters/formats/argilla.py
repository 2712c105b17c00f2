"""`argilla`: answers that annotators ranked, rated or chose, as Argilla exports them: records, or their columns."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.formats.scored import scored_pairs
from hubdpo.data.converters.formats.voted import COLUMNS as VOTED
from hubdpo.data.converters.prompts import SYSTEM, Reads, prompt_group, read_prompt_of
from hubdpo.data.converters.vote_columns import is_annotated
from hubdpo.data.converters.vote_words import parse_vote, suffix_of
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, is_number, number_of

PROMPTS = ("prompt", "instruction", "question", "input", "context")
NUMBERS = tuple(f"{mark}{n}" for mark in ("-", "_", "") for n in range(10))
ANSWERS = tuple(
    dict.fromkeys((*VOTED, *(f"{noun}{n}" for noun in ("response", "generation", "generations") for n in NUMBERS)))
)
"""The answers; distilabel calls them generations."""
VALUES, STATUS, SUGGESTED = ".responses", ".responses.status", ".suggestion"
"""What Argilla 2 appends to the name of a question. Argilla 1 has the name alone, and `NAME-suggestion`."""
OLD_SUGGESTED = "-suggestion"


def detect(row: Row) -> bool:
    fields = _fields(row)
    if len(_answers_in(fields)) < 2 or not any(fields.get(name) is not None for name in PROMPTS):
        return False
    return bool(_questions(row)) if fields is row else isinstance(row.get("responses"), (dict, list))


def convert(row: Row, how: ConvertOptions) -> Iterator[PreferenceExample | Rejection]:
    """Pair the answers by their mean rank or rating over all annotators; a suggestion counts if nobody has answered."""
    fields = _fields(row)
    answers = _answers_in(fields)
    scores: dict[str, list[float]] = {name: [] for name in answers}
    for question in _questions(row):
        for value in _values(row, question):
            for name, score in _scores(question, value, answers):
                scores[name].append(score)
    points = [fmean(scores[name]) if scores[name] else None for name in answers]
    return scored_pairs(read_prompt_of(fields, PROMPTS), [fields[name] for name in answers], points, how)


def _fields(row: Row) -> Row:
    return fields if isinstance(fields := row.get("fields"), dict) else row


def _answers_in(fields: Row) -> list[str]:
    return [name for name in ANSWERS if isinstance(fields.get(name), str)]


def _questions(row: Row) -> list[str]:
    """Return the names of the questions, which whoever set up the annotation has chosen."""
    if _fields(row) is not row:
        return sorted({*_answered(row, "responses"), *_answered(row, "suggestions")})
    endings = (VALUES, SUGGESTED, OLD_SUGGESTED)
    named = [name[: -len(ending)] for name in row for ending in endings if name.endswith(ending)]
    return list(dict.fromkeys([*named, *(name for name in row if is_annotated(row, name))]))


def _answered(row: Row, name: str) -> dict[str, Any]:
    """Return what a record holds for each question. Argilla 1 lists the responses by annotator, and suggestions."""
    held = row.get(name)
    if isinstance(held, dict):
        return held
    found: dict[str, Any] = {}
    for item in held if isinstance(held, list) else []:
        if isinstance(item, dict) and isinstance(question := item.get("question_name"), str):
            found[question] = item
        values = item.get("values") if isinstance(item, dict) else None
        for question, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, dict):
                found.setdefault(question, []).append({"value": value.get("value"), "status": item.get("status")})
    return found


def _values(row: Row, question: str) -> list[Any]:
    if _fields(row) is not row:
        given, suggested = (_answered(row, name).get(question) for name in ("responses", "suggestions"))
    else:
        given, status = row.get(question + VALUES, row.get(question)), row.get(question + STATUS)
        if isinstance(given, list) and isinstance(status, list) and len(given) == len(status):
            given = [{"value": value, "status": state} for value, state in zip(given, status, strict=True)]
        suggested = row.get(question + SUGGESTED, row.get(question + OLD_SUGGESTED))
    items = [item for item in given if not _is_discarded(item)] if isinstance(given, list) else []
    return [value for item in items or [suggested] if (value := _value_of(item)) is not None]


def _is_discarded(item: object) -> bool:
    return isinstance(item, dict) and item.get("status") in ("discarded", "draft")


def _value_of(item: Any) -> Any:
    """Return the value inside a response. A ranking of Argilla 1 is an object with the lists `rank` and `value`."""
    return item["value"] if isinstance(item, dict) and "rank" not in item and "value" in item else item


def _scores(question: str, value: Any, answers: list[str]) -> Iterator[tuple[str, float]]:
    """Yield the score of each answer that a value ranks, rates or names; nothing for other questions."""
    if is_number(value):
        own = [name for name in answers if name in question] or [
            name for name in answers if suffix_of(name) == suffix_of(question)
        ]
        yield from ((name, number_of(value)) for name in own[:1])
        return
    if isinstance(value, str) and len(answers) == 2:
        try:
            vote = parse_vote(value, (answers[0], answers[1]), None)
        except Rejection:
            return
        yield from zip(answers, (vote, -vote), strict=True)
        return
    names, ranks = (value.get("value"), value.get("rank")) if isinstance(value, dict) else (value, None)
    if isinstance(names, list) and names and all(isinstance(item, dict) for item in names):
        names, ranks = [item.get("value") for item in names], [item.get("rank") for item in names]
    if isinstance(names, list) and all(name in answers for name in names):
        ranks = ranks or list(range(len(names)))
        if not isinstance(ranks, list) or len(ranks) != len(names):
            raise Rejection("lists_differ")
        yield from ((name, -number_of(rank)) for name, rank in zip(names, ranks, strict=True))


READS: Reads = (
    prompt_group(*PROMPTS), *ANSWERS, "fields", "responses", "suggestions", "ranking", "preference",
    *(f"rating{n}" for n in NUMBERS),
    *(f"*{ending}" for ending in (VALUES, STATUS, ".responses.users", SUGGESTED, ".suggestion.agent",
                                  ".suggestion.score", OLD_SUGGESTED, "-suggestion-metadata")),
    SYSTEM,
)  # fmt: skip
ARGILLA = Converter(
    "argilla", "answers that annotators judged in Argilla", detect, convert, READS, ANSWERS,
    options=("pairs", "min_margin"),
)  # fmt: skip
