"""TODO."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from hubdpo.artefacts.manifests.accuracy import Accuracy, Count, Number, Share, Stratum
from hubdpo.artefacts.manifests.manifest import Manifest


class Sample(BaseModel):
    """A prompt that hubdpo asks of every adapter, with the greedy answers of base and adapter."""

    prompt: str
    base: str
    adapter: str


class EvalReport(Manifest):
    split: str
    pairs: Count
    reward_accuracy: Accuracy
    """DPO implicit reward (arXiv 2305.18290, eq. 5) of chosen above rejected."""
    reward_margin: Number
    base_accuracy: Accuracy
    """Length-normalised log-likelihood of chosen above rejected, under the base."""
    adapter_accuracy: Accuracy
    """The same under the adapter."""
    longer_answer_accuracy: Accuracy
    """The trivial baseline: pick the answer with more tokens."""
    base_margin: Number
    """Mean difference of length-normalised log-probability, chosen less rejected, nats per token, under the base."""
    adapter_margin: Number
    base_summed_accuracy: Accuracy | None = None
    """Log-likelihood of the whole answer, not divided by its length, of chosen above rejected, under the base."""
    adapter_summed_accuracy: Accuracy | None = None
    only_adapter_right: Count | None = None
    """Pairs that the adapter ranks right and the base wrong, length-normalised."""
    only_base_right: Count | None = None
    mcnemar_p: Share | None = None
    """Exact McNemar test of base and adapter on the same pairs, two-sided."""
    chosen_longer: Stratum | None = None
    """Pairs whose chosen answer has more tokens; None when there is none."""
    chosen_shorter: Stratum | None = None
    samples: list[Sample] = Field(default_factory=list)

    def balanced(self, who: Literal["base", "adapter"]) -> Accuracy | None:
        """Return the accuracy with longer and shorter chosen answers counting alike: 50 % for picking the longer one.

        None when the pairs are of one kind.
        """
        if self.chosen_longer is None or self.chosen_shorter is None:
            return None
        return Accuracy.mean(getattr(self.chosen_longer, who), getattr(self.chosen_shorter, who))


class Probe(BaseModel):
    """An answer of our own to a question of our own, its tokens, and the log-probability of each of them in nats."""

    prompt: str
    answer: str
    prompt_ids: list[Count]
    answer_ids: list[Count]
    log_probs: list[Number] = Field(default_factory=list)


class Probes(Manifest):
    """`probes.json` of a run: what the trained adapter gave, and on what it was computed."""

    environment: dict[str, str]
    probes: list[Probe]
    chat_template_kwargs: dict[str, Any] | None = None
    """With which the chat template wrote them."""
