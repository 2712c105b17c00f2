"""Encode conversations to token ids, each message once, with the ids that the tokenizer gives to the rendered text.

The chat template is rendered once for each sequence of roles, with a slot in place of each content. Contents that the
template may rewrite (those with a `<think>` that it looks for) are rendered with it every time, and so are chats with
tool calls, tools or reasoning. Most tokenizers encode
what stands between two added tokens by itself, so the ids of a rendered conversation are those of its stretches; with
the others it is encoded as a whole. A content that spells a control token stays text.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from jinja2 import TemplateError

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.extras import map_texts
from hubdpo.data.tokens.members import check_is_shown, left_out_by, shown_form
from hubdpo.data.tokens.tiktoken_bpe import byte_pair_encoder, cuts_at_added_tokens
from hubdpo.data.tokens.turns import MARK, slots, turns_by_rendering, turns_of
from hubdpo.data.tokens.whole import WholeText
from hubdpo.errors import DataError, UnsupportedBase
from hubdpo.model.tokenizer.chat_template import content_rules, control_tokens
from hubdpo.model.tokenizer.own_template import remarks_on
from hubdpo.model.tokenizer.rendering import bounded, rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = [{"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "It is 名 1."}]
PRIVATE_USE = range(0xE000, 0xF900)
MOST_SKELETONS = 4096
UNUSABLE = {
    "template_rewrites_prompt": "the chat template changes a prompt once it is answered, so the answer cannot be told "
    "apart",
    "template_refuses": "the chat template refuses a question and its answer",
}

_Piece = int | str | list[int]
"""Part of a rendered conversation: the index of a slot, text next to a slot, or the ids of constant text."""


@dataclass(frozen=True)
class Answer:
    """Token ids of an answer after its prompt, end of turn included."""

    ids: list[int]
    context: tuple[tuple[int, int], ...] = ()
    """Spans `[start, stop)` of `ids` that are not the assistant's words: other turns inside the answer, and headers.

    The model reads them, and the loss does not score them.
    """
    replaced: int = 0
    """Number of ids at the end of the generation prompt that the answered conversation replaces by the first `ids`."""
    asked_otherwise: bool = False
    """Whether the replaced text differs, rather than only its tokenization."""

    @property
    def scored(self) -> list[int]:
        """The ids outside `context`; do not change the list."""
        if not self.context:
            return self.ids
        edges = [0, *(edge for span in self.context for edge in span), len(self.ids)]
        return [token for start, stop in zip(edges[::2], edges[1::2], strict=True) for token in self.ids[start:stop]]

    def after(self, head: list[int]) -> Answer:
        """Return the answer with ids before its own."""
        context = tuple((start + len(head), stop + len(head)) for start, stop in self.context)
        return replace(self, ids=head + self.ids, context=context)

    def cut(self, room: int) -> Answer:
        """Return the first `room` ids."""
        context = tuple((start, min(stop, room)) for start, stop in self.context if start < room)
        return replace(self, ids=self.ids[:room], context=context)


@dataclass(frozen=True)
class _Shown:
    """Messages and tools as the template gets them. Text that spells a control token is a slot: `mark`, number, `mark`.

    `spelt` has the texts of the slots.
    """

    messages: list[dict[str, Any]]
    tools: list[Any] | None
    spelt: list[str]
    mark: str


@dataclass(frozen=True)
class _Skeleton:
    """A rendered conversation with slots: its prompt, or the text after the last control token that both forms share.

    `tail` is that text in the generation prompt, `answered` in the answered conversation.
    """

    prompt: list[_Piece]
    tail: list[_Piece]
    answered: list[_Piece]
    asked_otherwise: bool = False


class ChatEncoder:
    """Encodes conversations with one tokenizer. Raises DataError if its chat template cannot be split into turns.

    Methods raise Rejection for a conversation that the template refuses or leaves a part out of, or whose prompt it
    rewrites once answered. `tools` is the JSON of a list.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        fast = byte_pair_encoder(tokenizer)
        self.fast = fast is not None
        """Whether tiktoken encodes, rather than the tokenizer itself."""
        self._ids: Callable[[str], list[int]] = fast or self._ids_of_text
        control = sorted(control_tokens(tokenizer), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, control)) or r"(?!)")
        self._whole = WholeText(tokenizer, self._control)
        self._cuts = self.fast or cuts_at_added_tokens(tokenizer)
        self._skeleton = functools.lru_cache(maxsize=MOST_SKELETONS)(self._make_skeleton)
        self._looked_for = bounded(lambda: content_rules(tokenizer.get_chat_template()), tokenizer, UnsupportedBase)
        try:
            if self._changes_plain_text():
                self._looked_for = None  # no content is plain
            if not (self._cuts and self._cuts_alike()):
                self._cuts, self.fast, self._ids = False, False, self._whole.ids
                self._skeleton.cache_clear()
            self._turns = turns_of(self._template, self._control)
        except Rejection as rejection:
            said = f": {rejection.__cause__}" if rejection.__cause__ else ""
            raise DataError(
                UNUSABLE[rejection.reason] + said,
                hint="use a base whose chat template only appends, or give one: --chat-template FILE, or chatml",
            ) from None

    @property
    def end_of_turn(self) -> tuple[str, int] | None:
        """The control token that ends an answer, and its id; None if the template ends it with none."""
        token = self._turns.end_token
        return (token, self._tokenizer.convert_tokens_to_ids(token)) if token else None

    def remarks(self) -> list[str]:
        """Return a sentence for each thing about the chat template that a user should know."""
        return remarks_on(self._tokenizer, self.end_of_turn)

    def spells_control(self, *messages: Message, tools: str = "") -> bool:
        """Whether a text of a conversation contains the text of a control token."""
        texts = (text for message in messages for text in message.values())
        return any(self._control.search(text) for text in texts) or self._control.search(tools) is not None

    def prompt(self, prompt: Sequence[Message], tools: str = "") -> list[int]:
        """Return the ids of the generation prompt: the prompt and the header of the assistant's turn."""
        if not tools and self._is_plain(prompt):
            return self._filled(self._skeleton(_roles(prompt)).prompt, [message["content"] for message in prompt])
        shown = self._shown(prompt, tools)
        return self._encoded(self._template(shown.messages, ask=True, tools=shown.tools), shown)

    def answered(self, prompt: Sequence[Message], answer: Sequence[Message], tools: str = "") -> Answer:
        """Encode an answer after its prompt, end of turn included."""
        messages = [*prompt, *answer]
        if len(answer) > 1 or tools or not self._is_plain(messages):
            return self._rendered(messages, len(prompt), tools)
        contents = [message["content"] for message in messages]
        skeleton = self._skeleton(_roles(prompt), _roles(answer))
        tail, ids = self._filled(skeleton.tail, contents), self._filled(skeleton.answered, contents)
        shared = _alike(tail, ids)
        return Answer(ids[shared:], (), len(tail) - shared, skeleton.asked_otherwise)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens included."""
        return str(self._tokenizer.decode(ids))

    def _is_plain(self, messages: Sequence[Message]) -> bool:
        """Whether the template copies all contents unchanged."""
        looked_for = self._looked_for
        if looked_for is None or any(
            looked_for.may_change(message["content"]) or len(message) > 2 for message in messages
        ):
            return False
        return self._cuts or not self.spells_control(*messages)

    def _make_skeleton(self, prompt: tuple[str, ...], answer: tuple[str, ...] = ()) -> _Skeleton:
        with_slots = slots([*prompt, *answer])
        if not answer:
            return _Skeleton(self._parsed(self._template(with_slots, ask=True), MARK), [], [])
        asked, whole, start = self._both(with_slots, len(prompt))
        tail, answered = self._parsed(asked[start:], MARK), self._parsed(whole[start:], MARK)
        return _Skeleton([], tail, answered, not whole.startswith(asked))

    def _both(
        self, messages: Sequence[Mapping[str, Any]], count: int, tools: list[Any] | None = None
    ) -> tuple[str, str, int]:
        """Render the first `count` messages as a generation prompt, and all of them.

        The third value is the end of the last control token that both texts share, in characters: what is before it
        has the same ids in both.
        """
        asked = self._template(messages[:count], ask=True, tools=tools)
        whole = self._template(messages, ask=False, tools=tools)
        shared = len(asked)
        if not whole.startswith(asked):
            if not whole.startswith(self._template(messages[:count], ask=False, tools=tools)):
                raise Rejection("template_rewrites_prompt")
            shared = len(os.path.commonprefix([asked, whole]))
        ends = (token.end() for token in self._control.finditer(asked) if token.end() <= shared)
        return asked, whole, max(ends, default=0) if self._cuts else 0

    def _rendered(self, messages: Sequence[Message], count: int, tools: str) -> Answer:
        """Render a conversation without slots and find its answer: the messages from `count` on."""
        shown = self._shown(messages, tools)
        asked, whole, start = self._both(shown.messages, count, shown.tools)
        tail, text = self._encoded(asked[start:], shown), whole[start:]
        ids = self._encoded(text, shown)
        shared = _alike(tail, ids)
        context: tuple[tuple[int, int], ...] = ()
        if len(messages) - count > 1:
            said = self._turns.spans(whole, min(len(asked), len(os.path.commonprefix([asked, whole]))))
            if len(said) != sum(message["role"] == "assistant" for message in messages[count:]):
                template = functools.partial(self._template, tools=shown.tools)
                said = turns_by_rendering(template, shown.messages, count, whole)
            # bounds of the turns inside the answer: its first turn begins with it, and its last one ends with it
            cuts = [at - start for span in said for at in span][1:-1]
            places = [_alike(self._encoded(text[:cut], shown), ids) - shared for cut in cuts]
            context = tuple(zip(places[::2], places[1::2], strict=True))
            if messages[-1]["role"] != "assistant":
                last = said[-1][1] - start
                ids = ids[: _alike(self._encoded(text[:last], shown), ids)]
        return Answer(ids[shared:], context, len(tail) - shared, not whole.startswith(asked))

    @functools.cached_property
    def _left_out(self) -> frozenset[str]:
        return left_out_by(self._template)

    def _shown(self, messages: Sequence[Message], tools: str) -> _Shown:
        """Return a conversation as the template gets it, with slots in place of text that spells a control token."""
        shown: list[dict[str, Any]] = list(map(shown_form, messages))
        listed: list[Any] | None = orjson.loads(tools) if tools else None
        if tools or any(len(message) > 2 for message in messages):
            check_is_shown(messages, tools, self._left_out)
        elif not self.spells_control(*messages):
            return _Shown(shown, listed, [], "")
        texts = str(orjson.dumps([shown, listed]), "utf-8")
        mark = next(chr(code) for code in PRIVATE_USE if chr(code) not in texts)
        spelt: list[str] = []

        def slot(match: re.Match[str]) -> str:
            spelt.append(match[0])
            return f"{mark}{len(spelt) - 1}{mark}"

        def with_slots(value: Any) -> Any:
            return map_texts(value, lambda text: self._control.sub(slot, text))

        return _Shown(with_slots(shown), with_slots(listed), spelt, mark)

    def _template(self, messages: Sequence[Mapping[str, Any]], *, ask: bool, tools: list[Any] | None = None) -> str:
        options: dict[str, Any] = {"tools": tools} if tools else {}
        try:
            return rendered(self._tokenizer, messages, ask=ask, error=UnsupportedBase, **options)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as problem:
            raise Rejection("template_refuses") from problem

    def _encoded(self, rendered: str, shown: _Shown) -> list[int]:
        if self._cuts:
            return self._filled(self._parsed(rendered, shown.mark), shown.spelt)
        return self._whole.ids_with(rendered, shown.mark, shown.spelt) if shown.spelt else self._whole.ids(rendered)

    def _parsed(self, rendered: str, mark: str) -> list[_Piece]:
        """Split rendered text at control tokens, if that is allowed, and encode the stretches that hold no slot."""
        pieces: list[_Piece] = []
        constant: list[int] = []
        at = 0
        for token in [*(self._control.finditer(rendered) if self._cuts else ()), None]:
            stretch = rendered[at : token.start() if token else len(rendered)]
            parts = re.split(f"{mark}([0-9]+){mark}", stretch) if mark and mark in stretch else [stretch]
            if len(parts) == 1:
                constant += self._ids(stretch) if stretch else []
            else:
                # the ids so far, then text and slots in turn; the next ids end the stretch
                pieces.append(constant)
                constant = []
                pieces += [int(part) if i % 2 else part for i, part in enumerate(parts)]
            if token:
                constant.append(self._tokenizer.convert_tokens_to_ids(token[0]))
                at = token.end()
        return [*pieces, constant]

    def _filled(self, pieces: list[_Piece], contents: list[str]) -> list[int]:
        """Put the contents into their slots and encode the stretches that hold slots."""
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

    def _ids_of_text(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _changes_plain_text(self) -> bool:
        """Whether the template changes even plain contents."""
        for messages in (PLAIN[:1], [*PLAIN, PLAIN[0]], PLAIN):
            ask = len(messages) % 2 == 1
            filled = self._template(slots(_roles(messages)), ask=ask)
            for i, message in enumerate(messages):
                filled = filled.replace(f"{MARK}{i}{MARK}", message["content"])
            if filled != self._template(messages, ask=ask):
                return True
        return False

    def _cuts_alike(self) -> bool:
        """Whether a plain conversation that is encoded in stretches has the ids that the tokenizer gives it."""
        prompt, answer = self.prompt(PLAIN[:1]), self.answered(PLAIN[:1], PLAIN[1:])
        ours = prompt[: len(prompt) - answer.replaced] + answer.ids
        return ours == self._whole.ids(self._template(PLAIN, ask=False))


def _roles(messages: Sequence[Message]) -> tuple[str, ...]:
    return tuple([message["role"] for message in messages])


def _alike(first: list[int], second: list[int]) -> int:
    """Return how many ids two lists have in common at the beginning."""
    if second[: len(first)] == first:  # nearly always, and many times faster than a loop
        return len(first)
    return next((i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other), len(second))
