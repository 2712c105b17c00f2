"""Token ids of a pair, how many there are, and how a pair is cut to a maximum length."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hubdpo.data.pairs.batch import Lengths
from hubdpo.data.pairs.example import CUT, PreferenceExample, Rejection
from hubdpo.data.tokens.encoder import Answer, ChatEncoder


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of a prompt, and of everything that follows it in the chosen and the rejected conversation."""

    prompt: list[int]
    chosen: Answer
    rejected: Answer
    replaced: int
    """Number of ids at the end of the generation prompt that are not in `prompt`: the answers replace them."""
    notes: tuple[str, ...]
    """Names of what was cut or is unusual, to be counted."""
    example: PreferenceExample

    @property
    def longest(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen.ids), len(self.rejected.ids))


def encode_pair(encoder: ChatEncoder, example: PreferenceExample) -> EncodedPair:
    """Encode a pair in full.

    As in TRL, the prompt ends where one of the sequences first differs from the generation prompt, and both answers
    start there. Raise Rejection if the chat template refuses the conversation or rewrites an answered prompt.
    """
    prompt, tools = example.prompt, example.tools
    asked = encoder.prompt(prompt, tools)
    sides = [encoder.answered(prompt, answer, tools) for answer in (example.chosen, example.rejected)]
    replaced = max(side.replaced for side in sides)
    # a side that replaces fewer ids keeps the rest of the generation prompt at the start of its answer
    answers = [side.after(asked[len(asked) - replaced : len(asked) - side.replaced]) for side in sides]
    rewritten = any(side.asked_otherwise for side in sides)
    notes = {
        "asked_otherwise": rewritten,
        "prompt_end_merged": replaced > 0 and not rewritten,
        "turns_in_answer": any(side.context for side in sides),
    }
    noted = tuple(name for name, applies in notes.items() if applies)
    return EncodedPair(asked[: len(asked) - replaced], answers[0], answers[1], replaced, noted, example)


def fit(encoder: ChatEncoder, pair: EncodedPair, *, max_length: int, prompt_budget: int) -> EncodedPair:
    """Cut a pair to `max_length` tokens, as training does.

    First the beginning of the prompt goes, whole messages before single tokens, until `prompt_budget` tokens are left
    or the longer answer fits. Then both answers are cut to the same length. Raise ValueError for a budget that leaves
    no token of the prompt, or of the answers.
    """
    if not 0 < prompt_budget < max_length:
        raise ValueError(f"a prompt of {prompt_budget} tokens leaves no room in {max_length} for it and its answers")
    if pair.longest <= max_length:
        return pair
    room = max(prompt_budget, max_length - (pair.longest - len(pair.prompt)))
    if len(pair.prompt) > room:
        shorter = shortened(encoder, pair, room)
        note = "prompt_cut_by_message" if shorter else "prompt_cut_by_token"
        pair = replace(shorter or replace(pair, prompt=pair.prompt[-room:]), notes=(*pair.notes, note))
    room = max_length - len(pair.prompt)
    if pair.longest > max_length:
        pair = replace(pair, notes=(*pair.notes, "response_cut"))
    return replace(pair, chosen=pair.chosen.cut(room), rejected=pair.rejected.cut(room))


def shortened(encoder: ChatEncoder, pair: EncodedPair, room: int) -> EncodedPair | None:
    """Remove the oldest turns until the prompt has at most `room` tokens; None if it does not fit even then.

    An opening system message and the tools stay, and what is left begins with a user turn: a call and its results go
    together. The answers have the same ids in byte-level BPE, which cuts text into words first. Merges of other
    tokenizers may reach further.
    """
    prompt, tools = pair.example.prompt, pair.example.tools
    system = [message for message in prompt[:1] if message["role"] == "system"]
    for start in range(len(system) + 1, len(prompt)):
        if prompt[start]["role"] == "user":
            example = replace(pair.example, prompt=[*system, *prompt[start:]])
            ids = encoder.prompt(example.prompt, tools)
            if len(ids) - pair.replaced <= room:
                if encoder.fast:
                    return replace(pair, prompt=ids[: len(ids) - pair.replaced], example=example)
                anew = encode_pair(encoder, example)
                if len(anew.prompt) <= room:  # its answers may replace fewer ids than before
                    return anew
    return None


def measure(example: PreferenceExample, encoder: ChatEncoder, *, max_length: int | None, over_length: str) -> Lengths:
    """Count the tokens of a pair; `truncate` removes the oldest turns of a prompt that makes it longer than the limit.

    Raise Rejection for a pair that is too long, and for one whose answers have equal token ids: with `keep`, equal ids
    in the part that training at this length would see.
    """
    pair = encode_pair(encoder, example)
    lengths = Lengths(len(pair.prompt), len(pair.chosen.ids), len(pair.rejected.ids))
    if pair.chosen.scored == pair.rejected.scored:
        raise Rejection("zero_signal")
    if max_length is None or pair.longest <= max_length:
        return lengths
    if over_length == "keep":
        cut = fit(encoder, pair, max_length=max_length, prompt_budget=max_length // 2)
        if cut.chosen.scored == cut.rejected.scored:
            raise Rejection("zero_signal")
        return lengths
    if over_length == "truncate":
        # the tokens at the end of the prompt that the answers replace do not count against it
        shorter = shortened(encoder, pair, max_length - max(lengths.chosen, lengths.rejected))
        if shorter is not None and shorter.longest <= max_length:
            example.prompt = shorter.example.prompt
            return Lengths(len(shorter.prompt), len(shorter.chosen.ids), len(shorter.rejected.ids), CUT)
    raise Rejection("over_length")
