"""Ask every adapter the same few prompts, so that a card shows typical answers and not chosen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubdpo.artefacts.manifests.evaluation import EvalReport, Sample
from hubdpo.errors import UnsupportedBase
from hubdpo.model.generation import answer_chat
from hubdpo.secrets import find_secrets, redact

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

PROMPTS = (
    "How do I keep basil alive on a windowsill?",
    "Explain to a ten-year-old why the sky is blue.",
    "Write two polite sentences that ask to move a meeting from Monday to Tuesday.",
    "请用两句话介绍一下茶的历史。",
)
NEW_TOKENS = 48


def with_samples(report: EvalReport, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
    """Return the report with greedy answers to PROMPTS, of NEW_TOKENS tokens at most, without and with the adapter."""
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


def _answer(model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    chat = [{"role": "user", "content": prompt}]
    text = answer_chat(model, tokenizer, chat, max_new_tokens=NEW_TOKENS, error=UnsupportedBase)
    return redact(text, find_secrets(text))
