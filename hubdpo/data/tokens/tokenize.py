"""From messages to token ids for training: the same cuts for both answers, and a count of every row changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hubdpo.data.pairs.example import Rejection
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.pair import Fitted, encode_pair, fit

Message = dict[str, str]

TOLD = {
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
"""What is counted of rows that are kept."""
DROPPED = {
    "dropped_identical": "the answers are equal once they are cut",
    "dropped_template_rewrites_prompt": "the chat template writes the prompt otherwise once it is answered",
    "dropped_template_refuses": "the chat template refuses the conversation",
    "dropped_turns_not_told_apart": "the turns inside an answer cannot be told apart: the chat template begins or ends "
    "the assistant's with no control token",
    "dropped_special_text": "they spell a control token, which this tokenizer cannot keep as text",
}
"""Why pairs are left out."""


def scored_places(row: Mapping[str, list[int]], side: str) -> list[int]:
    """Return which ids of the answer `chosen` or `rejected` are scored, counted from the beginning of the sequence."""
    first, context = len(row["prompt_ids"]), row.get(f"{side}_context") or []
    edges = [0, *context, len(row[f"{side}_ids"])]
    return [
        place
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
        for place in range(first + start, first + stop)
    ]


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

    def dropped(self) -> list[str]:
        """Say how many pairs were left out, and why."""
        return [f"{self.counts[name]:,} pairs dropped: {why}" for name, why in DROPPED.items() if self.counts[name]]

    def told(self) -> list[str]:
        """Say all that was counted, what was left out last."""
        return [*(f"{self.counts[name]:,} {what}" for name, what in TOLD.items() if self.counts[name]), *self.dropped()]

    @property
    def end_of_turn(self) -> tuple[str, int] | None:
        """The control token with which the template ends an answer, and its id."""
        return self._encoder.end_of_turn

    def rows(self, examples: Iterable[Mapping[str, Any]]) -> list[dict[str, list[int]]]:
        """Return the rows that the collator reads, pairs in order: `prompt_ids`, `chosen_ids` and `rejected_ids`.

        `chosen_context` and `rejected_context` hold the bounds, start and stop in turn, of what is not scored in them.
        """
        pairs = (self.pair(example["prompt"], example["chosen"], example["rejected"]) for example in examples)
        return [
            {
                "prompt_ids": pair.prompt,
                "chosen_ids": pair.chosen_ids,
                "rejected_ids": pair.rejected_ids,
                "chosen_context": [bound for span in pair.chosen_context for bound in span],
                "rejected_context": [bound for span in pair.rejected_context for bound in span],
            }
            for pair in pairs
            if pair is not None
        ]

    def pair(self, prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Fitted | None:
        """Encode one pair; None, counted under one of DROPPED, when it is left out."""
        self.counts["rows"] += 1
        if any(self._encoder.spells_control(message["content"]) for message in (*prompt, *chosen, *rejected)):
            self.counts["special_text_kept_as_text"] += 1
        try:
            whole = encode_pair(self._encoder, prompt, chosen, rejected)
            pair = fit(self._encoder, prompt, whole, most=self._max_length, prompt_budget=self._prompt_budget)
        except Rejection as rejection:
            self.counts[f"dropped_{rejection.reason}"] += 1
            return None
        self.counts.update(pair.notes)
        if pair.chosen == pair.rejected:
            self.counts["dropped_identical"] += 1
            return None
        self.counts["pairs"] += 1
        self.counts["tokens"] += 2 * len(pair.prompt) + len(pair.chosen_ids) + len(pair.rejected_ids)
        return pair
