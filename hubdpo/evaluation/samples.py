"""A few prompts that every adapter is asked, so that a card shows what changed and not what was picked."""

from __future__ import annotations

from typing import Any

from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample
from hubdpo.errors import UnsupportedBase
from hubdpo.model.greedy import generate_greedily
from hubdpo.model.tokenizer.rendering import encoded
from hubdpo.secrets import find_secrets, redact

PROMPTS = (
    "How do I keep basil alive on a windowsill?",
    "Explain to a ten-year-old why the sky is blue.",
    "Write two polite sentences that ask to move a meeting from Monday to Tuesday.",
    "请用两句话介绍一下茶的历史。",
)
NEW_TOKENS = 48


def with_samples(report: EvalReport, model: Any, tokenizer: Any) -> EvalReport:
    """Return the report with the answers of a PEFT model, its adapter off and on, to PROMPTS.

    Greedy, NEW_TOKENS new tokens, with the base's chat template and nothing of its generation config but the tokens
    that end an answer.
    """
    was_training = model.training
    model.eval()
    with model.disable_adapter():
        base = [_answer(model, tokenizer, prompt) for prompt in PROMPTS]
    adapter = [_answer(model, tokenizer, prompt) for prompt in PROMPTS]
    model.train(was_training)
    samples = [
        Sample(prompt=prompt, base=before, adapter=after)
        for prompt, before, after in zip(PROMPTS, base, adapter, strict=True)
    ]
    return report.model_copy(update={"samples": samples})


def _answer(model: Any, tokenizer: Any, prompt: str) -> str:
    chat = [{"role": "user", "content": prompt}]
    inputs = encoded(tokenizer, chat, error=UnsupportedBase)
    text = generate_greedily(model, tokenizer, inputs.to(model.device), max_new_tokens=NEW_TOKENS)
    return redact(text, find_secrets(text))
