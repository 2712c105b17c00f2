"""Token ids of a pair, how many there are, and how a pair is cut to a maximum length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.batch import Lengths
from hubdpo.data.pairs.example import CUT, PreferenceExample, Rejection
from hubdpo.data.tokens.encoder import ChatEncoder

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of a prompt and of everything that follows it in the chosen and the rejected conversation.

    The spans `[start, stop)` in `chosen_context` and `rejected_context` are other turns inside an answer, and headers:
    the model reads them, and the loss does not score them.
    """

    prompt: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_context: Spans = ()
    rejected_context: Spans = ()
    replaced: int = 0
    """Number of ids at the end of the generation prompt that are not in `prompt`: the answers replace them."""
    notes: tuple[str, ...] = ()
    """Names of what was cut or is unusual, to be counted."""

    @property
    def chosen(self) -> list[int]:
        """The scored ids of the chosen answer."""
        return _scored(self.chosen_ids, self.chosen_context)

    @property
    def rejected(self) -> list[int]:
        """The scored ids of the rejected answer."""
        return _scored(self.rejected_ids, self.rejected_context)

    @property
    def longest(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen_ids), len(self.rejected_ids))


def _scored(ids: list[int], context: Spans) -> list[int]:
    if not context:
        return ids
    edges = [0, *(edge for span in context for edge in span), len(ids)]
    return [token for start, stop in zip(edges[::2], edges[1::2], strict=True) for token in ids[start:stop]]


def encode_pair(
    encoder: ChatEncoder, prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message]
) -> EncodedPair:
    """Encode a pair in full.

    As in TRL, the prompt ends where one of the sequences first differs from the generation prompt, and both answers
    start there. Raise Rejection if the chat template refuses the conversation or rewrites the prompt once it is
    answered.
    """
    asked = encoder.prompt(prompt)
    sides = [encoder.answered(prompt, answer) for answer in (chosen, rejected)]
    replaced = max(side.replaced for side in sides)
    # a side that replaces fewer ids keeps the rest of the generation prompt at the start of its answer
    heads = [asked[len(asked) - replaced : len(asked) - side.replaced] for side in sides]
    ids = [head + side.ids for head, side in zip(heads, sides, strict=True)]
    contexts = [
        tuple((start + len(head), stop + len(head)) for start, stop in side.context)
        for head, side in zip(heads, sides, strict=True)
    ]
    rewritten = any(side.asked_otherwise for side in sides)
    notes = {
        "asked_otherwise": rewritten,
        "prompt_end_merged": replaced > 0 and not rewritten,
        "turns_in_answer": any(contexts),
    }
    noted = tuple(name for name, applies in notes.items() if applies)
    return EncodedPair(asked[: len(asked) - replaced], ids[0], ids[1], contexts[0], contexts[1], replaced, noted)


def fit(
    encoder: ChatEncoder, prompt: Sequence[Message], pair: EncodedPair, *, max_length: int, prompt_budget: int
) -> EncodedPair:
    """Cut a pair to `max_length` tokens, as training does.

    First the beginning of the prompt goes, whole messages before single tokens, until `prompt_budget` tokens are left
    or the longer answer fits. Then both answers are cut to the same length.
    """
    if pair.longest <= max_length:
        return pair
    longest = max(len(pair.chosen_ids), len(pair.rejected_ids))
    ids, notes = _cut_prompt(encoder, prompt, pair, max(prompt_budget, max_length - longest))
    room = max_length - len(ids)
    if longest > room:
        notes = (*notes, "response_cut")
    return replace(
        pair, prompt=ids, chosen_ids=pair.chosen_ids[:room], rejected_ids=pair.rejected_ids[:room],
        chosen_context=_cut_spans(pair.chosen_context, room), rejected_context=_cut_spans(pair.rejected_context, room),
        notes=notes,
    )  # fmt: skip


def _cut_spans(context: Spans, room: int) -> Spans:
    return tuple((start, min(stop, room)) for start, stop in context if start < room)


def _cut_prompt(
    encoder: ChatEncoder, prompt: Sequence[Message], pair: EncodedPair, room: int
) -> tuple[list[int], tuple[str, ...]]:
    """Return at most `room` ids of the prompt, and the notes of the pair with what was cut."""
    if len(pair.prompt) <= room:
        return pair.prompt, pair.notes
    if (shorter := shortened(encoder, prompt, room + pair.replaced)) is not None:
        ids = encoder.prompt(shorter)
        return ids[: len(ids) - pair.replaced], (*pair.notes, "prompt_cut_by_message")
    return pair.prompt[-room:], (*pair.notes, "prompt_cut_by_token")


def shortened(encoder: ChatEncoder, prompt: Sequence[Message], room: int) -> list[Message] | None:
    """Remove the oldest turns until the prompt has at most `room` tokens; None if it does not fit even then.

    An opening system message stays, and what is left begins with a user turn.
    """
    system = [message for message in prompt[:1] if message["role"] == "system"]
    for start in range(len(system) + 1, len(prompt)):
        if prompt[start]["role"] == "user":
            shorter = [*system, *prompt[start:]]
            if len(encoder.prompt(shorter)) <= room:
                return shorter
    return None


def measure(example: PreferenceExample, encoder: ChatEncoder, *, max_length: int | None, over_length: str) -> Lengths:
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
