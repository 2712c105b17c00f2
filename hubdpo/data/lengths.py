"""Lengths in tokens of the base that will be trained, and what is done with pairs that are too long for it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hubdpo.data.clean import CUT
from hubdpo.data.encoder import ChatEncoder
from hubdpo.data.preference import Message, PreferenceExample, Rejection
from hubdpo.errors import ConfigError
from hubdpo.hub.client import download, resolve
from hubdpo.hub.reference import looks_like_folder, parse_ref
from hubdpo.manifest import sha256_file

OverLength = Literal["drop", "truncate", "keep", "error"]
TOKENIZER_FILES = ["tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json", "*.jinja", "config.json"]


@dataclass(frozen=True)
class Model:
    """Whose tokenizer counts: a folder, or a Hub id at a commit."""

    name: str
    revision: str | None = None
    digest: str | None = None
    """SHA-256 of the tokenizer, for a folder: what the counts depend on."""


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
    return Model(name, resolve(name, revision))


@functools.lru_cache(maxsize=2)
def encoder_of(model: Model) -> ChatEncoder:
    """Load the tokenizer of a model, once a process. Raise HubError or DataError when that cannot be."""
    from transformers import AutoTokenizer

    folder = Path(model.name)
    if model.revision is not None:
        folder = download(model.name, model.revision, allow_patterns=TOKENIZER_FILES)
    try:
        return ChatEncoder(AutoTokenizer.from_pretrained(folder))
    except (OSError, ValueError) as problem:
        first = str(problem).splitlines()[0]
        raise ConfigError(
            f"no tokenizer with a chat template in {model.name}: {first}", hint="--model Qwen/Qwen2-7B-Instruct"
        ) from None


@dataclass(frozen=True)
class Fitted:
    """Token ids of a pair that has at most the length asked for, and what was cut away to reach it."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    cuts: tuple[str, ...] = ()

    @property
    def longest(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def encode_pair(
    encoder: ChatEncoder, prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message]
) -> Fitted:
    """Encode a pair in full; a sequence trained on is `prompt + chosen` or `prompt + rejected`."""
    return Fitted(encoder.prompt(prompt), encoder.answer(prompt, chosen), encoder.answer(prompt, rejected))


def fit(encoder: ChatEncoder, prompt: Sequence[Message], pair: Fitted, *, most: int, prompt_budget: int) -> Fitted:
    """Cut a pair to `most` tokens as training does.

    A pair that is too long loses the beginning of its prompt first, whole messages before single tokens, down to
    `prompt_budget` tokens or to what the longer answer leaves; then both answers are cut at the same length.
    """
    longest = max(len(pair.chosen), len(pair.rejected))
    if pair.longest <= most:
        return pair
    ids, cuts = _cut_prompt(encoder, prompt, pair.prompt, max(prompt_budget, most - longest))
    room = most - len(ids)
    if longest > room:
        cuts = (*cuts, "response_cut")
    return Fitted(ids, pair.chosen[:room], pair.rejected[:room], cuts)


def _cut_prompt(
    encoder: ChatEncoder, prompt: Sequence[Message], ids: list[int], room: int
) -> tuple[list[int], tuple[str, ...]]:
    if len(ids) <= room:
        return ids, ()
    if (shorter := shortened(encoder, prompt, room)) is not None:
        return encoder.prompt(shorter), ("prompt_cut_by_message",)
    return ids[-room:], ("prompt_cut_by_token",)


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
    prompt, chosen, rejected = len(pair.prompt), len(pair.chosen), len(pair.rejected)
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
        shorter = shortened(encoder, example.prompt, most - max(chosen, rejected))
        if shorter is not None:
            example.prompt = shorter
            return Lengths(len(encoder.prompt(shorter)), chosen, rejected, CUT)
    raise Rejection("over_length")
