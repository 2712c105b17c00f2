"""Ask base and adapter the same few prompts.

They are fixed, so that a card shows typical answers and not chosen ones.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hubdpo.artefacts.manifests.evaluation import Sample
from hubdpo.errors import UnsupportedBase
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
