"""Greedy answers with the log-probabilities of their tokens: PEFT's, those of a server, and how far they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

PROMPTS = (
    "How do I keep basil alive on a windowsill?",
    "Tell me how to prepare for a first job interview.",
    "Why is the sky blue?",
)
MOST_TOKENS = 24


@dataclass(frozen=True)
class Answer:
    """A greedy answer: its tokens as text, with their log-probabilities and their leads over the second best."""

    tokens: list[str]
    log_probs: list[float] | None = None
    leads: list[float] | None = None


@dataclass(frozen=True)
class Compared:
    """What a comparison with PEFT's answers found. `lead` is PEFT's where the tokens part, if they do."""

    tokens: int
    equal: int
    largest_difference: float | None
    lead: float | None

    def within(self, tolerance: float) -> bool:
        """Whether log-probabilities differ by at most `tolerance`, and tokens only where two are as good as equal.

        Half of the tokens must be equal, else hardly anything was compared.
        """
        near = self.largest_difference is None or self.largest_difference <= tolerance
        return near and 2 * self.equal >= self.tokens and (self.lead is None or self.lead <= 2 * tolerance)


def of_model(model: Any, tokenizer: Any) -> list[Answer]:
    """Return the answers of a transformers or PEFT model to PROMPTS, computed in float32."""
    import torch

    model.float().eval()
    answers = []
    for prompt in PROMPTS:
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            made = model.generate(
                **inputs, max_new_tokens=MOST_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
        ids = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        log_probs = torch.stack(made.logits)[:, 0].float().log_softmax(-1)
        best = log_probs.topk(2).values
        if ids[-1] == tokenizer.eos_token_id:
            ids.pop()
        rows = range(len(ids))
        answers.append(
            Answer(
                [tokenizer.decode([token]) for token in ids], [float(log_probs[row, ids[row]]) for row in rows],
                [float(best[row, 0] - best[row, 1]) for row in rows],
            )
        )  # fmt: skip
    return answers


def of_server(address: str, model: str, tokenizer: Any, *, log_probs: bool = True, **more: object) -> list[Answer]:
    """Ask a server of the OpenAI API. Without `log_probs` the tokens are those into which its text is split."""
    return [_ask(address, model, tokenizer, prompt, log_probs, more) for prompt in PROMPTS]


def _ask(
    address: str, model: str, tokenizer: Any, prompt: str, log_probs: bool, more: dict[str, object]
) -> Answer:  # fmt: skip
    asked = {
        "model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": MOST_TOKENS, "temperature": 0,
        **({"logprobs": True} if log_probs else {}), **more,
    }  # fmt: skip
    request = Request(
        f"{address}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=300) as answered:
        choice = json.load(answered)["choices"][0]
    if not log_probs:
        ids = tokenizer(choice["message"]["content"], add_special_tokens=False)["input_ids"]
        return Answer([tokenizer.decode([token]) for token in ids])
    content = choice["logprobs"]["content"]
    return Answer(
        [entry["token"] if "token" in entry else tokenizer.decode([entry["id"]]) for entry in content],
        [entry["logprob"] for entry in content],
    )


def compare(reference: Sequence[Answer], given: Sequence[Answer]) -> Compared:
    """Compare answers up to the first token of each that differs: after it they continue another text."""
    equal, differences, leads = 0, [], []
    for expected, answer in zip(reference, given, strict=True):
        assert expected.log_probs is not None and expected.leads is not None
        pairs = list(zip(expected.tokens, answer.tokens, strict=False))
        same = next((place for place, (one, other) in enumerate(pairs) if one != other), len(pairs))
        equal += same
        if answer.log_probs is not None:
            differences += [abs(expected.log_probs[place] - answer.log_probs[place]) for place in range(same)]
        if same < len(expected.tokens):
            leads.append(expected.leads[same])
    total = sum(len(answer.tokens) for answer in reference)
    largest = max(differences, default=float("inf")) if any(answer.log_probs for answer in given) else None
    return Compared(total, equal, largest, max(leads, default=None))
