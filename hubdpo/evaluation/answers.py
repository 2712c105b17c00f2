"""Let a model answer held-out prompts, and keep every answer as soon as there is one.

Base and adapter get the same prompts, the same settings and the same random numbers, so that what differs between their
answers is the adapter.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

from hubdpo import console
from hubdpo.artefacts.formats.messages import TOOLS, Message
from hubdpo.artefacts.manifests.manifest import Count, fingerprint
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.extras import dumped, prompt_of
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.models import ADAPTER, BASE, WORDS, Models
from hubdpo.model.device import hardware_name
from hubdpo.model.log_probs import causal_lm
from hubdpo.model.sampling import Sampling, generate, left_out_settings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ANSWERS_FILE = "answers.jsonl"
"""In the folder `evaluation` of a run: the answers of all models that were asked, see `Kept`."""
COLUMNS = ("prompt", TOOLS)
"""Columns of a split from which prompts are drawn."""
SEED = 0


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt: its row of the test split, and the chat, whose last message is not the assistant's.

    Each message has text for `role` and `content`, and what else it has in `extra` (hubdpo.data.pairs.extras). `tools`
    is the JSON of a list, "" if there are none.
    """

    row: int
    messages: tuple[Message, ...]
    tools: str = ""


class Took(BaseModel):
    """What an answer took: its part of the seconds of its batch, so many answers `at_once`, and on which hardware."""

    seconds: float
    at_once: Count
    device: str


class AnswerLine(BaseModel):
    """A kept answer, and beside it for readers the row and the model."""

    text: str
    tokens: Count
    ended: bool
    took: Took | None = None
    """None in answers of hubdpo 0.4 and earlier."""


ANSWERS = TypeAdapter(AnswerLine)


@dataclass(frozen=True)
class Answer:
    """The answer to the prompt of a row of the test split."""

    row: int
    text: str
    tokens: int
    """Without the stop token."""
    ended: bool
    """Whether the model ended it, within the tokens that it had."""
    took: Took | None = field(default=None, compare=False)


class Answers(NamedTuple):
    """The prompts that were drawn, and what each model answered to those that it could be asked."""

    prompts: list[Prompt]
    of: dict[str, list[Answer]]
    """By the name of the model, in the order of the prompts."""
    sampling: Sampling


def ask(
    models: Models, tokenizer: PreTrainedTokenizerBase, rows: Iterable[Mapping[str, Any]], *, kept: Kept, count: int,
    max_new_tokens: int, batch_size: int,
) -> Answers:  # fmt: skip
    """Let base and adapter answer prompts that are drawn from rows of a split, both with the settings of the base."""
    prompts, encoder = draw_prompts(rows, count) if count else [], ChatEncoder(tokenizer)
    end = encoder.end_of_turn
    with models.running(BASE) as model:
        sampling = Sampling.of(model, max_new_tokens=max_new_tokens, end_of_turn=end[1] if end else None)
        asked = _encoded(prompts, encoder, max_new_tokens, _room(model))
        if asked and (unused := left_out_settings(model)):
            console.warn(f"the answers are drawn without `{'`, `'.join(unused)}` of the base's generation config")
    answers = {}
    for name in (BASE, ADAPTER):
        with models.running(name) as model:
            answers[name] = answers_of(
                model, tokenizer, asked, sampling, kept=kept, model_key=models.keys[name], batch_size=batch_size,
                name=WORDS[name],
            )  # fmt: skip
    return Answers(prompts, answers, sampling)


def draw_prompts(rows: Iterable[Mapping[str, Any]], count: int, seed: int = SEED) -> list[Prompt]:
    """Draw distinct prompts from rows of a dataset, by the order of a hash, and return them in the order of the rows.

    The draw does not depend on the order of the rows, and a larger `count` adds prompts to those of a smaller one. The
    row of a prompt is the first that has it. How many there were to draw from is told.
    """
    seen: set[bytes] = set()
    total = 0

    def ranked() -> Iterable[tuple[bytes, Prompt]]:
        nonlocal total
        for number, row in enumerate(rows):
            total += 1
            messages, tools = prompt_of(row)
            content = dumped([seed, messages, tools]).encode()
            rank = hashlib.sha256(content).digest()
            if rank not in seen:
                seen.add(rank)
                yield rank, Prompt(number, tuple(messages), tools)

    drawn = [prompt for _, prompt in heapq.nsmallest(count, ranked(), key=lambda each: each[0])]
    if drawn:
        console.info(
            f"{console.counted(len(drawn), 'prompt')} to answer, of {len(seen):,} different ones in "
            f"{console.counted(total, 'held-out row')}"
        )
    return sorted(drawn, key=lambda prompt: prompt.row)


class Asked(NamedTuple):
    """A prompt and the token ids of its chat, up to where the assistant answers."""

    prompt: Prompt
    ids: list[int]


def answers_of(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Asked],
    sampling: Sampling,
    *,
    kept: Kept,
    model_key: str,
    batch_size: int,
    name: str,
) -> list[Answer]:
    """Return the answers of a model to prompts, generated now or kept from before, in the order of the prompts.

    Each is drawn with a seed of its own (model/sampling.py). `model_key` tells this model, its weights and their type,
    from all others; `name` is how it is called here. A batch is kept as soon as it is there, so that a killed
    evaluation loses one batch at most. The caller sets evaluation mode.
    """
    keys = [fingerprint(["answer", model_key, each.ids, sampling.facts()]) for each in asked]
    hardware = hardware_name(model.device.type)
    # the longest first, so that memory runs out at once if at all; the batches are those of all prompts, also where
    # some are kept, because numbers are rounded otherwise in a batch of another shape
    ordered = sorted(zip(asked, keys, strict=True), key=lambda each: -len(each[0].ids))
    with console.progress(f"answers of the {name}", len(asked)) as bar:
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            new = [(each, key) for each, key in batch if kept.get(key) is None]
            if new:
                ids = [each.ids for each, _ in new]
                began = time.perf_counter()
                generated = generate(model, ids, list(map(_seed, ids)), sampling)
                seconds = (time.perf_counter() - began) / len(new)
                took = Took(seconds=seconds, at_once=len(new), device=hardware)
                results = {}
                for (each, key), made in zip(new, generated, strict=True):
                    text = str(tokenizer.decode(made.ids, skip_special_tokens=True)).strip()
                    line = AnswerLine(text=text, tokens=len(made.ids), ended=made.ended, took=took)
                    results[key] = {"row": each.prompt.row, "model": name, **line.model_dump()}
                kept.add(results)
            bar.advance(bar.task_ids[0], len(batch))
    # the row is that of this dataset: the same prompt may have been another row of another one
    lines = [AnswerLine.model_validate(kept.get(key)) for key in keys]
    return [Answer(each.prompt.row, **dict(line)) for each, line in zip(asked, lines, strict=True)]


def _encoded(prompts: Sequence[Prompt], encoder: ChatEncoder, max_new_tokens: int, room: int | None) -> list[Asked]:
    """Return the prompts that can be answered, and tell the rows of the others."""
    asked, refused, too_long = [], [], []
    for prompt in prompts:
        try:
            ids = encoder.prompt(prompt.messages, prompt.tools)
        except Rejection:
            refused.append(prompt.row)
            continue
        if room is not None and len(ids) + max_new_tokens > room:
            too_long.append(prompt.row)
        else:
            asked.append(Asked(prompt, ids))
    for rows, why in (
        (refused, "the chat template refuses them or does not show a part of them"),
        (too_long, f"with {max_new_tokens} tokens of an answer they are longer than the {room} of the model"),
    ):
        if rows:
            named = console.listed([f"row {row}" for row in rows])
            console.warn(f"{console.counted(len(rows), 'prompt')} not asked: {why} ({named} of the held-out split)")
    return asked


def _room(model: PreTrainedModel | PeftModel) -> int | None:
    """Return how many tokens the model was made for, None if its config does not say."""
    most = getattr(causal_lm(model).config.get_text_config(), "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else None


def _seed(ids: Sequence[int]) -> int:
    return int.from_bytes(hashlib.sha256(repr((SEED, list(ids))).encode()).digest()[:7], "big")
