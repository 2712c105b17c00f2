"""`eval.json`, how base and adapter rank the held-out pairs, and `probes.json`, answers to compare after loading.

Accuracies have confidence intervals, and the difference of two models a test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, Field

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.manifests.manifest import Count, Manifest, Number, Share


class Difference(NamedTuple):
    """Difference of two shares, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


class Accuracy(BaseModel):
    """Share of correctly ranked pairs, with its 95 % Wilson interval (Wilson 1927)."""

    value: Share
    low: Share
    high: Share

    @classmethod
    def of(cls, right: int, total: int) -> Self:
        """Raise ValueError if `total` is 0."""
        if total < 1:
            raise ValueError("an accuracy needs at least one pair")
        from scipy.stats import binomtest

        interval = binomtest(right, total).proportion_ci(0.95, method="wilson")
        return cls(value=right / total, low=max(0.0, interval.low), high=min(1.0, interval.high))

    @classmethod
    def mean(cls, one: Self, other: Self) -> Self:
        """Return the mean of two independent shares, with an interval by Newcombe's square-and-add rule (1998)."""
        middle = (one.value + other.value) / 2
        down = math.hypot(one.value - one.low, other.value - other.low) / 2
        up = math.hypot(one.high - one.value, other.high - other.value) / 2
        return cls(value=middle, low=max(0.0, middle - down), high=min(1.0, middle + up))

    def minus(self, other: Accuracy) -> Difference:
        """Return the difference of two independent shares, with an interval by the same rule (method 10)."""
        value = self.value - other.value
        down = math.hypot(self.value - self.low, other.high - other.value)
        up = math.hypot(self.high - self.value, other.value - other.low)
        return Difference(value, value - down, value + up)


class Stratum(BaseModel):
    """Length-normalised log-likelihood accuracy among some of the pairs."""

    pairs: Count
    base: Accuracy
    adapter: Accuracy


class McNemar(NamedTuple):
    """Exact McNemar test: pairs that only the second model ranks correctly, pairs that only the first does, and p."""

    gained: int
    lost: int
    p: float


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """Compare two models on the same pairs, two-sided (McNemar 1947).

    Pairs on which both agree say nothing; under the null hypothesis the others go either way with probability 1/2.
    """
    gained = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    if gained + lost == 0:
        return McNemar(0, 0, 1.0)
    from scipy.stats import binomtest

    return McNemar(gained, lost, float(binomtest(gained, gained + lost).pvalue))


class Sample(BaseModel):
    """A prompt that hubdpo gives to every adapter, with the greedy answers of base and adapter."""

    prompt: str
    base: str
    adapter: str


class StartScores(BaseModel):
    """How the adapter that training started from ranks the same pairs, length-normalised, and McNemar's test."""

    accuracy: Accuracy
    margin: Number
    only_adapter_right: Count
    """Pairs that the trained adapter ranks correctly and the one before it does not."""
    only_start_right: Count
    mcnemar_p: Share


class EvalReport(Manifest):
    """`eval.json` of a run. Pairs count as right if the chosen answer scores higher than the rejected one.

    Rewards are those against the reference of the run: the base, or the adapter that it started from.
    """

    split: str
    pairs: Count
    reward_accuracy: Accuracy
    """By DPO implicit reward (arXiv 2305.18290, eq. 5)."""
    reward_margin: Number
    base_accuracy: Accuracy
    """By length-normalised log-likelihood under the base."""
    adapter_accuracy: Accuracy
    """By length-normalised log-likelihood under the adapter."""
    longer_answer_accuracy: Accuracy
    """Of the trivial baseline that picks the answer with more tokens."""
    base_margin: Number
    """Mean of log-probability per token, chosen minus rejected, in nats, under the base."""
    adapter_margin: Number
    base_summed_accuracy: Accuracy | None = None
    """By log-likelihood of the whole answer, not divided by its length, under the base."""
    adapter_summed_accuracy: Accuracy | None = None
    only_adapter_right: Count | None = None
    """Pairs that the adapter ranks correctly and the base does not, length-normalised."""
    only_base_right: Count | None = None
    mcnemar_p: Share | None = None
    """p of the exact McNemar test, base against adapter on the same pairs, two-sided."""
    chosen_longer: Stratum | None = None
    """Pairs whose chosen answer has more tokens; None without such pairs."""
    chosen_shorter: Stratum | None = None
    start: StartScores | None = None
    """Of the adapter that training started from, where it is the reference of the rewards; None where the base is."""
    samples: list[Sample] = Field(default_factory=list)

    def balanced(self, model: Literal["base", "adapter"]) -> Accuracy | None:
        """Return the mean accuracy of both strata, in which always picking the longer answer scores 50 %.

        None if one stratum is empty.
        """
        if self.chosen_longer is None or self.chosen_shorter is None:
            return None
        return Accuracy.mean(getattr(self.chosen_longer, model), getattr(self.chosen_shorter, model))


class Probe(BaseModel):
    """A fixed prompt and answer, their token ids, and the log-probability of each answer token in nats."""

    prompt: str
    answer: str
    prompt_ids: list[Count]
    answer_ids: list[Count]
    log_probs: list[Number] = Field(default_factory=list)


class Probes(Manifest):
    """`probes.json` of a run: log-probabilities of the trained adapter, and the environment that computed them."""

    environment: dict[str, str]
    probes: list[Probe]
    chat_template_kwargs: JsonObject | None = None
    """Variables with which the chat template rendered the prompts."""
    end_of_turn: str | None = None
    """The token after each answer; None for the tokenizer's end of text."""
