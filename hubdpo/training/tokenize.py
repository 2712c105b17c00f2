"""From messages to token ids for training: the same cuts for both answers, and a count of every row changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hubdpo.data.encoder import ChatEncoder
from hubdpo.data.lengths import Fitted, encode_pair, fit

Message = dict[str, str]


class PairTokenizer:
    """Encode pairs into at most `max_length` tokens, counting in `counts` every row that was changed.

    A pair that is too long is cut as hubdpo.data.lengths.fit says. Text that spells a control token (`<|im_end|>`)
    stays text. The encoder is the one with which prepare counts, so both mean the same lengths.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, prompt_budget: int) -> None:
        self.counts: Counter[str] = Counter()
        self._encoder = ChatEncoder(tokenizer)
        self._max_length = max_length
        self._prompt_budget = prompt_budget

    def rows(self, examples: Iterable[Mapping[str, Any]]) -> list[dict[str, list[int]]]:
        """Return the rows that TRL's collator reads: `prompt_ids`, `chosen_ids`, `rejected_ids`, pairs in order."""
        pairs = (self.pair(example["prompt"], example["chosen"], example["rejected"]) for example in examples)
        return [
            {"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected}
            for pair in pairs
            if pair is not None
        ]

    def pair(self, prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Fitted | None:
        """Encode one pair; None, counted as `dropped_identical`, when the answers are equal once they are cut."""
        self.counts["rows"] += 1
        if any(self._encoder.spells_special(message["content"]) for message in (*prompt, *chosen, *rejected)):
            self.counts["special_text_kept_as_text"] += 1
        whole = encode_pair(self._encoder, prompt, chosen, rejected)
        pair = fit(self._encoder, prompt, whole, most=self._max_length, prompt_budget=self._prompt_budget)
        self.counts.update(pair.cuts)
        if pair.chosen == pair.rejected:
            self.counts["dropped_identical"] += 1
            return None
        self.counts["pairs"] += 1
        self.counts["tokens"] += 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected)
        return pair
