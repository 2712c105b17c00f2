"""Score how base and adapter rank held-out pairs, and ask both the same few prompts.

The prompts are fixed, so that a card shows typical answers and not chosen ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hubdpo import console
from hubdpo.artefacts.manifests.evaluation import Accuracy, EvalReport, Sample, StartScores, Stratum, mcnemar
from hubdpo.data.tokens.tokenize import PairTokenizer, scored_places
from hubdpo.errors import ArtefactError, UnsupportedBase
from hubdpo.model.adapters.reference import has_reference, reference_active
from hubdpo.model.generation import answer_chat
from hubdpo.model.log_probs import answer_log_probs
from hubdpo.secrets import find_secrets, redact

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
Row = Mapping[str, list[int]]
"""Token ids of a pair: `prompt_ids`, `chosen_ids`, `rejected_ids`."""
PROMPTS = (
    "How do I keep basil alive on a windowsill?",
    "Explain to a ten-year-old why the sky is blue.",
    "Write two polite sentences that ask to move a meeting from Monday to Tuesday.",
    "请用两句话介绍一下茶的历史。",
)
NEW_TOKENS = 48
Once = Callable[[str, Callable[[], Any]], Any]
"""Returns what was made under a name before, or makes it."""


def anew(name: str, make: Callable[[], T]) -> T:
    """Make it, as `Once` of an adapter that is scored alone."""
    return make()


@dataclass(frozen=True)
class Score:
    """Summed log-probabilities of the two answers of a pair, in nats, and the lengths of the answers in tokens."""

    chosen: float
    rejected: float
    chosen_length: int
    rejected_length: int

    @property
    def per_token(self) -> float:
        """The margin: chosen less rejected, each divided by its length, in nats per token."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length

    @property
    def is_right(self) -> bool:
        """Whether the pair is ranked right: the chosen answer is the likelier one a token."""
        return self.per_token > 0

    @property
    def length_difference(self) -> int:
        """Tokens that the chosen answer is longer than the rejected one."""
        return self.chosen_length - self.rejected_length


def score_pairs(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Mapping[str, list[dict[str, str]]]],
    *,
    beta: float = 0.1,
    max_length: int = 1024,
    prompt_budget: int = 512,
    batch_size: int = 4,
    once: Once = anew,
) -> EvalReport:
    """Score pairs with a PEFT model, its adapter on and off, and with its reference adapter where it has one.

    The defaults are those of training.

    A pair is ranked right when the chosen answer has the higher log-likelihood, divided by its length in tokens. The
    reward margin is that of DPO's implicit reward (arXiv 2305.18290, equation 5). `once` keeps what does not depend on
    the adapter for the next one. Raise ArtefactError when no pair can be scored.
    """
    encoder = PairTokenizer(tokenizer, max_length=max_length, prompt_budget=prompt_budget)
    rows = encoder.rows(examples)
    if not rows:
        why = "; ".join(encoder.dropped())
        raise ArtefactError(f"no pair of the `test` split can be scored: {why}", hint=encoder.hint())
    for sentence in encoder.dropped():
        console.warn(f"`test` split: {sentence}")
    was_training = model.training
    model.eval()
    adapter = _scores(model, rows, batch_size, "adapter")

    def of_base() -> list[Score]:
        with model.disable_adapter():
            return _scores(model, rows, batch_size, "base")

    def of_start() -> list[Score]:
        with reference_active(model):
            return _scores(model, rows, batch_size, "adapter it started from")

    base = once("scores of the base", of_base)
    start = once("scores of the adapter it started from", of_start) if has_reference(model) else None
    model.train(was_training)
    # reward = beta * log(policy / reference) + a term that depends on the prompt alone and cancels in the margin
    margins = [
        beta * ((a.chosen - b.chosen) - (a.rejected - b.rejected)) for a, b in zip(adapter, start or base, strict=True)
    ]
    gained, lost, p = mcnemar([score.is_right for score in base], [score.is_right for score in adapter])
    return EvalReport(
        split="test",
        pairs=len(rows),
        reward_accuracy=Accuracy.of(sum(margin > 0 for margin in margins), len(rows)),
        reward_margin=sum(margins) / len(rows),
        base_accuracy=_share(base, lambda score: score.is_right),
        adapter_accuracy=_share(adapter, lambda score: score.is_right),
        longer_answer_accuracy=_share(base, lambda score: score.length_difference > 0),
        base_margin=sum(score.per_token for score in base) / len(rows),
        adapter_margin=sum(score.per_token for score in adapter) / len(rows),
        base_summed_accuracy=_share(base, lambda score: score.chosen > score.rejected),
        adapter_summed_accuracy=_share(adapter, lambda score: score.chosen > score.rejected),
        only_adapter_right=gained,
        only_base_right=lost,
        mcnemar_p=p,
        chosen_longer=_stratum(base, adapter, lambda score: score.length_difference > 0),
        chosen_shorter=_stratum(base, adapter, lambda score: score.length_difference < 0),
        start=_start_scores(start, adapter) if start is not None else None,
    )


def _start_scores(start: Sequence[Score], adapter: Sequence[Score]) -> StartScores:
    gained, lost, p = mcnemar([score.is_right for score in start], [score.is_right for score in adapter])
    accuracy, margin = _share(start, lambda score: score.is_right), sum(score.per_token for score in start) / len(start)
    return StartScores(accuracy=accuracy, margin=margin, only_adapter_right=gained, only_start_right=lost, mcnemar_p=p)


def _share(scores: Sequence[Score], holds: Callable[[Score], bool]) -> Accuracy:
    return Accuracy.of(sum(map(holds, scores)), len(scores))


def _stratum(base: Sequence[Score], adapter: Sequence[Score], belongs: Callable[[Score], bool]) -> Stratum | None:
    """Return the accuracies on the pairs that belong to a stratum, None when there are none."""
    members = [number for number, score in enumerate(base) if belongs(score)]
    if not members:
        return None
    base_accuracy, adapter_accuracy = (
        _share([scores[number] for number in members], lambda score: score.is_right) for scores in (base, adapter)
    )
    return Stratum(pairs=len(members), base=base_accuracy, adapter=adapter_accuracy)


def _scores(model: PeftModel, rows: Sequence[Row], batch_size: int, name: str) -> list[Score]:
    """Score rows, `batch_size` pairs a forward pass: its chosen answers first, then its rejected ones."""
    import torch

    scores: list[Score] = []
    with torch.no_grad(), console.progress(f"scoring with the {name}", len(rows)) as bar:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            sequences = [
                (row["prompt_ids"] + row[f"{side}_ids"], scored_places(row, side))
                for side in ("chosen", "rejected")
                for row in batch
            ]
            # sums of hundreds of float32 values, in float64 so that a sum keeps their precision
            sums = [values.double().sum().item() for values in answer_log_probs(model, sequences)]
            lengths = [len(positions) for _, positions in sequences]
            for chosen in range(len(batch)):
                rejected = chosen + len(batch)
                scores.append(Score(sums[chosen], sums[rejected], lengths[chosen], lengths[rejected]))
            bar.advance(bar.task_ids[0], len(batch))
    return scores


def with_samples(
    report: EvalReport, model: PeftModel, tokenizer: PreTrainedTokenizerBase, *, once: Once = anew
) -> EvalReport:
    """Return the report with greedy answers to PROMPTS, of NEW_TOKENS tokens at most, without and with the adapter."""
    was_training = model.training
    model.eval()

    def of_base() -> list[str]:
        with model.disable_adapter():
            return [_answer(model, tokenizer, prompt) for prompt in PROMPTS]

    base = once("answers of the base", of_base)
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
