"""TODO."""

from __future__ import annotations

from typing import Literal

from hubdpo.data.pairs.batch import Lengths
from hubdpo.data.pairs.changes import CUT
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.pair import encode_pair, fit, shortened

OverLength = Literal["drop", "truncate", "keep", "error"]


def measure(example: PreferenceExample, encoder: ChatEncoder, *, most: int | None, over: OverLength) -> Lengths:
    """Count the tokens of a pair and apply the limit `most`; `truncate` takes the oldest turns out of the prompt.

    Raise Rejection for a pair that is too long, and for one whose answers are the same to the model: equal ids, or
    with `keep` equal as far as training at this length would read them.
    """
    pair = encode_pair(encoder, example.prompt, example.chosen, example.rejected)
    prompt, chosen, rejected = len(pair.prompt), len(pair.chosen_ids), len(pair.rejected_ids)
    if pair.chosen == pair.rejected:
        raise Rejection("zero_signal")
    if most is None or pair.longest <= most:
        return Lengths(prompt, chosen, rejected)
    if over == "keep":
        cut = fit(encoder, example.prompt, pair, most=most, prompt_budget=most // 2)
        if cut.chosen == cut.rejected:
            raise Rejection("zero_signal")
        return Lengths(prompt, chosen, rejected)
    if over == "truncate":
        shorter = shortened(encoder, example.prompt, most - max(chosen, rejected) + pair.taken)
        if shorter is not None:
            example.prompt = shorter
            return Lengths(len(encoder.prompt(shorter)) - pair.taken, chosen, rejected, CUT)
    raise Rejection("over_length")
