"""Part `health` of `eval.json`: what else an adapter changed, beside the ranking of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field

from hubdpo.artefacts.manifests.intervals import Accuracy, Interval, mcnemar
from hubdpo.artefacts.manifests.manifest import Count, LanguageCode, Number, Part, Share
from hubdpo.artefacts.manifests.sweep import Divergence

MOST_CHANGES = 5


class Likelihood(Part):
    """Mean negative log-probability per token of the chosen answers, in nats; a perplexity is its exponential."""

    pairs: Count
    tokens: Count
    base: Interval
    adapter: Interval
    rise: Interval
    """Adapter less base, on the same answers."""


class Lengths(Part):
    """Tokens of the answers, without the stop token."""

    base: Interval
    adapter: Interval
    base_median: Number
    adapter_median: Number
    rise: Interval
    """Adapter less base, on the same prompts."""


class Holds(Part):
    """How many answers of base and adapter to the same prompts have a property, with McNemar's exact test."""

    prompts: Count
    base: Accuracy
    adapter: Accuracy
    only_base: Count
    only_adapter: Count
    mcnemar_p: Share

    @classmethod
    def of(cls, base: Sequence[bool], adapter: Sequence[bool]) -> Self:
        """Raise ValueError without a prompt."""
        gained, lost, p = mcnemar(base, adapter)
        shares = [Accuracy.of(sum(each), len(each)) for each in (base, adapter)]
        return cls(
            prompts=len(base), base=shares[0], adapter=shares[1], only_base=lost, only_adapter=gained, mcnemar_p=p
        )


class Drawing(Part):
    """How answers were generated: the settings of the base's generation config."""

    max_new_tokens: Count
    do_sample: bool
    temperature: Number | None = None
    """Sampling temperature; None, like the three below, for greedy answers."""
    top_k: Count | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    repetition_penalty: Number = 1.0


class Speed(Part):
    """How fast the adapter answered, beside its base in transformers: not merged, and not in a server."""

    tokens: Count
    """Of all answers that were timed on this hardware, with their stop tokens."""
    seconds: Annotated[Number, Field(gt=0)]
    """What these answers took, their prompts included."""
    at_once: Count
    """Most answers of a batch."""
    device: str
    """Name of the GPU, or of the processor with its threads."""


class LanguageChange(Part):
    """Languages of a prompt and its answer, as ISO 639 codes, and how often the adapter changed so."""

    prompt: LanguageCode
    answer: LanguageCode
    times: Count


class AnswerHealth(Part):
    """What base and adapter answered to the same held-out prompts."""

    prompts: Count
    not_asked: Count = 0
    """Prompts that were drawn but not asked: too long, or refused by the chat template."""
    drawing: Drawing
    equal: Count
    """Prompts to which both gave the same answer."""
    lengths: Lengths
    unended: Holds
    """Answers that were cut off at `max_new_tokens`."""
    other_language: Holds | None = None
    """Answers in another language than their prompt, where all three languages can be told; None where none can."""
    language_changes: Annotated[list[LanguageChange], Field(max_length=MOST_CHANGES)] = Field(default_factory=list)
    """The adapter's most frequent changes of language."""
    refusals: Holds
    """Answers that begin like a refusal."""
    refusal_list: Count
    """Version of the list of these beginnings."""
    speed: Speed | None = None
    """Of the adapter; None where its answers were not timed."""


class Health(Part):
    """What changed beside the ranking."""

    weights: str | None = None
    likelihood: Likelihood | None = None
    divergence: Divergence | None = None
    """Divergence of the adapter from the base, also where another adapter was its reference in training."""
    answers: AnswerHealth | None = None
    """What both answered to held-out prompts; None where they answered none."""
