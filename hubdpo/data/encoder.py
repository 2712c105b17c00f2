"""From messages to token ids, each message encoded once, the same ids that the tokenizer gives to the rendered text.

The chat template is rendered once for every order of roles, with a slot where each content goes. Control tokens
(`<|im_start|>`) cut a rendered conversation into stretches that byte-level BPE cannot merge across, so the ids of a
conversation are the ids of its stretches. Text that only spells a control token stays text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from hubdpo.data.byte_pairs import byte_pair_encoder
from hubdpo.data.preference import Message
from hubdpo.errors import DataError

_SLOT = re.compile("\ue000([0-9]+)\ue001")
PLAIN = ("what is it?", "It is 名 1.")
ODD = ("\n a <think>\nb</think>\n<tool_response> ", " \n<think>x</think>\n\ny \n")
_ODD = re.compile(r"\A\s|\s\Z|think>|tool_response")
"""Contents that templates of the Qwen family are known to change."""
MOST_SKELETONS = 4096

_Piece = int | str | list[int]
"""Of a rendered conversation: the number of a slot, text beside a slot, or the ids of what never changes."""


class ChatEncoder:
    """Encode conversations of one tokenizer. Raise DataError when its template cannot be taken apart."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        fast = byte_pair_encoder(tokenizer)
        self.fast = fast is not None
        """Whether tiktoken does the work."""
        self._ids: Callable[[str], list[int]] = fast or self._slow_ids
        special = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        self._skeletons: dict[tuple[str, ...], tuple[list[_Piece], list[_Piece]]] = {}
        self._renders_odd = self._renders_plain = True
        self._renders_odd, self._renders_plain = self._is_changed(ODD), self._is_changed(PLAIN)
        self._check()

    def spells_special(self, text: str) -> bool:
        """Tell whether a text holds the name of a control token."""
        return self._special.search(text) is not None

    def prompt(self, prompt: Sequence[Message]) -> list[int]:
        """Return the ids of a prompt up to where the assistant goes on."""
        pieces, _ = self._pieces(prompt, ())
        return self._filled(pieces, [message["content"] for message in prompt])

    def answer(self, prompt: Sequence[Message], answer: Sequence[Message]) -> list[int]:
        """Return the ids of an answer alone, end of turn included."""
        _, pieces = self._pieces(prompt, answer)
        return self._filled(pieces, [message["content"] for message in (*prompt, *answer)])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens shown."""
        return str(self._tokenizer.decode(ids))

    def _pieces(self, prompt: Sequence[Message], answer: Sequence[Message]) -> tuple[list[_Piece], list[_Piece]]:
        messages = [*prompt, *answer]
        if self._renders_plain or (self._renders_odd and any(_ODD.search(m["content"]) for m in messages)):
            return self._rendered(messages, len(prompt), all_slots=False)
        key = (*(message["role"] for message in messages), str(len(prompt)))
        if (known := self._skeletons.get(key)) is None:
            if len(self._skeletons) >= MOST_SKELETONS:
                self._skeletons.clear()
            known = self._skeletons[key] = self._rendered(messages, len(prompt), all_slots=True)
        return known

    def _rendered(
        self, messages: Sequence[Message], asked: int, *, all_slots: bool
    ) -> tuple[list[_Piece], list[_Piece]]:
        """Render with a slot for every content, or only for those that spell a control token."""
        safe = [
            {**message, "content": f"\ue000{i}\ue001" if all_slots or self.spells_special(text) else text}
            for i, message in enumerate(messages)
            for text in (message["content"],)
        ]
        prompt = self._template(safe[:asked], ask=True)
        if asked == len(messages):
            return self._parsed(prompt), []
        whole = self._template(safe, ask=False)
        if not whole.startswith(prompt):
            raise DataError(
                "the chat template changes a prompt once it is answered, so the answer cannot be told apart",
                hint="use a base whose chat template only appends, such as Qwen/Qwen2-7B-Instruct",
            )
        return self._parsed(prompt), self._parsed(whole[len(prompt) :])

    def _template(self, messages: Sequence[Message], *, ask: bool) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))

    def _parsed(self, rendered: str) -> list[_Piece]:
        """Cut rendered text at control tokens; what lies between them and holds no slot is encoded here, once."""
        pieces: list[_Piece] = []
        constant: list[int] = []
        at = 0
        for token in [*self._special.finditer(rendered), None]:
            stretch = rendered[at : token.start() if token else len(rendered)]
            parts = _SLOT.split(stretch)
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

    def _is_changed(self, contents: tuple[str, str]) -> bool:
        """Tell whether the template writes these contents otherwise than they are."""
        question, answer = ({"role": r, "content": c} for r, c in zip(("user", "assistant"), contents, strict=True))
        for messages in ([question], [question, answer, question], [question, answer]):
            slots = [{**message, "content": f"\ue000{i}\ue001"} for i, message in enumerate(messages)]
            ask = len(messages) % 2 == 1
            filled = _SLOT.sub(lambda m, own=messages: own[int(m[1])]["content"], self._template(slots, ask=ask))  # type: ignore[misc]
            if filled != self._template(messages, ask=ask):
                return True
        return False

    def _check(self) -> None:
        messages = [{"role": "user", "content": PLAIN[0]}, {"role": "assistant", "content": PLAIN[1]}]
        ours = self.prompt(messages[:1]) + self.answer(messages[:1], messages[1:])
        theirs = self._tokenizer(self._template(messages, ask=False), add_special_tokens=False)["input_ids"]
        if ours != theirs:
            raise DataError(
                "the tokenizer merges text across its control tokens, so messages cannot be encoded apart",
                hint="use a base with byte-level BPE, such as Qwen/Qwen2-7B-Instruct",
            )
