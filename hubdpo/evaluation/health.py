"""What else an adapter changed: how likely it finds good answers, how far it moved, and what its own answers are like.

Nothing is scored again: the likelihoods are those by which the pairs are ranked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from hubdpo.artefacts.formats.pair_scores import MODELS, Numbers, columns_of
from hubdpo.artefacts.manifests.health import (
    MOST_CHANGES,
    AnswerHealth,
    Drawing,
    Holds,
    LanguageChange,
    Lengths,
    Likelihood,
)
from hubdpo.artefacts.manifests.intervals import Interval
from hubdpo.evaluation.answers import Answer, Prompt
from hubdpo.evaluation.language import language_of
from hubdpo.evaluation.refusals import list_version, refuses
from hubdpo.model.sampling import Sampling


def likelihood_of(pairs: Mapping[str, Numbers]) -> Likelihood:
    """Return the mean of -log p per token of the chosen answers, from the columns of `eval_pairs.jsonl`."""
    tokens = pairs["chosen_tokens"].astype(np.int64)
    base, adapter = (-pairs[columns_of(model)[0]] / tokens for model in MODELS)
    return Likelihood(
        pairs=len(tokens), tokens=int(tokens.sum()), base=Interval.of_mean(base, tokens),
        adapter=Interval.of_mean(adapter, tokens), rise=Interval.of_mean(adapter - base, tokens),
    )  # fmt: skip


def health_of_answers(
    prompts: Sequence[Prompt], base: Sequence[Answer], adapter: Sequence[Answer], sampling: Sampling
) -> AnswerHealth | None:
    """Compare what base and adapter answered to the same prompts; None where no prompt was answered."""
    if not base:
        return None
    asked = {prompt.row: prompt for prompt in prompts}
    both = list(zip(base, adapter, strict=True))
    lengths = [np.array([answer.tokens for answer in answers]) for answers in (base, adapter)]
    languages = [
        told
        for ours, theirs in both
        if (told := _languages(_last(asked[ours.row]), ours.text, theirs.text)) is not None
    ]
    changes = Counter((said, after) for said, _, after in languages if after != said)
    return AnswerHealth(
        prompts=len(base),
        not_asked=len(prompts) - len(base),
        drawing=Drawing(**{name: value for name, value in sampling.facts().items() if name != "stops"}),
        equal=sum(ours.text == theirs.text for ours, theirs in both),
        lengths=Lengths(
            base=Interval.of_mean(lengths[0]), adapter=Interval.of_mean(lengths[1]),
            base_median=float(np.median(lengths[0])), adapter_median=float(np.median(lengths[1])),
            rise=Interval.of_mean(lengths[1] - lengths[0]),
        ),
        unended=Holds.of([not answer.ended for answer in base], [not answer.ended for answer in adapter]),
        other_language=Holds.of(
            [before != said for said, before, _ in languages], [after != said for said, _, after in languages]
        ) if languages else None,
        language_changes=[
            LanguageChange(prompt=said, answer=after, times=times)
            for (said, after), times in changes.most_common(MOST_CHANGES)
        ],
        refusals=Holds.of([refuses(answer.text) for answer in base], [refuses(answer.text) for answer in adapter]),
        refusal_list=list_version(),
    )  # fmt: skip


def _languages(prompt: str, base: str, adapter: str) -> tuple[str, str, str] | None:
    """Return the languages of a prompt and its answers, None unless all of them can be told."""
    said = language_of(prompt)
    before, after = (language_of(text) if said else None for text in (base, adapter))
    return (said, before, after) if said and before and after else None


def _last(prompt: Prompt) -> str:
    """Return what the user said last, or the last message of a chat without a user."""
    said = [message["content"] for message in prompt.messages if message["role"] == "user"]
    return said[-1] if said else prompt.messages[-1]["content"]
