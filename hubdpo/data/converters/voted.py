"""`voted`: two answers and a vote (SHP, arena battles, HelpSteer preferences, safety comparisons, pairwise judges)."""

from __future__ import annotations

from typing import Any

import orjson

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters.asking import Reads, ask_row, prompts
from hubdpo.data.converters.choice import Choice, too_close
from hubdpo.data.converters.question import ask, system_of
from hubdpo.data.converters.verdicts import Vote, normal
from hubdpo.data.converters.votes import (
    ANNOTATORS,
    ONE_OF_THREE,
    RANKS,
    SCORES,
    VOTES,
    has_vote,
    score_names,
    vote_of,
)
from hubdpo.data.pairs.example import PreferenceExample, Rejection, number_of
from hubdpo.data.pairs.messages import ROLE_KEYS, first_of, role_of

PROMPTS = ("prompt", "instruction", "question", "context", "history", "input")
ANSWERS = (
    ("human_ref_A", "human_ref_B"), ("conversation_a", "conversation_b"), ("response_a", "response_b"),
    ("response_A", "response_B"), ("response_1", "response_2"), ("response1", "response2"),
    ("response 1", "response 2"), ("response_0", "response_1"), ("output_1", "output_2"), ("output_a", "output_b"),
    ("answer_a", "answer_b"), ("answer_0", "answer_1"), ("answer_1", "answer_2"), ("answer1", "answer2"),
    ("completion_a", "completion_b"), ("completion_0", "completion_1"),
)  # fmt: skip
SCORED = tuple(dict.fromkeys(
    pair for sides in ANSWERS for what in (*SCORES, *RANKS)
    for pair in zip(*(score_names(side, what) for side in sides), strict=True) if pair[0] != pair[1]
))  # fmt: skip
READS: Reads = (
    prompts(*PROMPTS), ANSWERS,
    (*((name, *ONE_OF_THREE[1:]) if name == ONE_OF_THREE[0] else
       (name, *ANNOTATORS[1:]) if name == ANNOTATORS[0] else name for name in VOTES), *SCORED),
    "turn", "info.post", "info.article", "summaries",
)  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    sides = sides_of(row)
    return _has_summaries(row) or (sides is not None and has_vote(row, sides))


def convert(row: dict[str, Any], how: Choice) -> PreferenceExample:
    """Convert a row whose vote is known; a tie, or a margin below the least one, is a Rejection."""
    if _has_summaries(row):
        return _summaries(row)
    sides = sides_of(row)
    if sides is None:
        raise Rejection("missing_field")
    vote = checked(vote_of(row, sides, how.labels), how)
    return decided(vote, _compared(row, *sides))


def checked(vote: Vote, how: Choice) -> Vote:
    """Raise Rejection when neither answer won, or not by enough."""
    if reason := too_close(abs(vote.value), how):
        raise Rejection(reason)
    return vote


def decided(vote: Vote, pair: PreferenceExample) -> PreferenceExample:
    """Put the answer that won in front."""
    return pair if vote.value > 0 else PreferenceExample(pair.prompt, pair.rejected, pair.chosen, pair.changes)


def sides_of(row: dict[str, Any]) -> tuple[str, str] | None:
    """Return the columns of the two answers."""
    return next((names for names in ANSWERS if names[0] in row and names[1] in row), None)


def _compared(row: dict[str, Any], a: str, b: str) -> PreferenceExample:
    if a == "conversation_a":
        return _whole(row, ask(_until(row, row[a])).prompt, ask(_until(row, row[b])).prompt)
    asked = first_of(row, PROMPTS)
    if "winner_model_a" in row or all(map(_is_turns, (asked, row[a], row[b]))):
        turns, first, second = (_texts(item) for item in (asked, row[a], row[b]))
        return _whole(row, _interleaved(turns, first), _interleaved(turns, second))
    return ask_row(row, PROMPTS).pair(row[a], row[b])


def _until(row: dict[str, Any], conversation: Any) -> Any:
    """Return a conversation up to the turn that was judged (MT-Bench), all of it where the row does not say."""
    try:
        turn = number_of(row.get("turn"))  # a CSV has it as text
    except Rejection:
        return conversation
    if turn < 1 or not turn.is_integer() or not isinstance(conversation, list):
        return conversation
    asked = [place for place, message in enumerate(conversation) if _is_user(message)]
    return conversation[: asked[int(turn)]] if turn < len(asked) else conversation


def _is_user(message: Any) -> bool:
    role = first_of(message, ROLE_KEYS) if isinstance(message, dict) else None
    return isinstance(role, str) and role_of(role) == "user"


def _whole(row: dict[str, Any], first: list[Message], second: list[Message]) -> PreferenceExample:
    if not first or not second:
        raise Rejection("empty_answer")
    if first[:-1] != second[:-1]:
        raise Rejection("histories_differ")
    question = ask(first[:-1], system=system_of(row))
    return PreferenceExample(question.prompt, first[-1:], second[-1:], question.changes)


def _has_summaries(row: dict[str, Any]) -> bool:
    """Tell the comparisons of summarize_from_feedback."""
    return isinstance(row.get("summaries"), list) and isinstance(row.get("info"), dict) and "choice" in row


def _summaries(row: dict[str, Any]) -> PreferenceExample:
    """Convert a post, two summaries of it and the number of the better one."""
    texts = [item.get("text") if isinstance(item, dict) else None for item in row["summaries"]]
    choice = normal(row["choice"])
    if len(texts) != 2 or choice not in ("0", "1"):
        raise Rejection("wrong_type" if len(texts) != 2 else "unknown_label")
    post = first_of(row["info"], ("post", "article"))
    return ask(post, system=system_of(row)).pair(texts[int(choice)], texts[1 - int(choice)])


def _texts(value: Any) -> list[Any]:
    """Read the lists that the Kaggle arena file keeps as JSON inside a string; plain text stays one turn."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Rejection("wrong_type") from None
    return value if isinstance(value, list) else [value]


def _is_turns(value: Any) -> bool:
    """Tell a list of texts, a turn each, as arenas have them for a prompt and for both answers."""
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _interleaved(turns: list[Any], answers: list[Any]) -> list[Message]:
    if len(turns) != len(answers):
        raise Rejection("lists_differ")
    messages: list[Message] = []
    for question, answer in zip(turns, answers, strict=True):
        if question is None or answer is None:
            raise Rejection("missing_field")
        if not isinstance(question, str) or not isinstance(answer, str):
            raise Rejection("wrong_type")
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages
