"""Formats with a column each for the prompt, the better and the worse answer, under the names of their publishers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.prompts import (
    SYSTEM,
    are_texts,
    prompt_group,
    read_prompt,
    read_prompt_of,
    system_of,
    systems_of,
)
from hubdpo.data.converters.rendered_chats import any_rendered
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, expect
from hubdpo.data.pairs.message_column import MessageColumn, PairColumns, with_systems
from hubdpo.data.pairs.messages import first_of

Names = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""The names that the columns of prompt, chosen and rejected answer may have, the usual ones first."""
STEPS = "initial_reason_steps"
"""The column of Step-DPO with the beginning of both answers."""
CHOSEN, REJECTED = (
    (side, f"{side}_response", f"response_{side}") for side in ("chosen", "rejected")
)  # MedicalGPT has the last


def with_columns(name: str, evidence: str, detect: Callable[[Row], bool], names: Names) -> Converter:
    """Return the converter of rows with a column each for the prompt and the two answers."""
    many = partial(convert_many, names=names)
    return Converter(name, evidence, detect, partial(convert, names=names), (*names, SYSTEM), names[1] + names[2], many)


def convert(row: Row, names: Names) -> PreferenceExample:
    """Convert text or messages; with a text prompt the answers may also be conversations that begin with it."""
    prompt, chosen, rejected = (first_of(row, some) for some in names)
    return read_prompt(prompt, system=system_of(row)).pair(chosen, rejected)


def convert_many(rows: list[Row], names: Names) -> PairColumns | None:
    """Convert rows with plain text in the columns of the usual names."""
    return pair_columns(*([row.get(some[0]) for row in rows] for some in names), systems=systems_of(rows))


def pair_columns(
    prompts: Sequence[Any], chosen: Sequence[Any], rejected: Sequence[Any], *, systems: Sequence[object] | None
) -> PairColumns | None:
    """Build columns if every value is plain text, nothing that a template rendered; else return None."""
    columns = []
    for values, role in ((prompts, "user"), (chosen, "assistant"), (rejected, "assistant")):
        if set(map(type, values)) != {str}:
            return None
        columns.append(MessageColumn.single_turns(list(values), role))
    if any(map(any_rendered, columns)) or (prompt := with_systems(columns[0], systems)) is None:
        return None
    return PairColumns(prompt, columns[1], columns[2])


def detect_preference(row: Row) -> bool:
    answers = (first_of(row, CHOSEN), first_of(row, REJECTED))
    return (
        isinstance(row.get("prompt"), (str, list))
        and all(isinstance(value, (str, list, dict)) for value in answers)
        and not isinstance(row.get(STEPS), str)
        and not any(are_texts(answer, 2) for answer in answers)
    )


PREFERENCE = with_columns(
    "preference", "prompt, chosen and rejected", detect_preference, (("prompt",), CHOSEN, REJECTED)
)
"""TRL's preference format."""


def detect_stack_exchange(row: Row) -> bool:
    return all(isinstance(row.get(name), str) for name in ("question", "response_j", "response_k"))


STACK_EXCHANGE = (("question",), ("response_j",), ("response_k",))
STACK_EXCHANGE_PAIRED = with_columns(
    "stack-exchange-paired", "question, response_j and response_k", detect_stack_exchange, STACK_EXCHANGE
)
"""lvwerra/stack-exchange-paired, with the better answer in `response_j`."""

STEP_ANSWERS = ("full_chosen", "full_rejected"), CHOSEN[:1] + REJECTED[:1]
"""The columns of whole solutions, or of single steps where there are none."""


def detect_steps(row: Row) -> bool:
    texts = [row.get(name) for name in ("prompt", STEPS, *STEP_ANSWERS[1])]
    return all(isinstance(text, str) for text in texts)


def convert_steps(row: Row) -> PreferenceExample:
    """Convert two solutions that go on from the same first steps; both answers begin with these."""
    steps = expect(row.get(STEPS), str)
    whole = all(isinstance(row.get(name), str) for name in STEP_ANSWERS[0])
    texts = [expect(row.get(name), str) for name in STEP_ANSWERS[0 if whole else 1]]
    prompt = read_prompt(row.get("prompt"), system=system_of(row))
    return prompt.pair(*(text if text.startswith(steps) else steps + text for text in texts))


STEP_READS = ("prompt", STEPS, *STEP_ANSWERS[0], *STEP_ANSWERS[1], SYSTEM)
STEP_DPO = Converter(
    "step-dpo", "a prompt, first steps and two ways to go on", detect_steps, convert_steps, STEP_READS, STEP_ANSWERS[1]
)
"""Step-DPO (arXiv 2406.18629)."""

INSTRUCTIONS = ("instruction", "question", "query", "input")
ALPACA_CHOSEN = (*CHOSEN, "response")


def detect_alpaca(row: Row) -> bool:
    if row.get("prompt") is not None or not isinstance(first_of(row, INSTRUCTIONS), str):
        return False
    named = all(isinstance(first_of(row, names), str) for names in (ALPACA_CHOSEN, REJECTED))
    return named or are_texts(row.get("output"), 2, 2)


def convert_alpaca(row: Row) -> PreferenceExample:
    """Convert an instruction with two answers; `output` is [better, worse]."""
    if row.get("status") == "tie":  # distilabel's Orca pairs: the judge could not tell the answers apart
        raise Rejection("tie")
    chosen, rejected = first_of(row, ALPACA_CHOSEN), first_of(row, REJECTED)
    if chosen is None and rejected is None:
        output = expect(row.get("output"), list)
        if not are_texts(output, 2, 2):
            raise Rejection("wrong_type")
        chosen, rejected = output
    return read_prompt_of(row, INSTRUCTIONS).pair(chosen, rejected)


ALPACA_READS = (prompt_group(*INSTRUCTIONS), (*ALPACA_CHOSEN, "output"), REJECTED, "history", "status", SYSTEM)
ALPACA = Converter(
    "alpaca", "instruction and two answers", detect_alpaca, convert_alpaca, ALPACA_READS, answers=ALPACA_CHOSEN
)
"""LLaMA-Factory, ms-swift and the Orca pairs."""

OPENAI_ANSWERS = ("preferred_output", "non_preferred_output")


def detect_openai(row: Row) -> bool:
    return all(row.get(name) is not None for name in ("input", *OPENAI_ANSWERS))


def convert_openai(row: Row) -> PreferenceExample:
    """Convert `{"input": {"messages": [...]}, ...}`; some writers make `input` the list of messages itself."""
    request = row.get("input")
    messages = request.get("messages") if isinstance(request, dict) else request
    if isinstance(messages, str):
        raise Rejection("wrong_type")
    return read_prompt(messages, system=system_of(row)).pair(*(row.get(name) for name in OPENAI_ANSWERS))


OPENAI_READS = ("input.messages", *OPENAI_ANSWERS, SYSTEM)
OPENAI_EVIDENCE = "input, preferred_output and non_preferred_output"
OPENAI = Converter("openai", OPENAI_EVIDENCE, detect_openai, convert_openai, OPENAI_READS, OPENAI_ANSWERS)
"""OpenAI's preference fine-tuning files."""
