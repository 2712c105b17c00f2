"""Read prompts and answers from the values of a row. Every converter reads them through here."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters import rendered_chats as chats
from hubdpo.data.converters.places import Place
from hubdpo.data.pairs import example
from hubdpo.data.pairs.calls import UNREADABLE_TOOLS, is_no_tools, is_tools, read_tools
from hubdpo.data.pairs.example import Converted, PreferenceExample, Rejection, Row, ScoredAnswer, expect, single_turn
from hubdpo.data.pairs.messages import ROLE_KEYS, first_of, messages_of, words_of

Reads = tuple[str | tuple[str | tuple[str, ...], ...], ...]
"""The columns that a converter reads.

An item is a column, or a group of alternatives of which the first that has a value is read. An alternative is a column,
or several that are read together. A dot leads into an object: `input.messages`. A star stands for any beginning.
"""
SYSTEM = (
    "system", "systemprompt", "systemmessage", "systeminstruction", "systeminstructions", "sysprompt", "systemmsg",
    "sysmessage", "sysmsg", "系统提示", "系统提示词", "系统消息", "系统指令", "系统",
)  # fmt: skip
"""Names of columns with a system prompt, by preference, in lower case without separators. In `Reads`: all of them."""
TOOLS = ("tools", "functions", "availabletools", "availablefunctions", "工具")
"""The same for tools that the assistant may call. Who reads SYSTEM reads these as well."""
REQUESTS = ("input", "chosen")
"""Columns whose objects may hold tools."""
WITH_INPUT = ("instruction", "question")
"""Prompt columns that a column `input` continues, as in Alpaca's files."""


def names_in(reads: Reads) -> Iterator[str]:
    """Yield the names of all columns in `reads`, alternatives and those that are read together included."""
    ways = (way for group in reads for way in ((group,) if isinstance(group, str) else group))
    return (name for way in ways for name in ((way,) if isinstance(way, str) else way))


@functools.lru_cache(maxsize=4096)
def columns_called(names: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    plain = {name: "".join(words_of(name)) for name in names}
    return tuple(
        sorted((name for name in names if plain[name] in known), key=lambda name: (known.index(plain[name]), name))
    )


def tools_in(row: Row) -> object:
    """Return the first value that is taken for tools, or None; OpenAI's are in `input`, LMFlow's in `chosen`."""
    values = [row[name] for name in columns_called(tuple(row), TOOLS)]
    for request in map(row.get, REQUESTS):
        if isinstance(request, dict):
            values += [request.get("tools"), request.get("functions")]
    return next((value for value in values if is_tools(value)), None)


def may_have_tools(rows: list[Row]) -> bool:
    """Whether any of many rows has a column or an object in which `tools_in` looks."""
    names = set[str]().union(*rows)
    if columns_called(tuple(sorted(names)), TOOLS):
        return True
    return any(type(row.get(name)) is dict for name in REQUESTS if name in names for row in rows)


def tools_of(row: Row, place: Place) -> object:
    """Return the value that a description calls the tools. Raise Rejection if it is something else."""
    value = place.value(row)
    if is_no_tools(value):
        return None
    if not is_tools(value):
        raise Rejection(UNREADABLE_TOOLS)
    return value


def with_tools(converted: Converted, value: object) -> Converted:
    """Give the pairs of a row, or its answer, the tools that `value` holds. Raise Rejection if it cannot be read."""
    if not (tools := read_tools(value)):
        return converted
    if isinstance(converted, (PreferenceExample, ScoredAnswer)):
        converted.tools = tools
        return converted
    for pair in (pairs := list(converted)):
        if isinstance(pair, PreferenceExample):
            pair.tools = tools
    return pairs


def system_of(row: Row) -> object:
    """Return the first value of a row's system prompt columns that is not empty, or None."""
    return next((value for name in columns_called(tuple(row), SYSTEM) if (value := row[name])), None)


def systems_of(rows: list[Row]) -> list[object] | None:
    """Return the system prompt of each row, or None if no row has a column for it."""
    if not columns_called(tuple(sorted(set().union(*rows))), SYSTEM):
        return None
    return [system_of(row) for row in rows]


@dataclass(slots=True)
class Prompt:
    """A prompt, and the way answers to it are read.

    An answer that is a whole conversation may supply the system turn that the prompt lacks.
    """

    system: list[Message]
    turns: list[Message]
    system_from_column: bool = False
    """Whether the system turn comes from a column beside the conversation."""
    changes: int = 0
    is_transcript: bool = False
    opening: str = ""
    """How the prompt has begun the answer, as with an open `<think>` block."""
    system_of_answers: list[Message] | None = None
    """The system turn of the first answer that was a whole conversation; later answers must have the same."""

    @property
    def messages(self) -> list[Message]:
        return [*self.system, *self.turns] if self.system else self.turns

    def read_answer(self, value: object) -> list[Message]:
        """Return an answer given as text, one message, assistant messages, or a conversation that repeats the prompt.

        A list of one text is that text. Raise Rejection for a conversation with another prompt.
        """
        messages = self._parse(_unlisted(value))
        if self.opening and messages and not messages[0]["content"].lstrip().startswith(self.opening.strip()):
            messages = [{**messages[0], "content": self.opening + messages[0]["content"]}, *messages[1:]]
        return messages

    def pair(self, chosen: object, rejected: object) -> PreferenceExample:
        answers = self.read_answer(chosen), self.read_answer(rejected)
        return PreferenceExample(self.messages, *answers, self.changes)

    def scored(self, value: object, score: float) -> ScoredAnswer:
        answer = self.read_answer(value)
        return ScoredAnswer(self.messages, answer, score, self.changes)

    def _parse(self, value: object) -> list[Message]:
        if not isinstance(value, str):
            messages = messages_of([_spoken_by("assistant", value)] if isinstance(value, dict) else value)
        elif not self.is_transcript and not chats.is_rendered(value):
            return single_turn("assistant", value)
        else:
            self.changes |= example.UNRENDERED
            if not chats.is_chatml(value) and not chats.is_transcript(value):
                return chats.parse_answer(value, transcript_before=self.is_transcript)
            messages, _ = chats.parse_prompt(value)
        if not messages or messages[0]["role"] == "assistant":
            return messages
        return self._without_prompt(messages)

    def _without_prompt(self, messages: list[Message]) -> list[Message]:
        border = 1 if messages[0]["role"] == "system" else 0
        system, turns = messages[:border], messages[border:]
        if turns[: len(self.turns)] != self.turns or self.system_of_answers not in (None, system):
            raise Rejection("histories_differ")
        self.system_of_answers = system
        if system and system != self.system:
            if self.system and not self.system_from_column:
                raise Rejection("histories_differ")
            if self.system and not _same_text(self.system, system):
                self.changes |= example.SYSTEM_LEFT_OUT
            self.system = system
        return turns[len(self.turns) :]


def read_prompt(value: object, *, system: object = None, history: Sequence[Message] = ()) -> Prompt:
    """Read a prompt given as text, one message or a list of messages; plain text becomes one user turn.

    A list of one text is that text. `history` goes before the prompt. `system` is the value of a system prompt column;
    a system turn inside the conversation takes precedence over it.
    """
    changes, is_transcript, opening = 0, False, ""
    value = _unlisted(value)
    if not isinstance(value, str):
        turns = messages_of([_spoken_by("user", value)] if isinstance(value, dict) else value)
    elif chats.is_chatml(value) or chats.is_transcript(value):
        turns, opening = chats.parse_prompt(value)
        changes, is_transcript = example.UNRENDERED, chats.is_transcript(value)
    else:
        turns = single_turn("user", value)
    turns = [*history, *turns] if history else turns
    from_column = system_turn(system)
    own = turns[:1] if turns and turns[0]["role"] == "system" else []
    if from_column and own and not _same_text(from_column, own):
        changes |= example.SYSTEM_LEFT_OUT
    return Prompt(own or from_column, turns[len(own) :], bool(from_column) and not own, changes, is_transcript, opening)


def read_prompt_of(row: Row, names: tuple[str, ...]) -> Prompt:
    """Read the prompt from the first of these columns with a value, with `input`, `history` and the system prompt."""
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise Rejection("missing_field")
    value = row[name]
    if isinstance(value, dict) and isinstance(text := value.get("full_text"), str):  # WebGPT's question object
        value = text
    if name in WITH_INPUT and isinstance(value, str) and (more := row.get("input")):
        value += "\n" + expect(more, str)
    history = history_of(row.get("history")) if name != "history" else []
    return read_prompt(value, system=system_of(row), history=history)


def prompt_group(*names: str) -> tuple[str | tuple[str, ...], ...]:
    """Return the item of `Reads` for the columns that `read_prompt_of` reads."""
    return tuple((name, "input") if name in WITH_INPUT else name for name in names)


def system_turn(system: object) -> list[Message]:
    """Return the system turn for a column's value: text, a list of one text, or a message; empty if it is blank."""
    system = _unlisted(system)
    if system is None or system == "":
        return []
    if isinstance(system, (dict, list)):
        messages = messages_of(system if isinstance(system, list) else [_spoken_by("system", system)])
        if [message["role"] for message in messages] != ["system"]:
            raise Rejection("wrong_type")
        system = messages[0]["content"]
    text = expect(system, str)
    return single_turn("system", text) if text.strip() else []


def are_texts(value: object, least: int = 1, most: float = math.inf) -> bool:
    """Return whether a value is a list of so many texts."""
    return isinstance(value, list) and least <= len(value) <= most and all(isinstance(item, str) for item in value)


def history_of(value: object) -> list[Message]:
    """Read the turns before a prompt: messages, or a list of [user text, assistant text]."""
    if value is None or value == "":
        return []
    if isinstance(value, list) and any(isinstance(turn, dict) for turn in value):
        return messages_of(value)
    if not isinstance(value, list) or not all(are_texts(turn, 2, 2) for turn in value):
        raise Rejection("wrong_type")
    return [
        {"role": role, "content": text}
        for turn in value
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def _spoken_by(role: str, message: Row) -> Row:
    """Return a message that names no speaker, such as `{"text": "..."}`, as one of this role."""
    return message if first_of(message, ROLE_KEYS) is not None else {**message, ROLE_KEYS[0]: role}


def _unlisted(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def _same_text(one: list[Message], other: list[Message]) -> bool:
    return one[0]["content"].strip() == other[0]["content"].strip()
