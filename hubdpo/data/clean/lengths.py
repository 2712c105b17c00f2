"""Count the tokens of a pair and apply `--max-length`."""

from __future__ import annotations

from typing import Literal

from hubdpo.data.pairs.batch import Lengths
from hubdpo.data.pairs.example import CUT, PreferenceExample, Rejection
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.pair import encode_pair, fit, shortened

OverLength = Literal["drop", "truncate", "keep", "error"]


def measure(
    example: PreferenceExample, encoder: ChatEncoder, *, max_length: int | None, over_length: OverLength
) -> Lengths:
    """Count the tokens of a pair; `truncate` removes the oldest turns of a prompt that makes it longer than the limit.

    Raise Rejection for a pair that is too long, and for one whose answers have equal token ids: with `keep`, equal ids
    in the part that training at this length would see.
    """
    pair = encode_pair(encoder, example.prompt, example.chosen, example.rejected)
    lengths = Lengths(len(pair.prompt), len(pair.chosen_ids), len(pair.rejected_ids))
    if pair.chosen == pair.rejected:
        raise Rejection("zero_signal")
    if max_length is None or pair.longest <= max_length:
        return lengths
    if over_length == "keep":
        cut = fit(encoder, example.prompt, pair, max_length=max_length, prompt_budget=max_length // 2)
        if cut.chosen == cut.rejected:
            raise Rejection("zero_signal")
        return lengths
    if over_length == "truncate":
        # the tokens at the end of the prompt that the answers replace do not count against it
        budget = max_length - max(lengths.chosen, lengths.rejected) + pair.replaced
        shorter = shortened(encoder, example.prompt, budget)
        if shorter is not None:
            example.prompt = shorter
            return Lengths(len(encoder.prompt(shorter)) - pair.replaced, lengths.chosen, lengths.rejected, CUT)
    raise Rejection("over_length")
