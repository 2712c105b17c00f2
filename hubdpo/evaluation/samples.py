"""The answers that a card shows: to a few fixed prompts, and, where the publisher consents, to some of the dataset's.

Neither are chosen: the former are the same for every adapter, the latter are drawn by chance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.answered import Answered
from hubdpo.artefacts.manifests.evaluation import Quote, Quoted, Sample
from hubdpo.errors import UnsupportedBase
from hubdpo.evaluation.answers import SEED
from hubdpo.evaluation.judge.comparison import in_words
from hubdpo.evaluation.models import ADAPTER, BASE, Models
from hubdpo.evaluation.scoring import Once, anew
from hubdpo.model.generation import answer_chat
from hubdpo.secrets import find_secrets, redact

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS = (
    "How do I keep basil alive on a windowsill?",
    "Explain to a ten-year-old why the sky is blue.",
    "Write two polite sentences that ask to move a meeting from Monday to Tuesday.",
    "请用两句话介绍一下茶的历史。",
)
NEW_TOKENS = 48
QUOTES = 4
LONGEST = 1_500
"""Characters of a prompt or an answer that are quoted."""


def samples_of(models: Models, tokenizer: PreTrainedTokenizerBase, *, once: Once = anew) -> list[Sample]:
    """Return the greedy answers of base and adapter to PROMPTS, of NEW_TOKENS tokens at most."""

    def answers_of(name: str) -> list[str]:
        with models.running(name) as model:
            asking = partial(answer_chat, model, tokenizer, max_new_tokens=NEW_TOKENS, error=UnsupportedBase)
            answers = [asking([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
        return [redact(text, find_secrets(text)) for text in answers]

    base: list[str] = once("answers of the base", partial(answers_of, BASE))
    return [
        Sample(prompt=prompt, base=before, adapter=after)
        for prompt, before, after in zip(PROMPTS, base, answers_of(ADAPTER), strict=True)
    ]


def quotes_of(answered: Sequence[Answered], weights: str | None) -> Quoted:
    """Return a few of the answers, drawn with a fixed seed, in the order of the rows."""
    drawn = random.Random(SEED).sample(range(len(answered)), min(QUOTES, len(answered)))
    quotes = [
        Quote(
            prompt=_quoted(in_words(each)), base=_quoted(each.base.text), adapter=_quoted(each.adapter.text),
            outcome=each.verdict.outcome if each.verdict is not None else None,
        )
        for each in (answered[place] for place in sorted(drawn))
    ]  # fmt: skip
    return Quoted(of=len(answered), seed=SEED, weights=weights, quotes=quotes)


def _quoted(text: str) -> str:
    return shortened(redact(text, find_secrets(text)), LONGEST)
