"""Probes: a few answers of our own whose log-probabilities prove that a release loads as what was trained.

Hashes show that the bytes arrived; they do not show that these bytes, on the base that the release names, quantised as
it says, are the model that was trained. So training leaves the log-probability of every token of some fixed answers,
and whoever verifies a release computes them again. The texts are ours, so nothing of the data is published with them.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdpo.artefacts.manifests.evaluation import Probe, Probes
from hubdpo.errors import ArtefactError, HubdpoError, UnsupportedBase, VerificationFailed
from hubdpo.model.device import compute_dtype
from hubdpo.model.tokenizer.rendering import rendered

PAIRS = (
    ("What is the capital of France?", "The capital of France is Paris.", "I do not know."),
    ("How do I boil an egg?", "Put it into boiling water for eight minutes.", "Do what you want."),
    ("Write one sentence about the sea.", "The sea was calm and grey that morning.", "Sea sea sea."),
    ("2 + 2 = ?", "2 + 2 = 4", "2 + 2 = 5"),
)
"""Question, a good answer, a poor one."""

TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
"""Largest mean difference of a token's log-probability, in nats, between two machines, by the coarser of their types.

Half-precision types keep 8 or 11 bits, and logits are tens: two correct GPUs differ by some hundredths.
"""


@dataclass(frozen=True)
class ProbeResult:
    """How far the log-probabilities are from those recorded, in nats a token. `exact` when they had to be equal."""

    answers: int
    tokens: int
    mean_difference: float
    largest_difference: float
    exact: bool
    tolerance: float

    @property
    def passed(self) -> bool:
        told = self.largest_difference if self.exact else self.mean_difference
        return math.isfinite(told) and told <= self.tolerance


def record_probes(
    model: Any, tokenizer: Any, *, load_in_4bit: bool, template_kwargs: dict[str, Any] | None = None
) -> Probes:
    """Return the probes with what a model gives for them now, and all that the numbers depend on.

    Raise VerificationFailed for numbers that are none.
    """
    probes = []
    for question, *answers in PAIRS:
        for answer in answers:
            prompt_ids, answer_ids = _encode(tokenizer, question, answer, template_kwargs, UnsupportedBase)
            probes.append(Probe(prompt=question, answer=answer, prompt_ids=prompt_ids, answer_ids=answer_ids))
    values = _log_probs(model, probes)
    probes = [probe.model_copy(update={"log_probs": found}) for probe, found in zip(probes, values, strict=True)]
    environment = _environment(model, load_in_4bit=load_in_4bit)
    return Probes(environment=environment, probes=probes, chat_template_kwargs=template_kwargs)


def compare_probes(model: Any, tokenizer: Any, recorded: Probes) -> ProbeResult:
    """Compute the log-probabilities again and return how far they are from the recorded ones.

    They must be equal where everything that `environment` names is equal and nothing is computed on a GPU, whose
    kernels may differ from run to run; else the mean difference must be within TOLERANCES. Raise VerificationFailed
    when the tokenizer no longer gives the recorded tokens, and for numbers that are none.
    """
    for probe in recorded.probes:
        ids = _encode(tokenizer, probe.prompt, probe.answer, recorded.chat_template_kwargs)
        if ids != (probe.prompt_ids, probe.answer_ids):
            raise VerificationFailed(
                f"the tokenizer gives other tokens than in training for: {probe.prompt}",
                hint="publish the tokenizer files of the base unchanged",
            )
    load_in_4bit = recorded.environment["load_in_4bit"] == "True"
    here = _environment(model, load_in_4bit=load_in_4bit)
    exact = here == recorded.environment and here["device"] == "cpu"
    differences = [
        abs(then - now)
        for probe, values in zip(recorded.probes, _log_probs(model, recorded.probes), strict=True)
        for then, now in zip(probe.log_probs, values, strict=True)
    ]
    return ProbeResult(
        answers=len(recorded.probes),
        tokens=len(differences),
        mean_difference=sum(differences) / len(differences),
        largest_difference=max(differences),
        exact=exact,
        tolerance=0.0 if exact else max(TOLERANCES.get(e["dtype"], 0.1) for e in (here, recorded.environment)),
    )


def _encode(
    tokenizer: Any,
    question: str,
    answer: str,
    template_kwargs: dict[str, Any] | None,
    error: type[HubdpoError] = ArtefactError,
) -> tuple[list[int], list[int]]:
    chat = [{"role": "user", "content": question}]
    prompt = rendered(tokenizer, chat, ask=True, error=error, **(template_kwargs or {}))
    texts = (prompt, answer + (tokenizer.eos_token or ""))
    both = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return list(both[0]), list(both[1])


def _log_probs(model: Any, probes: list[Probe]) -> list[list[float]]:
    """Return the log-probability of every token of each answer, from one forward pass of all.

    Raise VerificationFailed where one is NaN or infinite: no comparison of such numbers tells anything.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    # padded on the right, which no earlier position sees, so no mask is needed
    ids = pad_sequence([torch.tensor(p.prompt_ids + p.answer_ids) for p in probes], batch_first=True).to(model.device)
    before, was_training = causal_lm.config._attn_implementation, model.training
    # the plainest attention: what a fused one gives depends on masks and shapes, and training has one of its own
    causal_lm.set_attn_implementation("eager")
    model.eval()
    found = []
    try:
        with torch.no_grad():
            hidden = causal_lm.base_model(input_ids=ids, use_cache=False).last_hidden_state
            for row, probe in enumerate(probes):
                first, end = len(probe.prompt_ids), len(probe.prompt_ids) + len(probe.answer_ids)
                # the state at a position predicts the token after it
                log_probs = causal_lm.lm_head(hidden[row, first - 1 : end - 1]).float().log_softmax(dim=-1)
                found.append(log_probs.gather(1, ids[row, first:end, None])[:, 0].tolist())
    finally:
        causal_lm.set_attn_implementation(before)
        model.train(was_training)
    if odd := sum(not math.isfinite(value) for values in found for value in values):
        raise VerificationFailed(
            f"the model gives no finite log-probability for {odd} of {sum(map(len, found))} tokens",
            hint="check the weights and `lora_alpha` of the adapter, or train it again at a lower `--learning-rate`",
        )
    return found


def _environment(model: Any, *, load_in_4bit: bool) -> dict[str, str]:
    import torch

    device, is_adapter = model.device.type, hasattr(model, "get_base_model")
    packages = ("torch", "transformers", "peft", "bitsandbytes")
    return {
        "device": device,
        "hardware": torch.cuda.get_device_name() if device == "cuda" else f"{_processor()}, {_instructions()}",
        "threads": str(torch.get_num_threads()),
        "dtype": str(compute_dtype(device) if is_adapter else model.dtype).removeprefix("torch."),
        "load_in_4bit": str(load_in_4bit),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    """Return the processor's name: libraries choose their kernels by it."""
    facts = Path("/proc/cpuinfo")
    text = facts.read_text(encoding="utf-8", errors="replace") if facts.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _instructions() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())
