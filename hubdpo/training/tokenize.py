"""From messages to token ids: the chat template, and cuts that are the same for both answers and are counted.

The whole conversation is rendered, never an answer alone, because the template of Qwen2 adds a system turn to whatever
comes first. Prompt and answer are encoded apart, as they are at inference, where the model goes on from a finished
prompt; so no token spans the border.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hubdpo.errors import TrainingError

Message = Mapping[str, str]
_SLOT = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True)
class Pair:
    """Token ids of one pair: the sequences trained on are `prompt + chosen` and `prompt + rejected`."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class PairTokenizer:
    """Encode pairs into at most `max_length` tokens, counting in `counts` every row that was changed.

    A pair that is too long loses the beginning of its prompt first, whole messages before single tokens, down to
    `prompt_budget` tokens or to what the longer answer leaves; then both answers are cut at the same length. Text that
    spells a control token (`<|im_end|>`) stays text.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, prompt_budget: int) -> None:
        self.counts: Counter[str] = Counter()
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._prompt_budget = prompt_budget
        special = sorted(set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab()))
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    def rows(self, examples: Iterable[Mapping[str, Any]]) -> list[dict[str, list[int]]]:
        """Return the rows that TRL's collator reads: `prompt_ids`, `chosen_ids`, `rejected_ids`, pairs in order."""
        pairs = (self.pair(example["prompt"], example["chosen"], example["rejected"]) for example in examples)
        return [
            {"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected}
            for pair in pairs
            if pair is not None
        ]

    def pair(self, prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Pair | None:
        """Encode one pair; None, counted as `dropped_identical`, when the answers are equal once they are cut."""
        self.counts["rows"] += 1
        if any(self._special.search(message["content"]) for message in (*prompt, *chosen, *rejected)):
            self.counts["special_text_kept_as_text"] += 1
        prompt_ids, chosen_ids = self._split(prompt, chosen)
        _, rejected_ids = self._split(prompt, rejected)
        longest = max(len(chosen_ids), len(rejected_ids))
        if len(prompt_ids) + longest > self._max_length:
            prompt_ids = self._cut_prompt(prompt, prompt_ids, max(self._prompt_budget, self._max_length - longest))
            room = self._max_length - len(prompt_ids)
            if longest > room:
                self.counts["response_cut"] += 1
                chosen_ids, rejected_ids = chosen_ids[:room], rejected_ids[:room]
        if chosen_ids == rejected_ids:
            self.counts["dropped_identical"] += 1
            return None
        self.counts["pairs"] += 1
        self.counts["tokens"] += 2 * len(prompt_ids) + len(chosen_ids) + len(rejected_ids)
        return Pair(prompt_ids, chosen_ids, rejected_ids)

    def _cut_prompt(self, prompt: list[Message], ids: list[int], room: int) -> list[int]:
        if len(ids) <= room:
            return ids
        system = [message for message in prompt[:1] if message["role"] == "system"]
        turns = prompt[len(system) :]
        for start in range(1, len(turns)):
            if turns[start]["role"] != "user":
                continue
            shorter = self._encode([*system, *turns[start:]], ask=True)
            if len(shorter) <= room:
                self.counts["prompt_cut_by_message"] += 1
                return shorter
        self.counts["prompt_cut_by_token"] += 1
        return ids[-room:]

    def _split(self, prompt: list[Message], answer: list[Message]) -> tuple[list[int], list[int]]:
        asked = self._render(prompt, ask=True)
        whole = self._render([*prompt, *answer], ask=False)
        if not whole.startswith(asked):
            raise TrainingError(
                "the chat template changes a prompt once it is answered, so the answer cannot be told apart",
                hint="use a base whose chat template only appends, such as Qwen/Qwen2-7B-Instruct",
            )
        contents = [message["content"] for message in (*prompt, *answer)]
        return self._fill(asked, contents), self._fill(whole[len(asked) :], contents)

    def _encode(self, messages: list[Message], *, ask: bool) -> list[int]:
        return self._fill(self._render(messages, ask=ask), [message["content"] for message in messages])

    def _render(self, messages: list[Message], *, ask: bool) -> str:
        """Render with a numbered slot for each content that spells a control token."""
        safe = [
            {**message, "content": f"\ue000{i}\ue001"} if self._special.search(message["content"]) else dict(message)
            for i, message in enumerate(messages)
        ]
        text: str = self._tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=ask)
        return text

    def _fill(self, rendered: str, contents: list[str]) -> list[int]:
        ids: list[int] = []
        for i, part in enumerate(_SLOT.split(rendered)):
            if i % 2 == 1:
                ids += self._ids(contents[int(part)], split_special_tokens=True)
            elif part:
                ids += self._ids(part)
        return ids

    def _ids(self, text: str, **options: Any) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, **options)["input_ids"]
        return ids
