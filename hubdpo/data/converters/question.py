"""The one way from a row's values to a prompt and its answers, which all converters go."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.converters import rendered
from hubdpo.data.pairs.changes import SYSTEM_LEFT_OUT, UNRENDERED
from hubdpo.data.pairs.example import PreferenceExample, Rated, Rejection, say
from hubdpo.data.pairs.messages import messages_of, words_of

SYSTEM = (
    "system", "systemprompt", "systemmessage", "systeminstruction", "systeminstructions", "sysprompt", "systemmsg",
    "sysmessage", "sysmsg", "系统提示", "系统提示词", "系统消息", "系统指令", "系统",
)  # fmt: skip
"""Names of columns that hold the system prompt in every format, the likeliest first, whichever way words are joined."""


@functools.lru_cache(maxsize=4096)
def system_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of the columns of a row hold a system prompt, in the order in which they are asked for one."""
    plain = {name: "".join(words_of(name)) for name in names}
    return tuple(
        sorted((name for name in names if plain[name] in SYSTEM), key=lambda name: (SYSTEM.index(plain[name]), name))
    )


def system_of(row: dict[str, Any]) -> Any:
    """Return what a row has in the first column for the system prompt that says something, or None."""
    return next((value for name in system_columns(tuple(row)) if (value := row[name])), None)


@dataclass(slots=True)
class Question:
    """A prompt, and how answers to it are read; an answer may tell the system turn that the prompt lacks."""

    system: list[Message]
    turns: list[Message]
    from_column: bool = False
    """Whether the system turn stood beside the conversation."""
    changes: int = 0
    transcript: bool = False
    opening: str = ""
    """How the prompt has begun the answer."""
    heard: list[Message] | None = None
    """The system turn of the first answer that was a whole conversation."""

    @property
    def prompt(self) -> list[Message]:
        return [*self.system, *self.turns] if self.system else self.turns

    def answer(self, value: Any) -> list[Message]:
        """Return an answer given as text, as one message, as assistant messages or as a conversation with its prompt.

        A list of one text is that text. Raise Rejection when the conversation does not begin with the prompt: it would
        answer another question.
        """
        messages = self._read(_alone(value))
        if self.opening and messages and not messages[0]["content"].lstrip().startswith(self.opening.strip()):
            messages = [{**messages[0], "content": self.opening + messages[0]["content"]}, *messages[1:]]
        return messages

    def _read(self, value: Any) -> list[Message]:
        if isinstance(value, str):
            if not self.transcript and not rendered.is_rendered(value):
                return say("assistant", value)
            if not rendered.is_chatml(value) and not rendered.is_transcript(value):
                self.changes |= UNRENDERED
                return rendered.answer_of(value, transcript_before=self.transcript)
            self.changes |= UNRENDERED
            messages = rendered.asked(value)[0]
        else:
            messages = messages_of([value] if isinstance(value, dict) else value)
        if not messages or messages[0]["role"] == "assistant":
            return messages
        return self._after(messages)

    def _after(self, messages: list[Message]) -> list[Message]:
        border = 1 if messages[0]["role"] == "system" else 0
        system, turns = messages[:border], messages[border:]
        if turns[: len(self.turns)] != self.turns or (self.heard is not None and self.heard != system):
            raise Rejection("histories_differ")
        self.heard = system
        if system and system != self.system:
            if self.system and not self.from_column:
                raise Rejection("histories_differ")
            self.changes |= SYSTEM_LEFT_OUT if self.system and not _alike(self.system, system) else 0
            self.system = system
        return turns[len(self.turns) :]

    def pair(self, chosen: Any, rejected: Any) -> PreferenceExample:
        one, other = self.answer(chosen), self.answer(rejected)
        return PreferenceExample(self.prompt, one, other, self.changes)

    def rated(self, value: Any, score: float) -> Rated:
        answer = self.answer(value)
        return Rated(self.prompt, answer, score, self.changes)


def ask(value: Any, *, system: Any = None, history: Sequence[Message] = ()) -> Question:
    """Read a prompt given as text (one user turn, unless it is rendered), as one message or as several.

    A list of one text is that text.

    `history` goes before it. `system` is the text of a column beside it; a system turn that the conversation has itself
    wins over it.
    """
    changes, transcript, opening = 0, False, ""
    value = _alone(value)
    if not isinstance(value, str):
        turns = messages_of([value] if isinstance(value, dict) else value)
    elif rendered.is_chatml(value) or rendered.is_transcript(value):
        turns, opening = rendered.asked(value)
        changes, transcript = UNRENDERED, rendered.is_transcript(value)
    else:
        turns = say("user", value)
    turns = [*history, *turns] if history else turns
    beside = system_turn(system)
    own = turns[:1] if turns and turns[0]["role"] == "system" else []
    if beside and own and not _alike(beside, own):
        changes |= SYSTEM_LEFT_OUT
    return Question(own or beside, turns[len(own) :], bool(beside) and not own, changes, transcript, opening)


def system_turn(system: Any) -> list[Message]:
    """Return the system turn that a column gives as text, as a list of one or as a message, none when it is empty."""
    system = _alone(system)
    if system is None or system == "":
        return []
    if isinstance(system, (dict, list)):
        messages = messages_of(system if isinstance(system, list) else [system])
        if [message["role"] for message in messages] != ["system"]:
            raise Rejection("wrong_type")
        system = messages[0]["content"]
    if not isinstance(system, str):
        raise Rejection("wrong_type")
    return say("system", system) if system.strip() else []


def _alone(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def _alike(one: list[Message], other: list[Message]) -> bool:
    return one[0]["content"].strip() == other[0]["content"].strip()
