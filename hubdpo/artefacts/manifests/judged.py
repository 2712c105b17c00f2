"""What a judge said of the answers of base and adapter: the part `judged` of `eval.json`."""

from __future__ import annotations

from pydantic import BaseModel

from hubdpo.artefacts.manifests.manifest import Count, Number, Part, Sha256, Share


class Rate(BaseModel):
    """A rate at which the adapter wins, a tie being half a win, and its 95 % interval."""

    value: Share
    low: Share
    high: Share


class Rubric(Part):
    """The criteria that the judge was given; `version` is None for a file of the user's own that names none."""

    name: str
    version: Count | None = None
    sha256: Sha256


class PerModel(BaseModel):
    """A count for each of the two models."""

    base: Count
    adapter: Count


class Judged(Part):
    """Answers of base and adapter to the same held-out prompts, compared by a judge that saw each pair in both orders.

    The adapter wins where both orders say so; where the order changes the verdict, the answers are tied.
    """

    model: str
    """Name of the judge, as `--judge-model` gives it; of a path the last part."""
    served: str | None = None
    """Name of the judge as its server says it."""
    host: str | None = None
    """Host of the server, None for one of a private network."""
    date: str
    """Day of the report, UTC."""
    rubric: Rubric
    weights: str | None = None
    """How the base was loaded for the answers."""
    prompts: Count
    """Prompts of the first dataset that both models answered."""
    seed: Count
    """Seed with which the prompts were drawn."""
    wins: Count
    losses: Count
    ties: Count
    equal: Count
    """Ties between identical answers, about which the judge was not asked."""
    order_decided: Count
    """Ties because the verdict changed with the order."""
    unparsed: Count
    """Prompts left out because a verdict could not be read, twice."""
    refused: Count
    """Prompts left out because the judge's server refused them, for example as too long."""
    win_rate: Rate | None = None
    """Rate of the judged prompts that the adapter wins; None if no prompt was judged."""
    length_controlled: Rate | None = None
    """Win rate expected of answers of equal length; None where these lengths cannot tell."""
    sign_test_p: Share | None = None
    """p of the exact sign test on the prompts that are no ties, two-sided."""
    longer: Share | None = None
    """Share of the judged prompts whose longer answer is the adapter's."""
    mean_tokens_longer: Number | None = None
    """Mean tokens of the adapter's answers less those of the base's, on the judged prompts."""
    order_agreement: Share | None = None
    """Share of the pairs shown in both orders with the same verdict in both."""
    first_place: Share | None = None
    """Share of the verdicts other than ties that are for the first answer."""
    empty: PerModel
    """Empty answers."""
    refusals: PerModel
    """Answers that begin like a refusal, by the list of `health`."""
    cut: Count
    """Prompts of which the judge saw a shortened conversation or answer."""
    verdicts: Count
    """Verdicts that the judge gave, readable or not, two for each pair shown."""
    asked_again: Count
    """Verdicts that were asked for again, because the first reply could not be read."""
    prompt_tokens: Count | None = None
    """Tokens of the judge's prompts, as the server counts them; None if it did not count those of every request."""
    completion_tokens: Count | None = None
