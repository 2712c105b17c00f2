"""Lengths in tokens of the base that will be trained, and what is done with pairs that are too long for it."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hubdpo.data.changes import CUT
from hubdpo.data.encoder import ChatEncoder
from hubdpo.data.preference import Message, PreferenceExample, Rejection
from hubdpo.errors import ConfigError
from hubdpo.file_entries import sha256_file
from hubdpo.hub.base import TOKENIZER_FILES
from hubdpo.hub.client import download, resolve
from hubdpo.hub.failures import no_folder
from hubdpo.hub.pretrained import read_tokenizer
from hubdpo.hub.reference import looks_like_folder, parse_ref

OverLength = Literal["drop", "truncate", "keep", "error"]


@dataclass(frozen=True)
class Model:
    """Whose tokenizer counts: a folder, or a Hub id at a commit."""

    name: str
    revision: str | None = None
    digest: str | None = None
    """SHA-256 of the tokenizer, for a folder: what the counts depend on."""
    template_kwargs: str | None = None
    """What its chat template is given, as JSON."""


def find_model(ref: str) -> Model:
    """Pin `ref`, a folder or `USER/NAME[@REVISION]`. Raise ConfigError or HubError when there is no such model."""
    if Path(ref).is_dir():
        tokenizer = Path(ref) / "tokenizer.json"
        if not tokenizer.is_file():
            raise ConfigError(f"no tokenizer.json in {ref}", hint="--model Qwen/Qwen2-7B-Instruct")
        return Model(str(Path(ref).resolve()), digest=sha256_file(tokenizer))
    if looks_like_folder(ref):
        raise ConfigError(f"model not found: {ref}", hint="give a folder, or a Hub id such as Qwen/Qwen2-7B-Instruct")
    name, revision = parse_ref(ref)
    with no_folder(ref):
        return Model(name, resolve(name, revision))


@functools.lru_cache(maxsize=2)
def encoder_of(model: Model) -> ChatEncoder:
    """Load the tokenizer of a model, once a process. Raise HubError or DataError when that cannot be."""
    folder = Path(model.name)
    if model.revision is not None:
        folder = download(model.name, model.revision, allow_patterns=[*TOKENIZER_FILES, "config.json"])
    kwargs = json.loads(model.template_kwargs) if model.template_kwargs else None
    try:
        return ChatEncoder(read_tokenizer(folder, kwargs))
    except (OSError, ValueError) as problem:
        first = str(problem).splitlines()[0]
        raise ConfigError(
            f"no tokenizer with a chat template in {model.name}: {first}", hint="--model Qwen/Qwen2-7B-Instruct"
        ) from None


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


@dataclass(frozen=True)
class Lengths:
    """Tokens of the three parts as they will be trained on, template included, and whether the row was changed."""

    prompt: int
    chosen: int
    rejected: int
    changes: int = 0


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
