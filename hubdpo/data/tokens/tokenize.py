"""Encode pairs for training: both answers are cut alike, and every row that is changed or dropped is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from hubdpo.console import counted
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.extras import example_of
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.members import ANOTHER_BASE, NOT_SHOWN
from hubdpo.data.tokens.pair import EncodedPair, encode_pair, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEPT = {
    "prompt_cut_by_message": "prompts lost their first messages",
    "prompt_cut_by_token": "prompts lost their first tokens",
    "response_cut": "pairs had an answer cut, end of turn included",
    "special_text_kept_as_text": "rows spell a control token, which was kept as text",
    "turns_in_answer": "rows have other turns inside an answer, which are read and not scored",
    "prompt_end_merged": "rows have an answer whose first characters make one token with the end of the prompt; "
    "that token is scored with the answer",
    "asked_otherwise": "rows have an answer that the chat template writes otherwise than it asks for one; it is "
    "trained on as it is written, from where the two part (see `--chat-template-kwargs`)",
}
"""Counts of rows that are kept, in words."""
DROPPED = {
    "dropped_identical": "the answers are equal once they are cut",
    "dropped_template_rewrites_prompt": "the chat template rewrites the prompt once it is answered",
    "dropped_template_refuses": "the chat template refuses the conversation",
    "dropped_turns_not_told_apart": "the turns inside an answer cannot be told apart: the chat template begins or ends "
    "the assistant's with no control token, and writes a turn otherwise once others follow",
    "dropped_template_without_tools": "the chat template does not show the tools of a chat",
    "dropped_template_without_tool_calls": "the chat template does not show tool calls",
    "dropped_template_without_reasoning": "the chat template does not show `reasoning_content`",
    "dropped_special_text": "they spell a control token, which this tokenizer cannot keep as text",
}
"""Counts of pairs that are dropped, in words."""


def scored_places(row: Mapping[str, Any], side: str) -> list[int]:
    """Return the positions, from the beginning of the sequence, of the ids of `chosen` or `rejected` that are scored.

    `row` is a row of `PairTokenizer.rows`, or one of TokenRows.
    """
    first, context = len(row["prompt_ids"]), list(map(int, row.get(f"{side}_context", ())))
    edges = [0, *context, len(row[f"{side}_ids"])]
    return [
        position
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
        for position in range(first + start, first + stop)
    ]


@dataclass
class Account:
    """What became of the rows that were encoded: their numbers by what happened to them."""

    counts: Counter[str] = field(default_factory=Counter)
    end_of_turn: tuple[str, int] | None = None
    """The control token with which the chat template ends an answer, and its id."""

    def dropped(self) -> list[str]:
        """Return a sentence for each reason why pairs were dropped."""
        return [
            f"{counted(self.counts[name], 'pair')} dropped: {why}" for name, why in DROPPED.items() if self.counts[name]
        ]

    def hint(self) -> str:
        """Return what to do if no pair is left."""
        reason = max(DROPPED, key=lambda name: self.counts[name]).removeprefix("dropped_")
        return ANOTHER_BASE if reason in NOT_SHOWN.values() else "raise `--max-length`, or correct the rows"

    def remarks(self) -> list[str]:
        """Return a sentence for each way in which rows were changed or are unusual, then those of `dropped`."""
        return [*(f"{self.counts[name]:,} {what}" for name, what in KEPT.items() if self.counts[name]), *self.dropped()]


class PairTokenizer(Account):
    """Encode pairs into at most `max_length` tokens each, counted as in `hubdpo prepare`, and account for every row."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase | ChatEncoder, *, max_length: int, prompt_budget: int
    ) -> None:
        self._encoder = tokenizer if isinstance(tokenizer, ChatEncoder) else ChatEncoder(tokenizer)
        self._max_length = max_length
        self._prompt_budget = prompt_budget
        super().__init__(end_of_turn=self._encoder.end_of_turn)

    def rows(self, examples: Iterable[Mapping[str, Any]], first: int = 0) -> list[dict[str, Any]]:
        """Return a row for the collator for each row of a dataset that is kept, in order.

        A row has `prompt_ids`, `chosen_ids` and `rejected_ids`, and in `chosen_context` and `rejected_context` the
        bounds (start, stop, start, ...) of the spans of an answer that are not scored. `row` is its number, counted
        from `first`.
        """
        pairs = (self.pair(example_of(row)) for row in examples)
        return [
            {
                "prompt_ids": pair.prompt,
                "chosen_ids": pair.chosen.ids,
                "rejected_ids": pair.rejected.ids,
                "chosen_context": [*chain.from_iterable(pair.chosen.context)],
                "rejected_context": [*chain.from_iterable(pair.rejected.context)],
                "row": number,
            }
            for number, pair in enumerate(pairs, first)
            if pair is not None
        ]

    def pair(self, example: PreferenceExample) -> EncodedPair | None:
        """Encode one pair; None if it is dropped, which is counted under its reason in DROPPED."""
        self.counts["rows"] += 1
        messages = (*example.prompt, *example.chosen, *example.rejected)
        if self._encoder.spells_control(*messages, tools=example.tools):
            self.counts["special_text_kept_as_text"] += 1
        try:
            whole = encode_pair(self._encoder, example)
            pair = fit(self._encoder, whole, max_length=self._max_length, prompt_budget=self._prompt_budget)
        except Rejection as rejection:
            self.counts[f"dropped_{rejection.reason}"] += 1
            return None
        self.counts.update(pair.notes)
        if pair.chosen.scored == pair.rejected.scored:
            self.counts["dropped_identical"] += 1
            return None
        self.counts["pairs"] += 1
        self.counts["tokens"] += 2 * len(pair.prompt) + len(pair.chosen.ids) + len(pair.rejected.ids)
        return pair
