"""From messages to token ids, each message encoded once, the same ids that the tokenizer gives to the rendered text.

The chat template is rendered once for every order of roles, with a slot where each content goes; contents that the
template may write otherwise than they are (those with a `<think>` that it looks for) are rendered with it every time.
Added tokens cut a rendered conversation into stretches that byte-level BPE cannot merge across, so the ids of a
conversation are the ids of its stretches. Text of a content that only spells a control token stays text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.tokens.tiktoken_bpe import byte_pair_encoder, cuts_at_added_tokens
from hubdpo.data.tokens.turns import turns_of
from hubdpo.errors import DataError, UnsupportedBase
from hubdpo.model.tokenizer.chat_template import content_rules
from hubdpo.model.tokenizer.rendering import bounded, rendered

PLAIN = ("what is it?", "It is 名 1.")
PRIVATE_USE = range(0xE000, 0xF900)
MOST_SKELETONS = 4096
UNUSABLE = {
    "template_rewrites_prompt": "the chat template changes a prompt once it is answered, so the answer cannot be told "
    "apart",
    "template_refuses": "the chat template refuses a question and its answer",
}

_Piece = int | str | list[int]
"""Of a rendered conversation: the number of a slot, text beside a slot, or the ids of what never changes."""


@dataclass(frozen=True)
class Answer:
    """The ids of an answer as it stands after its prompt, end of turn included."""

    ids: list[int]
    context: tuple[tuple[int, int], ...] = ()
    """`[start, stop)` of the ids that the assistant does not say: other turns inside the answer, and headers."""
    replaced: int = 0
    """How many of the prompt's last ids are not in the answered conversation; `ids` has what stands there instead."""
    asked_otherwise: bool = False
    """Whether the template writes another text there, not only the tokenizer other ids."""


@dataclass(frozen=True)
class _Skeleton:
    """A prompt, and what follows the last control token of it: as asked, and as answered."""

    prompt: list[_Piece]
    tail: list[_Piece]
    answered: list[_Piece]
    asked_otherwise: bool = False


class ChatEncoder:
    """Encode conversations of one tokenizer. Raise DataError when its template cannot be taken apart.

    All methods raise Rejection for a conversation that the template refuses, or writes otherwise once it is answered.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        fast = byte_pair_encoder(tokenizer)
        self.fast = fast is not None
        """Whether tiktoken does the work."""
        self._ids: Callable[[str], list[int]] = fast or self._slow_ids
        added = tokenizer.added_tokens_decoder.values()
        control = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
        self._control = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or r"(?!)")
        self._cuts = self.fast or cuts_at_added_tokens(tokenizer)
        self._skeletons: dict[tuple[str, ...], _Skeleton] = {}
        self._looked_for = bounded(lambda: content_rules(tokenizer.get_chat_template()), tokenizer, UnsupportedBase)
        try:
            if not self._cuts or self._changes_plain_text():
                self._looked_for = None
            self._check()
            self._turns = turns_of(self._template, self._control)
        except Rejection as rejection:
            raise DataError(
                UNUSABLE[rejection.reason],
                hint="use a base whose chat template only appends, such as Qwen/Qwen2-7B-Instruct",
            ) from None

    @property
    def end_of_turn(self) -> tuple[str, int] | None:
        """The control token with which an answer ends, and its id; None when the template ends it with none."""
        token = self._turns.end_token
        return (token, self._tokenizer.convert_tokens_to_ids(token)) if token else None

    def spells_control(self, text: str) -> bool:
        """Tell whether a text holds the name of a control token."""
        return self._control.search(text) is not None

    def prompt(self, prompt: Sequence[Message]) -> list[int]:
        """Return the ids of a prompt up to where the assistant goes on."""
        if self._is_plain(prompt):
            return self._filled(self._skeleton(prompt, ()).prompt, [message["content"] for message in prompt])
        shown, spelt, mark = self._shown(prompt)
        return self._encoded(self._template(shown, ask=True), spelt, mark)

    def answer(self, prompt: Sequence[Message], answer: Sequence[Message]) -> list[int]:
        """Return the ids of an answer alone, end of turn included."""
        return self.answered(prompt, answer).ids

    def answered(self, prompt: Sequence[Message], answer: Sequence[Message]) -> Answer:
        """Return an answer after its prompt."""
        messages = [*prompt, *answer]
        if len(answer) > 1 or not self._is_plain(messages):
            return self._rendered(messages, len(prompt))
        contents = [message["content"] for message in messages]
        skeleton = self._skeleton(prompt, answer)
        tail, ids = self._filled(skeleton.tail, contents), self._filled(skeleton.answered, contents)
        shared = _alike(tail, ids)
        return Answer(ids[shared:], (), len(tail) - shared, skeleton.asked_otherwise)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens shown."""
        return str(self._tokenizer.decode(ids))

    def _is_plain(self, messages: Sequence[Message]) -> bool:
        """Tell whether the template writes all contents as they are."""
        looked_for = self._looked_for
        return looked_for is not None and not any(
            looked_for.may_change(message["content"]) or len(message) > 2 for message in messages
        )

    def _skeleton(self, prompt: Sequence[Message], answer: Sequence[Message]) -> _Skeleton:
        key = (*(message["role"] for message in prompt), "", *(message["role"] for message in answer))
        if (known := self._skeletons.get(key)) is None:
            if len(self._skeletons) >= MOST_SKELETONS:
                self._skeletons.clear()
            mark = chr(PRIVATE_USE[0])
            slots = [{**message, "content": f"{mark}{i}{mark}"} for i, message in enumerate([*prompt, *answer])]
            if not answer:
                known = _Skeleton(self._parsed(self._template(slots, ask=True), mark), [], [])
            else:
                asked, whole, start = self._both(slots, len(prompt))
                known = _Skeleton(
                    [], self._parsed(asked[start:], mark), self._parsed(whole[start:], mark),
                    not whole.startswith(asked),
                )  # fmt: skip
            self._skeletons[key] = known
        return known

    def _both(self, messages: Sequence[Message], count: int) -> tuple[str, str, int]:
        """Return the first `count` messages as asked, all of them, and where the last control token of both ends."""
        asked, whole = self._template(messages[:count], ask=True), self._template(messages, ask=False)
        shared = len(asked)
        if not whole.startswith(asked):
            if not whole.startswith(self._template(messages[:count], ask=False)):
                raise Rejection("template_rewrites_prompt")
            shared = len(os.path.commonprefix([asked, whole]))
        ends = (token.end() for token in self._control.finditer(asked) if token.end() <= shared)
        return asked, whole, max(ends, default=0) if self._cuts else 0

    def _rendered(self, messages: Sequence[Message], count: int) -> Answer:
        """Render a conversation as it is and find its answer, the messages from `count` on."""
        shown, spelt, mark = self._shown(messages)
        asked, whole, start = self._both(shown, count)
        tail, text = self._encoded(asked[start:], spelt, mark), whole[start:]
        ids = self._encoded(text, spelt, mark)
        shared = _alike(tail, ids)
        context: tuple[tuple[int, int], ...] = ()
        if len(messages) - count > 1:
            said = self._turns.spans(whole, min(len(asked), len(os.path.commonprefix([asked, whole]))))
            if len(said) != sum(message["role"] == "assistant" for message in messages[count:]):
                raise Rejection("turns_not_told_apart")
            # the first begins where the prompt ends and the last one ends with the text
            cuts = [at - start for span in said for at in span][1:-1]
            places = [_alike(self._encoded(text[:cut], spelt, mark), ids) - shared for cut in cuts]
            context = tuple(zip(places[::2], places[1::2], strict=True))
            if messages[-1]["role"] != "assistant":
                last = said[-1][1] - start
                ids = ids[: _alike(self._encoded(text[:last], spelt, mark), ids)]
        return Answer(ids[shared:], context, len(tail) - shared, not whole.startswith(asked))

    def _shown(self, messages: Sequence[Message]) -> tuple[list[Message], list[str], str]:
        """Put a slot in place of what spells a control token; return the messages, what was there, and the mark."""
        if not any(self._control.search(message["content"]) for message in messages):
            return list(messages), [], ""
        texts = "".join(message["content"] for message in messages)
        mark = next(chr(code) for code in PRIVATE_USE if chr(code) not in texts)
        spelt: list[str] = []

        def slot(match: re.Match[str]) -> str:
            spelt.append(match[0])
            return f"{mark}{len(spelt) - 1}{mark}"

        return [{**m, "content": self._control.sub(slot, m["content"])} for m in messages], spelt, mark

    def _template(self, messages: Sequence[Message], *, ask: bool) -> str:
        try:
            return rendered(self._tokenizer, messages, ask=ask, error=UnsupportedBase)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as problem:
            raise Rejection("template_refuses") from problem

    def _encoded(self, rendered: str, spelt: list[str], mark: str) -> list[int]:
        """Return the ids of rendered text whose slots hold what spells a control token."""
        if self._cuts:
            return self._filled(self._parsed(rendered, mark), spelt)
        if spelt:  # between tokens that reach out, what is text can not be cut from what is a token
            raise Rejection("special_text")
        ids: list[int] = self._tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids

    def _parsed(self, rendered: str, mark: str) -> list[_Piece]:
        """Cut rendered text at control tokens; what lies between them and holds no slot is encoded here, once."""
        pieces: list[_Piece] = []
        constant: list[int] = []
        at = 0
        for token in [*self._control.finditer(rendered), None]:
            stretch = rendered[at : token.start() if token else len(rendered)]
            parts = re.split(f"{mark}([0-9]+){mark}", stretch) if mark and mark in stretch else [stretch]
            if len(parts) == 1:
                constant += self._ids(stretch) if stretch else []
            else:
                # the ids before, then the stretch: text and slots in turn, closed by ids again
                pieces.append(constant)
                constant = []
                pieces += [int(part) if i % 2 else part for i, part in enumerate(parts)]
            if token:
                constant.append(self._tokenizer.convert_tokens_to_ids(token[0]))
                at = token.end()
        return [*pieces, constant]

    def _filled(self, pieces: list[_Piece], contents: list[str]) -> list[int]:
        ids: list[int] = []
        stretch = ""
        for piece in pieces:
            if isinstance(piece, str):
                stretch += piece
            elif isinstance(piece, int):
                stretch += contents[piece]
            else:
                if stretch:
                    ids += self._ids(stretch)
                    stretch = ""
                ids += piece
        return ids

    def _slow_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _changes_plain_text(self) -> bool:
        """Tell whether the template writes even a plain text otherwise than it is."""
        question, answer = ({"role": r, "content": c} for r, c in zip(("user", "assistant"), PLAIN, strict=True))
        mark = chr(PRIVATE_USE[0])
        for messages in ([question], [question, answer, question], [question, answer]):
            slots = [{**message, "content": f"{mark}{i}{mark}"} for i, message in enumerate(messages)]
            ask = len(messages) % 2 == 1
            filled = self._template(slots, ask=ask)
            for i, message in enumerate(messages):
                filled = filled.replace(f"{mark}{i}{mark}", message["content"])
            if filled != self._template(messages, ask=ask):
                return True
        return False

    def _check(self) -> None:
        """Compare with the tokenizer itself. Raise DataError, or Rejection, when a plain conversation fails."""
        messages = [{"role": "user", "content": PLAIN[0]}, {"role": "assistant", "content": PLAIN[1]}]
        prompt, answer = self.prompt(messages[:1]), self.answered(messages[:1], messages[1:])
        ours = prompt[: len(prompt) - answer.replaced] + answer.ids
        theirs = self._tokenizer(self._template(messages, ask=False), add_special_tokens=False)["input_ids"]
        if ours != theirs:
            raise DataError(
                "the tokenizer merges text across its control tokens, so messages cannot be encoded apart",
                hint="use a base with byte-level BPE, such as Qwen/Qwen2-7B-Instruct",
            )


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids the two have in common at their beginning."""
    if list(second[: len(first)]) == list(first):
        return len(first)
    return next((i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other), len(second))
