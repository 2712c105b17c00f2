"""What else an adapter changed: how likely it finds good answers, how far it moved, and what its own answers are like.

Nothing is scored again: the likelihoods are those by which the pairs are ranked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from hubdpo.artefacts.formats.pair_scores import MODELS, Numbers, columns_of
from hubdpo.artefacts.manifests.answered import Answered, Said
from hubdpo.artefacts.manifests.health import (
    MOST_CHANGES,
    AnswerHealth,
    Drawing,
    Health,
    Holds,
    LanguageChange,
    Lengths,
    Likelihood,
    Speed,
)
from hubdpo.artefacts.manifests.intervals import Interval
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.language import language_of
from hubdpo.data.pairs.extras import whole
from hubdpo.evaluation.answers import Answer, Answers, Prompt
from hubdpo.evaluation.divergence import MOST_PAIRS, kl_to
from hubdpo.evaluation.models import ADAPTER, BASE, Models
from hubdpo.evaluation.refusals import list_version, refuses


def health_of(
    models: Models, rows: TokenRows, pairs: Mapping[str, Numbers], answers: Answers, compared: Sequence[Answered]
) -> Health:
    """Measure what changed beside the ranking of pairs, whose `rows` of token ids and columns of scores are given."""
    return Health(
        weights=models.weights,
        likelihood=likelihood_of(pairs),
        divergence=kl_to(BASE, models, rows[:MOST_PAIRS]),
        answers=health_of_answers(answers, compared) if compared else None,
    )


def likelihood_of(pairs: Mapping[str, Numbers]) -> Likelihood:
    """Return the mean of -log p per token of the chosen answers, from the columns of `eval_pairs.jsonl`."""
    tokens = pairs["chosen_tokens"].astype(np.int64)
    base, adapter = (-pairs[columns_of(model)[0]] / tokens for model in MODELS)
    return Likelihood(
        pairs=len(tokens), tokens=int(tokens.sum()), base=Interval.of_mean(base, tokens),
        adapter=Interval.of_mean(adapter, tokens), rise=Interval.of_mean(adapter - base, tokens),
    )  # fmt: skip


def side_by_side(answers: Answers) -> list[Answered]:
    """Return each prompt with both answers, and what can be told of them."""
    asked = {prompt.row: prompt for prompt in answers.prompts}
    return [
        Answered(
            row=base.row, prompt=list(map(whole, asked[base.row].messages)),
            tools=orjson.loads(asked[base.row].tools or "[]"), language=language_of(_last(asked[base.row])),
            base=_said(base), adapter=_said(adapter),
        )
        for base, adapter in zip(answers.of[BASE], answers.of[ADAPTER], strict=True)
    ]  # fmt: skip


def _said(answer: Answer) -> Said:
    return Said(
        text=answer.text, tokens=answer.tokens, ended=answer.ended, refuses=refuses(answer.text),
        language=language_of(answer.text),
    )  # fmt: skip


def _last(prompt: Prompt) -> str:
    """Return what the user said last, or the last message of a chat without a user."""
    said = [message["content"] for message in prompt.messages if message["role"] == "user"]
    return said[-1] if said else prompt.messages[-1]["content"]


def health_of_answers(answers: Answers, compared: Sequence[Answered]) -> AnswerHealth:
    """Compare what base and adapter answered to the same prompts, of which there is at least one."""
    base, adapter = [each.base for each in compared], [each.adapter for each in compared]
    lengths = [np.array([said.tokens for said in side]) for side in (base, adapter)]
    told = [each for each in compared if each.language and each.base.language and each.adapter.language]
    changes = Counter(
        (each.language or "", each.adapter.language or "") for each in told if each.language != each.adapter.language
    )
    return AnswerHealth(
        prompts=len(compared),
        not_asked=len(answers.prompts) - len(compared),
        drawing=Drawing(**{name: value for name, value in answers.sampling.facts().items() if name != "stops"}),
        equal=sum(each.base.text == each.adapter.text for each in compared),
        lengths=Lengths(
            base=Interval.of_mean(lengths[0]), adapter=Interval.of_mean(lengths[1]),
            base_median=float(np.median(lengths[0])), adapter_median=float(np.median(lengths[1])),
            rise=Interval.of_mean(lengths[1] - lengths[0]),
        ),
        unended=Holds.of([not said.ended for said in base], [not said.ended for said in adapter]),
        other_language=Holds.of(
            [each.base.language != each.language for each in told],
            [each.adapter.language != each.language for each in told],
        ) if told else None,
        language_changes=[
            LanguageChange(prompt=asked, answer=said, times=times)
            for (asked, said), times in changes.most_common(MOST_CHANGES)
        ],
        refusals=Holds.of([said.refuses for said in base], [said.refuses for said in adapter]),
        refusal_list=list_version(),
        speed=speed_of(answers.of[ADAPTER]),
    )  # fmt: skip


def speed_of(answers: Sequence[Answer]) -> Speed | None:
    """Return the speed of the answers that were timed, on the hardware that gave most of them; None without any."""
    timed = [(answer, answer.took) for answer in answers if answer.took is not None]
    devices = Counter(took.device for _, took in timed)
    if not devices:
        return None
    device = devices.most_common(1)[0][0]
    here = [(answer, took) for answer, took in timed if took.device == device]
    return Speed(
        tokens=sum(answer.tokens + answer.ended for answer, _ in here), seconds=sum(took.seconds for _, took in here),
        at_once=max(took.at_once for _, took in here), device=device,
    )  # fmt: skip
