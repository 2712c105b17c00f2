"""`eval.json`, how base and adapter rank the held-out pairs, and `probes.json`, answers to compare after loading.

Accuracies have confidence intervals, and the difference of two models a test.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.manifests.answered import Outcome
from hubdpo.artefacts.manifests.benchmarks import Benchmarks
from hubdpo.artefacts.manifests.health import Health
from hubdpo.artefacts.manifests.intervals import Accuracy, Interval
from hubdpo.artefacts.manifests.judged import Judged
from hubdpo.artefacts.manifests.manifest import Count, Manifest, Number, Part, Share
from hubdpo.artefacts.manifests.run import AdapterRef


class Stratum(BaseModel):
    """Accuracy among some of the pairs, by log-likelihood per token."""

    pairs: Count
    base: Accuracy
    adapter: Accuracy


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


class OtherScores(BaseModel):
    """How another adapter ranks the same pairs, length-normalised, beside the one that is evaluated."""

    accuracy: Accuracy
    margin: Interval
    accuracy_gain: Interval
    """Accuracy of the evaluated adapter less that of the other, on the same pairs."""
    margin_gain: Interval
    only_adapter_right: Count
    only_other_right: Count
    mcnemar_p: Share


class Ranking(BaseModel):
    """How base and adapter rank pairs. A pair counts as right if the chosen answer scores higher than the rejected one.

    A tie counts half, and McNemar's test puts it between right and wrong. Rewards are relative to the reference of the
    run: the base, or the adapter that it started from.
    """

    pairs: Count
    weights: str | None = None
    """How the base was loaded: `NF4, computed in bfloat16`, or the type of its weights; None in hubdpo 0.4 and earlier,
    where it was as in training."""
    reward_accuracy: Accuracy
    """Share of pairs ranked correctly by DPO's implicit reward (arXiv 2305.18290, eq. 5)."""
    reward_margin: Number
    base_accuracy: Accuracy
    """The same by log-likelihood per token under the base."""
    adapter_accuracy: Accuracy
    """The same by log-likelihood per token with the adapter."""
    longer_answer_accuracy: Accuracy
    """The same for always picking the answer with more tokens; a coin picks where both have as many."""
    base_margin: Number
    """Mean of log-probability per token, chosen minus rejected, in nats, under the base."""
    adapter_margin: Number
    base_summed_accuracy: Accuracy | None = None
    """Accuracy by log-likelihood of the whole answer, not divided by its length, under the base."""
    adapter_summed_accuracy: Accuracy | None = None
    only_adapter_right: Count | None = None
    """Pairs that the adapter ranks correctly and the base does not, by log-likelihood per token."""
    only_base_right: Count | None = None
    mcnemar_p: Share | None = None
    """p of the exact McNemar test, base against adapter on the same pairs, two-sided."""
    accuracy_gain: Interval | None = None
    """`adapter_accuracy` less `base_accuracy`, with its interval from the same pairs."""
    margin_gain: Interval | None = None
    """`adapter_margin` less `base_margin`, with its interval from the same pairs."""
    reward_interval: Interval | None = None
    """`reward_margin` again, with its interval."""
    chosen_longer: Stratum | None = None
    """Accuracies of the pairs whose chosen answer has more tokens; None if there are none."""
    chosen_shorter: Stratum | None = None
    start: StartScores | None = None
    """How the adapter that training started from ranks them, where rewards are relative to it; None otherwise."""
    other: OtherScores | None = None
    """How the adapter ranks them that `against` names."""

    @property
    def as_long(self) -> int:
        """Pairs whose answers have as many tokens, which are in neither stratum."""
        return self.pairs - sum(each.pairs for each in (self.chosen_longer, self.chosen_shorter) if each is not None)

    @model_validator(mode="after")
    def _as_long_by_half(self) -> Self:
        """Count answers that are as long by half also in a report of hubdpo 0.4, which took such pairs for wrong."""
        longer = self.chosen_longer.pairs if self.chosen_longer is not None else 0
        has_strata, tied = self.mcnemar_p is not None, self.as_long
        if has_strata and tied > 0 and math.isclose(self.longer_answer_accuracy.value, longer / self.pairs):
            self.longer_answer_accuracy = Accuracy.of(longer + tied / 2, self.pairs)
        return self

    def balanced(self, model: Literal["base", "adapter"]) -> Accuracy | None:
        """Return the mean accuracy of both strata, in which always picking the longer answer scores 50 %.

        None if one stratum is empty.
        """
        if self.chosen_longer is None or self.chosen_shorter is None:
            return None
        return Accuracy.mean(getattr(self.chosen_longer, model), getattr(self.chosen_shorter, model))


class EvaluatedDataset(Part):
    """A dataset and the split of it that was evaluated. `revision` is a commit."""

    name: str
    repo_id: str | None = None
    revision: str | None = None
    fingerprint: str
    split: str = "test"
    in_train: Count | None = None
    """Its pairs that the training data have as well, none of the test split of these data; None where it is not known
    what the training data are."""

    @property
    def is_held_out(self) -> bool:
        """Whether the training is known to have seen none of its pairs."""
        return self.in_train == 0


class FurtherDataset(Part):
    """How the models rank the pairs of a further dataset."""

    dataset: EvaluatedDataset
    as_trained: Ranking
    """How the models rank it, on the base as for the first dataset."""
    original: Ranking | None = None


class Quote(Part):
    """A prompt with both answers, redacted and cut, and what a judge found, if one was asked."""

    prompt: str
    base: str
    adapter: str
    outcome: Outcome | None = None


class Quoted(Part):
    """The answers that were drawn from those of the evaluation, because `--publish-samples` was given."""

    of: Count
    """Answered prompts from which they were drawn."""
    seed: Count
    weights: str | None = None
    """How the base was loaded for the answers."""
    quotes: list[Quote]


class EvalReport(Ranking, Manifest):
    """`eval.json` of a run: the first dataset, on the base as training had it, or else on its original weights."""

    split: str
    model: AdapterRef | None = None
    """What was evaluated; None after a training, and in hubdpo 0.4 and earlier."""
    dataset: EvaluatedDataset | None = None
    """The first dataset; None in hubdpo 0.4 and earlier, where it was that of the run."""
    original: Ranking | None = None
    """The same pairs on the original weights of the base, which other programs load; None where training used those, or
    they were not measured."""
    against: AdapterRef | None = None
    """The other adapter that ranked these pairs too."""
    further: list[FurtherDataset] = Field(default_factory=list)
    samples: list[Sample] = Field(default_factory=list)
    samples_weights: str | None = None
    """How the base of the samples was loaded; None in hubdpo 0.4 and earlier, where it was as in training."""
    health: Health | None = None
    """What else the adapter changed; None in hubdpo 0.4 and earlier, and at the end of a training."""
    judged: Judged | None = None
    """What a judge said of the answers to held-out prompts; None without a judge."""
    quoted: Quoted | None = None
    """Some of these answers, where the publisher consents (`--publish-samples`)."""
    benchmarks: Benchmarks | None = None
    """What lm-evaluation-harness measured; None where no task was asked for."""


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
    """The token after each answer; None if it is the tokenizer's end-of-text token."""
