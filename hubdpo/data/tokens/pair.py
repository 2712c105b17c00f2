"""Lengths in tokens of the base that will be trained, and what is done with pairs that are too long for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.tokens.encoder import ChatEncoder

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Fitted:
    """Token ids of a pair that has at most the length asked for, and what was done to reach it.

    `chosen_ids` and `rejected_ids` are all that follows the prompt. Of these the spans `[start, stop)` in `..._context`
    are other turns inside an answer and headers: read, and not scored.
    """

    prompt: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_context: Spans = ()
    rejected_context: Spans = ()
    taken: int = 0
    """How many of the last ids of the prompt, as it is asked, are left out: the answers have what stands there."""
    notes: tuple[str, ...] = ()
    """What is to be counted of it."""

    @property
    def chosen(self) -> list[int]:
        """The ids of the chosen answer that are scored."""
        return _scored(self.chosen_ids, self.chosen_context)

    @property
    def rejected(self) -> list[int]:
        return _scored(self.rejected_ids, self.rejected_context)

    @property
    def longest(self) -> int:
        return len(self.prompt) + max(len(self.chosen_ids), len(self.rejected_ids))


def _scored(ids: list[int], context: Spans) -> list[int]:
    if not context:
        return ids
    edges = [0, *(edge for span in context for edge in span), len(ids)]
    return [id_ for start, stop in zip(edges[::2], edges[1::2], strict=True) for id_ in ids[start:stop]]


def encode_pair(
    encoder: ChatEncoder, prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message]
) -> Fitted:
    """Encode a pair in full; a sequence trained on is the prompt and all ids of an answer.

    The prompt ends where the sequences no longer go on as it is asked: TRL does the same. Raise Rejection when the
    template refuses the conversation or writes the prompt otherwise once it is answered.
    """
    asked = encoder.prompt(prompt)
    sides = [encoder.answered(prompt, answer) for answer in (chosen, rejected)]
    taken = max(side.taken for side in sides)
    given = [asked[len(asked) - taken : len(asked) - side.taken] for side in sides]
    ids = [before + side.ids for before, side in zip(given, sides, strict=True)]
    contexts = [
        tuple((start + len(before), stop + len(before)) for start, stop in side.context)
        for before, side in zip(given, sides, strict=True)
    ]
    notes = {
        "asked_otherwise": any(side.asked_otherwise for side in sides),
        "prompt_end_merged": taken > 0 and not any(side.asked_otherwise for side in sides),
        "turns_in_answer": any(contexts),
    }
    noted = tuple(name for name, holds in notes.items() if holds)
    return Fitted(asked[: len(asked) - taken], ids[0], ids[1], contexts[0], contexts[1], taken, noted)


def fit(encoder: ChatEncoder, prompt: Sequence[Message], pair: Fitted, *, most: int, prompt_budget: int) -> Fitted:
    """Cut a pair to `most` tokens as training does.

    A pair that is too long loses the beginning of its prompt first, whole messages before single tokens, down to
    `prompt_budget` tokens or to what the longer answer leaves; then both answers are cut at the same length.
    """
    longest = max(len(pair.chosen_ids), len(pair.rejected_ids))
    if pair.longest <= most:
        return pair
    ids, cuts = _cut_prompt(encoder, prompt, pair, max(prompt_budget, most - longest))
    room = most - len(ids)
    if longest > room:
        cuts = (*cuts, "response_cut")
    return Fitted(
        ids, pair.chosen_ids[:room], pair.rejected_ids[:room], _within(pair.chosen_context, room),
        _within(pair.rejected_context, room), pair.taken, (*pair.notes, *cuts),
    )  # fmt: skip


def _within(context: Spans, room: int) -> Spans:
    return tuple((start, min(stop, room)) for start, stop in context if start < room)


def _cut_prompt(
    encoder: ChatEncoder, prompt: Sequence[Message], pair: Fitted, room: int
) -> tuple[list[int], tuple[str, ...]]:
    if len(pair.prompt) <= room:
        return pair.prompt, ()
    if (shorter := shortened(encoder, prompt, room + pair.taken)) is not None:
        ids = encoder.prompt(shorter)
        return ids[: len(ids) - pair.taken], ("prompt_cut_by_message",)
    return pair.prompt[-room:], ("prompt_cut_by_token",)


def shortened(encoder: ChatEncoder, prompt: Sequence[Message], room: int) -> list[Message] | None:
    """Return the prompt without its oldest turns, so that it has at most `room` tokens; None when no turn can go."""
    system = [message for message in prompt[:1] if message["role"] == "system"]
    for start in range(len(system) + 1, len(prompt)):
        if prompt[start]["role"] == "user":
            shorter = [*system, *prompt[start:]]
            if len(encoder.prompt(shorter)) <= room:
                return shorter
    return None
