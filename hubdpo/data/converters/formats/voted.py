"""`voted` and `label-studio`: two answers and a vote.

The first reads SHP, arena battles, HelpSteer preferences, safety comparisons and pairwise judges; the second pairwise
comparison tasks as Label Studio exports them (JSON).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters import vote_columns as votes
from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.places import json_in
from hubdpo.data.converters.prompts import SYSTEM, are_texts, prompt_group, read_prompt, read_prompt_of, system_of
from hubdpo.data.converters.vote_words import Sides, normalize, parse_vote
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, expect, number_of
from hubdpo.data.pairs.messages import first_of, role_in

PROMPTS = ("prompt", "instruction", "question", "context", "history", "input")
CONVERSATIONS = (("conversation_a", "conversation_b"), ("conv_A", "conv_B"))
ANSWERS = (
    ("human_ref_A", "human_ref_B"), *CONVERSATIONS, ("response_a", "response_b"),
    ("response_A", "response_B"), ("response_1", "response_2"), ("response1", "response2"),
    ("response 1", "response 2"), ("response_0", "response_1"), ("output_1", "output_2"), ("output_a", "output_b"),
    ("answer_a", "answer_b"), ("answer_0", "answer_1"), ("answer_1", "answer_2"), ("answer1", "answer2"),
    ("completion_a", "completion_b"), ("completion_0", "completion_1"),
)  # fmt: skip
SCORED = tuple(dict.fromkeys(
    pair for sides in ANSWERS for noun in (*votes.SCORES, *votes.RANKS)
    for pair in zip(*(votes.score_names(side, noun) for side in sides), strict=True) if pair[0] != pair[1]
))  # fmt: skip
SIGN = {"left": 1, "right": -1}
TOGETHER = {votes.ONE_OF_THREE[0]: votes.ONE_OF_THREE, votes.ANNOTATORS[0]: votes.ANNOTATORS}
"""Votes that are spread over several columns, by the first of them."""


def detect(row: Row) -> bool:
    sides = answer_columns(row)
    return _has_summaries(row) or (sides is not None and votes.has_vote(row, sides))


def convert(row: Row, how: ConvertOptions) -> PreferenceExample:
    """Convert a row. Raise Rejection for a vote of unknown meaning, a tie, or a margin below the least one."""
    if _has_summaries(row):
        return _convert_summaries(row)
    sides = answer_columns(row)
    if sides is None:
        raise Rejection("missing_field")
    vote = votes.check_margin(votes.vote_of(row, sides, how.labels), how)
    return votes.winner_first(vote, _first_and_second(row, *sides))


def answer_columns(row: Row) -> Sides | None:
    """Return the columns of the two answers."""
    return next((names for names in ANSWERS if names[0] in row and names[1] in row), None)


def _first_and_second(row: Row, a: str, b: str) -> PreferenceExample:
    if (a, b) in CONVERSATIONS:
        return _from_conversations(row, *(read_prompt(_until_judged(row, row[name])).messages for name in (a, b)))
    prompt = first_of(row, PROMPTS)
    if "winner_model_a" in row or all(map(are_texts, (prompt, row[a], row[b]))):
        turns, first, second = (_list_of_turns(value) for value in (prompt, row[a], row[b]))
        return _from_conversations(row, _interleave(turns, first), _interleave(turns, second))
    return read_prompt_of(row, PROMPTS).pair(row[a], row[b])


def _until_judged(row: Row, conversation: object) -> object:
    """Return a conversation up to the answer of the turn that was judged (MT-Bench), or all of it."""
    try:
        turn = number_of(row.get("turn"))  # text in a CSV
    except Rejection:
        return conversation
    if turn < 1 or not turn.is_integer() or not isinstance(conversation, list):
        return conversation
    questions = [index for index, message in enumerate(conversation) if role_in(message) == "user"]
    return conversation[: questions[int(turn)]] if turn < len(questions) else conversation


def _from_conversations(row: Row, first: list[Message], second: list[Message]) -> PreferenceExample:
    if not first or not second:
        raise Rejection("empty_answer")
    if first[:-1] != second[:-1]:
        raise Rejection("histories_differ")
    prompt = read_prompt(first[:-1], system=system_of(row))
    return PreferenceExample(prompt.messages, first[-1:], second[-1:], prompt.changes)


def _has_summaries(row: Row) -> bool:
    """Return whether a row is a comparison of summarize_from_feedback."""
    return isinstance(row.get("summaries"), list) and isinstance(row.get("info"), dict) and "choice" in row


def _convert_summaries(row: Row) -> PreferenceExample:
    """Convert a post and two summaries of it; `choice` is the index of the better one."""
    texts = [item.get("text") if isinstance(item, dict) else None for item in row["summaries"]]
    choice = normalize(row["choice"])
    if len(texts) != 2 or choice not in ("0", "1"):
        raise Rejection("wrong_type" if len(texts) != 2 else "unknown_label")
    post = first_of(row["info"], ("post", "article"))
    return read_prompt(post, system=system_of(row)).pair(texts[int(choice)], texts[1 - int(choice)])


def _list_of_turns(value: object) -> list[object]:
    """Read a list that the Kaggle arena file writes as JSON inside a string; plain text is one turn."""
    if isinstance(value, str) and value.startswith("["):
        value = json_in(value)
        if value is None:
            raise Rejection("wrong_type")
    return value if isinstance(value, list) else [value]


def _interleave(turns: list[object], answers: list[object]) -> list[Message]:
    if len(turns) != len(answers):
        raise Rejection("lists_differ")
    messages: list[Message] = []
    for question, answer in zip(turns, answers, strict=True):
        turns_of_one = ("user", question), ("assistant", answer)
        messages += [{"role": role, "content": expect(text, str)} for role, text in turns_of_one]
    return messages


READS = (
    prompt_group(*PROMPTS), ANSWERS, (*(TOGETHER.get(name, name) for name in votes.VOTES), *SCORED),
    "turn", "info.post", "info.article", "summaries", SYSTEM,
)  # fmt: skip
COLUMNS = tuple(chain.from_iterable(ANSWERS))
VOTED = Converter(
    "voted", "two answers and a vote", detect, convert, READS, answers=COLUMNS, options=("min_margin", "labels")
)


def detect_task(row: Row) -> bool:
    return isinstance(row.get("data"), dict) and bool(_comparisons(row))


def convert_task(row: Row, how: ConvertOptions) -> PreferenceExample:
    """Convert a task; the majority of its annotators decides."""
    totals: Counter[Sides] = Counter()
    for sides, vote in _comparisons(row) if isinstance(row.get("data"), dict) else []:
        totals[sides] += vote
    if not totals:
        raise Rejection("missing_field")
    if len(totals) > 1:
        raise Rejection("wrong_type")
    (((left, right), total),) = totals.items()
    majority = votes.check_margin(float(total), how)
    data = row["data"]
    if left not in data and right not in data:
        raise Rejection("names_differ")
    return votes.winner_first(majority, read_prompt_of(data, PROMPTS).pair(data.get(left), data.get(right)))


def _comparisons(row: Row) -> list[tuple[Sides, int]]:
    """Return the two members of the task's `data`, and the vote, of each comparison, or else of each choice."""
    results = list(_results(row))
    compared = [
        ((names[0], names[1]), SIGN.get(value["selected"], 0))
        for value, names in results
        if isinstance(value.get("selected"), str) and len(names) == 2
    ]
    sides = answer_columns(row["data"])
    chosen = [(sides, vote) for value, _ in results if sides and (vote := _choice(value, sides)) is not None]
    return compared or chosen


def _results(row: Row) -> Iterator[tuple[Row, list[str]]]:
    """Yield the value of each result of the annotations that were not cancelled, and the tags that it is about."""
    annotations = first_of(row, ("annotations", "completions"))
    for annotation in annotations if isinstance(annotations, list) else []:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        results = annotation.get("result")
        for result in results if isinstance(results, list) else []:
            if isinstance(result, dict) and isinstance(value := result.get("value"), dict):
                yield value, str(result.get("to_name")).split(",")


def _choice(value: Row, sides: Sides) -> int | None:
    """Return the vote of a choice that names one of two answers or a tie, or None for other choices."""
    choices = value.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    try:
        vote = parse_vote(choices[0], sides, None)
    except Rejection:
        return None
    return (vote > 0) - (vote < 0)


TASK_READS = ("data", ("annotations", "completions"), SYSTEM)
LABEL_STUDIO = Converter(
    "label-studio", "annotated comparisons", detect_task, convert_task, TASK_READS, options=("min_margin",)
)
