"""Probes: fixed answers whose log-probabilities prove that a release loads as the model that was trained.

Hashes show that the bytes arrived. They do not show that these bytes, on the base that the release names, quantised as
it says, are the model that was trained. So training records the log-probability of every token of some fixed answers,
and `hubdpo verify` computes them again. The texts are written for this purpose, so no training data is published.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubdpo.artefacts.manifests.evaluation import Probe, Probes
from hubdpo.errors import ArtefactError, HubdpoError, UnsupportedBase, VerificationFailed
from hubdpo.model.device import processor_name
from hubdpo.model.log_probs import answer_log_probs, causal_lm
from hubdpo.model.tokenizer.chat_template import control_tokens
from hubdpo.model.tokenizer.rendering import rendered

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PAIRS = (
    ("What is the capital of France?", "The capital of France is Paris.", "I do not know."),
    ("How do I boil an egg?", "Put it into boiling water for eight minutes.", "Do what you want."),
    ("Write one sentence about the sea.", "The sea was calm and grey that morning.", "Sea sea sea."),
    ("2 + 2 = ?", "2 + 2 = 4", "2 + 2 = 5"),
)
"""Question, good answer, poor answer."""

TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
"""Largest mean difference of a token's log-probability between two machines, in nats, by the coarser of their types.

Half-precision types keep 8 or 11 bits and logits are tens, so two correct GPUs differ by some hundredths.
"""


@dataclass(frozen=True)
class ProbeResult:
    """The differences between recorded and recomputed log-probabilities, in nats a token.

    `exact` when they had to be equal; else the mean difference may be up to `tolerance`.
    """

    answers: int
    tokens: int
    mean_difference: float
    largest_difference: float
    exact: bool
    tolerance: float

    @property
    def passed(self) -> bool:
        difference = self.largest_difference if self.exact else self.mean_difference
        return math.isfinite(difference) and difference <= self.tolerance


def record_probes(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, *, load_in_4bit: bool,
    template_kwargs: Mapping[str, object] | None = None,
) -> Probes:  # fmt: skip
    """Return the probes with the log-probabilities that a model gives them, and everything that these depend on.

    Raise VerificationFailed for a log-probability that is not finite.
    """
    probes, end = [], _end_of_turn(tokenizer)
    for question, *answers in PAIRS:
        for answer in answers:
            prompt_ids, answer_ids = _encode(tokenizer, question, answer + end, template_kwargs, UnsupportedBase)
            probes.append(Probe(prompt=question, answer=answer, prompt_ids=prompt_ids, answer_ids=answer_ids))
    values = _log_probs(model, probes)
    return Probes(
        environment=_environment(model, load_in_4bit=load_in_4bit),
        probes=[probe.model_copy(update={"log_probs": each}) for probe, each in zip(probes, values, strict=True)],
        chat_template_kwargs=dict(template_kwargs) if template_kwargs is not None else None,
        end_of_turn=end if end != tokenizer.eos_token else None,
    )


def compare_probes(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, recorded: Probes
) -> ProbeResult:
    """Compute the log-probabilities of the recorded probes again and return how far they are from the recorded ones.

    They must be equal in an equal environment on the CPU; a GPU's kernels may differ from run to run. Elsewhere the
    mean difference must be within TOLERANCES. Raise VerificationFailed when the tokenizer no longer gives the recorded
    tokens, and for a log-probability that is not finite.
    """
    end = recorded.end_of_turn if recorded.end_of_turn is not None else tokenizer.eos_token or ""
    for probe in recorded.probes:
        ids = _encode(tokenizer, probe.prompt, probe.answer + end, recorded.chat_template_kwargs)
        if ids != (probe.prompt_ids, probe.answer_ids):
            raise VerificationFailed(
                f"the tokenizer gives other tokens than in training for: {probe.prompt}",
                hint="publish the tokenizer files of the base unchanged",
            )
    load_in_4bit = recorded.environment["load_in_4bit"] == "True"  # the environment holds texts alone
    # a CPU with the same instructions, threads and versions runs the same kernels in the same order: equal to the bit
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
        # nats a token; of the two machines, the one that computes in the coarser type sets the limit
        tolerance=0.0 if exact else max(TOLERANCES.get(e["dtype"], 0.1) for e in (here, recorded.environment)),
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str, template_kwargs: Mapping[str, Any] | None,
    error: type[HubdpoError] = ArtefactError,
) -> tuple[list[int], list[int]]:  # fmt: skip
    chat = [{"role": "user", "content": question}]
    # the answer is tokenised by itself, so no token spans its border with the prompt
    prompt = rendered(tokenizer, chat, ask=True, error=error, **(template_kwargs or {}))
    texts = (prompt, answer)
    prompt_ids, answer_ids = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    return prompt_ids, answer_ids


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the control token that the chat template writes after an answer, else the end of text."""
    question, answer = "what is it?", "It is 1."
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    try:
        after = rendered(tokenizer, chat, ask=False, error=UnsupportedBase).rpartition(answer)[2]
    except HubdpoError:
        raise
    except Exception:  # whatever a template raises to refuse a chat
        after = ""
    places = {after.find(token): token for token in control_tokens(tokenizer) if token in after}
    return places[min(places)] if places else str(tokenizer.eos_token or "")


def _log_probs(model: PreTrainedModel | PeftModel, probes: list[Probe]) -> list[list[float]]:
    """Return the log-probability of every token of each answer, from one forward pass over all probes.

    Raise VerificationFailed where one is NaN or infinite: a comparison of such numbers proves nothing.
    """
    import torch

    # token ids of prompt and answer, and the positions of the answer in them: every token of it is scored
    sequences = [
        (probe.prompt_ids + probe.answer_ids, range(len(probe.prompt_ids), len(probe.prompt_ids + probe.answer_ids)))
        for probe in probes
    ]
    with torch.no_grad(), _evaluating_with_eager_attention(model):
        found = [values.tolist() for values in answer_log_probs(model, sequences)]
    if odd := sum(not math.isfinite(value) for values in found for value in values):
        raise VerificationFailed(
            f"the model gives no finite log-probability for {odd} of {sum(map(len, found))} tokens",
            hint="check the weights and `lora_alpha` of the adapter, or train it again at a lower `--learning-rate`",
        )
    return found


@contextmanager
def _evaluating_with_eager_attention(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Compute attention as plain matrix products, and switch dropout off, in the body.

    Fused attention gives results that vary with mask and shape, and training installs an attention of its own: numbers
    that it recorded could not be computed again, bit by bit, where the adapter is loaded.
    """
    lm = causal_lm(model)
    before, was_training = lm.config._attn_implementation, model.training
    lm.set_attn_implementation("eager")
    model.eval()
    try:
        yield
    finally:
        lm.set_attn_implementation(before)
        model.train(was_training)


def _environment(model: PreTrainedModel | PeftModel, *, load_in_4bit: bool) -> dict[str, str]:
    """Return everything that log-probabilities depend on besides the weights and the tokens."""
    import torch

    device = model.device.type
    packages = ("torch", "transformers", "peft", "bitsandbytes")
    processor = f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": device,
        "hardware": torch.cuda.get_device_name() if device == "cuda" else processor,
        "threads": str(torch.get_num_threads()),
        "dtype": str(causal_lm(model).config.dtype).removeprefix("torch."),
        "load_in_4bit": str(load_in_4bit),
        **{name: importlib.metadata.version(name) for name in packages},
    }
